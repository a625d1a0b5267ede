"""
Secrets that servers echo are redacted in every encoding and at every place.
"""

import base64
import html
import json
import pickle
import quopri
import random

from urllib.parse import quote, quote_plus

import pytest

from bankconnect_async._codec.error_responses import error_from_response
from bankconnect_async._redaction import Redactor


KEY = 'canary+Key/5c=1f&9d<e7"x2b'
HASH = "canary-hash-7e20b4"


def every(template: str) -> str:
    """Write each byte of the key after *template*."""
    return "".join(template.format(byte) for byte in KEY.encode())


#: What a server may make of the key.
ECHOES = {
    "raw": KEY,
    "lower-case": KEY.lower(),
    "percent": quote(KEY, safe=""),
    "percent-lower": quote(KEY, safe="").replace("%2B", "%2b"),
    "percent-all": every("%{:02x}"),
    "form": quote_plus(KEY),
    "form-read-as-text": KEY.replace("+", " "),
    "percent-twice": quote(quote(KEY, safe=""), safe=""),
    "percent-thrice": quote(quote(quote(KEY, safe=""), safe=""), safe=""),
    "iis": every("%u{:04X}"),
    "json": json.dumps(KEY)[1:-1].replace("/", "\\/"),
    "json-in-json": json.dumps(json.dumps(KEY))[3:-3],
    "json-u": every("\\u{:04x}"),
    "json-U": every("\\u{:04X}"),
    "json-percent": quote(json.dumps(KEY)[1:-1], safe=""),
    "javascript": every("\\x{:02x}"),
    "html": html.escape(KEY),
    "html-twice": html.escape(html.escape(KEY)),
    "html-decimal": every("&#{};"),
    "html-hex": every("&#x{:X};"),
    "html-open": every("&#{:05}"),
    "html-named": html.escape(KEY)
    .replace("+", "&plus;")
    .replace("/", "&sol;")
    .replace("=", "&equals;"),
    "quoted-printable": quopri.encodestring(KEY.encode()).decode(),
    "quoted-printable-all": every("={:02X}"),
    "hex": KEY.encode().hex(),
    "hex-spaced": KEY.encode().hex(" ").upper(),
    "utf-16": KEY.encode("utf-16-le").decode("latin-1"),
    **{
        f"base64-{shift}": base64.b64encode(
            b"u:?"[:shift] + KEY.encode() + b"zz"
        ).decode()
        for shift in range(3)
    },
    **{
        f"base64url-{shift}": base64.urlsafe_b64encode(
            b"u:?"[:shift] + KEY.encode()
        ).decode()
        for shift in range(3)
    },
    "base64-wrapped": base64.encodebytes(b"\0" * 40 + KEY.encode()).decode(),
    "base64-percent": quote(base64.b64encode(KEY.encode()), safe=""),
    "base64-twice": base64.b64encode(base64.b64encode(KEY.encode())).decode(),
    "percent-in-base64": base64.b64encode(quote_plus(KEY).encode()).decode(),
}


def remains(echo: str, shown: str) -> str | None:
    """Return a recognisable piece of *echo* that is still shown, or None."""
    return next(
        (
            piece
            for start in range(len(echo) - 8)
            if (piece := echo[start : start + 9]) in shown
            and len(set(piece)) > 2  # more than the filling
        ),
        None,
    )


def shown_by(error) -> str:
    """Return everything that an error shows, also after pickling."""
    again = pickle.loads(pickle.dumps(error))
    texts = [
        each if isinstance(each, str) else json.dumps(each)
        for error in (error, again)
        for each in (str(error), repr(error), error.fields, error.code)
        if each is not None
    ]
    body = error.body.decode("latin-1")
    return "\n".join([*texts, json.dumps(error.headers), body])


class TestRefusal:
    """
    Errors of responses that echo a secret.
    """

    @pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
    @pytest.mark.parametrize(
        "around",
        [
            "api_key={}&link_id=c",
            "<p>You sent {} to us</p>",
            "x={}",
            "Bad key \\{}",
            "{}",
        ],
    )
    def test_keeps_nothing_of_the_key(self, echo, around):
        """
        In no encoding does a message, header or body show the key.
        """
        raw = around.replace("{}", echo).encode("latin-1")

        error = error_from_response(
            400,
            raw,
            headers={"X-Echo": raw.decode("latin-1")},
            secrets=[KEY, HASH],
        )

        assert remains(echo, shown_by(error)) is None

    @pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
    def test_strikes_out_before_it_cuts(self, echo):
        """
        Wherever the text is cut, no part of the key is left.
        """
        rest = f"{echo} and more"
        for length in (*range(90 - len(echo) % 7, 125), *range(470, 505, 3)):
            texts = [
                f"{'p' * length}{rest}",
                json.dumps({"message": f"{'p' * length}{rest}"}),
                json.dumps({f"{'p' * (length % 64)}{rest}": ["wrong"]}),
                json.dumps({"link_id": [f"{'p' * length}{rest}"]}),
            ]
            for text in texts:
                error = error_from_response(
                    400, text.encode("latin-1"), secrets=[KEY]
                )

                shown = f"{error} {error!r} {error.fields}"
                assert remains(echo, shown) is None
                assert remains(echo, error.body.decode("latin-1")) is None

    def test_strikes_out_what_a_server_cut(self):
        """
        Half a key is redacted, too, if the server cut it.
        """
        for length in range(len(KEY) // 2, len(KEY)):
            for part in (KEY[:length], KEY[-length:]):
                error = error_from_response(
                    400, f"bad key:{part}".encode(), secrets=[KEY]
                )

                assert str(error) == "the server answered 400: bad key:***"

    @pytest.mark.parametrize(
        "secret", ["\\" * 4, "%00%00", "%20%20", "%41%42"]
    )
    def test_a_secret_that_reads_as_escapes(self, secret):
        """
        A secret that is nearly empty once it is unescaped is redacted.
        """
        raw = json.dumps({"message": f"a  bAB {secret}"}).encode()
        error = error_from_response(400, raw, secrets=[secret])

        assert str(error).startswith("the server answered 400: a bAB ***")
        assert secret not in str(error)

    def test_a_letter_that_grows_in_lower_case(self):
        """
        A Turkish capital, which grows in lower case, hides no secret.
        """
        text = "\u0130 ApiKey-ABCDEF123456 \u0130"

        assert Redactor(["ApiKey-ABCDEF123456"]).redact(text) == (
            "\u0130 *** \u0130"
        )

    def test_many_echoes_behind_escapes(self):
        """
        Each of many echoes after escapes is found.
        """
        text = f"%41%42{KEY}" * 500

        assert Redactor([KEY]).redact(text) == "%41%42***" * 500

    def test_many_urls_without_a_tail(self):
        """
        A text full of URL beginnings is kept.
        """
        text = "x://" * 9
        error = error_from_response(400, json.dumps({"detail": text}).encode())

        assert str(error) == f"the server answered 400: {text}"

    def test_strikes_out_names(self):
        """
        A key that is the name of a field is redacted.
        """
        raw = json.dumps({KEY: ["unknown parameter"], "ok": ["fine"]})

        error = error_from_response(400, raw.encode(), secrets=[KEY])

        assert error.fields == {
            "***": ("unknown parameter",),
            "ok": ("fine",),
        }

    def test_knows_an_error_whose_words_are_a_secret(self):
        """
        A password that is a word of the vendor's message hides only itself.
        """
        raw = b'{"error": {"code": "PASSWORD_INCORRECT", "message": "a pdf"}}'

        error = error_from_response(400, raw, secrets=["password", "pdf"])

        assert type(error).__name__ == "PasswordIncorrectError"
        assert error.code == "PASSWORD_INCORRECT"
        assert "a pdf" in str(error)

    def test_leaves_everything_else_alone(self):
        """
        A text without a secret is unchanged, whatever its escapes.
        """
        rng = random.Random(20)
        pieces = ["%41", "&lt;", "\\u0041", "=3D", "canary", "\r\n", "+", "ж"]
        for _ in range(200):
            text = "".join(rng.choices(pieces, k=30))

            error = error_from_response(
                400, text.encode(), secrets=[KEY, HASH]
            )

            assert error.body == text.encode()

    @pytest.mark.parametrize(
        "name", ["\nERROR forged", "a\x1b[2Jb", "x" * 9000, "\u202egnp.exe"]
    )
    def test_washes_and_bounds_names(self, name):
        """
        The name of a foreign field becomes one short printable line.
        """
        raw = json.dumps({name: ["wrong"], "blank": " "}).encode()

        error = error_from_response(400, raw)

        (washed,) = error.fields
        assert washed.isprintable()
        assert len(washed) <= 60
        assert str(error).isprintable()

    def test_bounds_how_much_a_server_says(self):
        """
        Of ten thousand fields with as many texts, twenty of each are kept.
        """
        raw = json.dumps({f"f{n}": ["x" * 40] * 90 for n in range(900)})

        error = error_from_response(400, raw.encode())

        assert len(error.fields) == 20
        assert {len(texts) for texts in error.fields.values()} == {20}

    def test_takes_no_id_that_is_none(self):
        """
        An id with control characters or excessive length is left out.
        """
        raw = json.dumps(
            {
                "error": {"code": "X"},
                "session_id": "a\x9b2J",
                "entity_id": "e" * 9000,
                "statement_id": "43c243ee",
            }
        ).encode()

        error = error_from_response(400, raw)

        assert (error.session_id, error.entity_id) == (None, None)
        assert error.statement_id == "43c243ee"

    @pytest.mark.parametrize(
        "url",
        [
            "https:\\/\\/x.example\\/s?session_id=TOKEN",
            "https%3A%2F%2Fx.example%2Fs%3Fsession_id%3DTOKEN",
            "https://x.example/s#TOKEN",
        ],
    )
    def test_shows_no_link_in_any_encoding(self, url):
        """
        The query of a link, which may open a journey, is cut off.
        """
        error = error_from_response(400, f"<p>see {url} for more</p>".encode())

        assert "TOKEN" not in str(error)
        assert "x.example" in str(error)
