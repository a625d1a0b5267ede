"""
In every decoder, any bytes decode to a typed value or to a clear error.
"""

import json
import os
import random
import secrets

from decimal import Decimal

import attrs
import orjson
import pytest

from bankconnect_async import (
    BankConnectError,
    Channel,
    DecodeError,
    ErrorEvent,
    ExitEvent,
    SuccessEvent,
    decode_event,
    decode_redirect,
    decode_webhook,
)
from bankconnect_async import (
    models as answers,
)
from bankconnect_async._codec import responses
from bankconnect_async._codec.error_responses import (
    decode_error_body,
    error_from_response,
)
from bankconnect_async._codec.event_keys import event_key
from bankconnect_async._codec.session_requests import decode_session


SEED = "DECODING_SEED"
BOM = b"\xef\xbb\xbf"
#: What stands in for any part of a sample; texts of JSON.
HOSTILE = [
    *("null", "true", "-0", "0.0", "[]", "{}", '""', '" "', "1e400"),
    *('"\\ud800"', '"\\u0000"', '"\\u202e\\u009b2J"', "NaN", "-Infinity"),
    *("123456789012345678901234567890", "9" * 5000, "1e-999999999"),
    *("[" * 300 + "]" * 300, '{"a":' * 1100 + "1" + "}" * 1100),
    *("1E+999999999999999999999", "[" * 100_000, '"' + "x" * 70_000 + '"'),
    *("01/13/2026", '"31/02/2026"', '"2026-02-30 25:61:61"', "[[null]]"),
    *('"1e5"', '"-"', '{"a": {"a": []}}', "12.345", '"0001-01-01"'),
]
ANSWERS = [
    cls
    for cls in (getattr(answers, name) for name in answers.__all__)
    if isinstance(cls, type)
    and attrs.has(cls)
    and "raw" in attrs.fields_dict(cls)
]


@pytest.fixture(name="seed")
def _seed() -> int:
    """
    Return the seed of all randomness in a test; it is printed for
    reproduction.
    """
    seed = int(os.environ.get(SEED) or secrets.randbits(32))
    print(f"{SEED}={seed}")
    return seed


def spoil(rng: random.Random, document: object) -> bytes:
    """Put a hostile value somewhere into a document."""
    raw = json.dumps(document).encode()
    marks = [at for at, byte in enumerate(raw) if byte in b":,["]
    if marks and rng.random() < 0.9:
        start = rng.choice(marks) + 1
        end = start
        # To the end of the value, more or less: broken JSON is welcome.
        while end < len(raw) and raw[end] not in b",]}":
            end += 1
        spoilt = raw[:start] + rng.choice(HOSTILE).encode() + raw[end:]
    else:
        spoilt = rng.choice(HOSTILE).encode()
    match rng.randrange(12):
        case 0:
            return BOM + spoilt
        case 1:
            return spoilt[: rng.randrange(len(spoilt) + 1)]
        case 2:
            return json.dumps(spoilt.decode()).encode()
        case _:
            return spoilt


def decoders(rng: random.Random, raw: bytes):
    """Return a call of each kind of decoder."""
    channel = rng.choice([None, *Channel])
    message = rng.choice([raw, bytearray(raw), memoryview(raw), raw.decode()])
    return [
        lambda: decode_event(message, channel=channel),
        lambda: event_key(decode_webhook(message)),
        lambda: decode_error_body(raw),
        lambda: error_from_response(
            rng.choice([400, 403, 404, 500]), raw, secrets=["se"]
        ),
        lambda: decode_session(raw),
        lambda: responses.decode(rng.choice(ANSWERS), raw),
        lambda: responses.decode_rows(rng.choice(ANSWERS), raw),
        lambda: responses.decode_document(raw),
        lambda: decode_redirect(f"https://lender.example/?{raw[:90]!r}"),
    ]


class TestDecoders:
    """
    All decoders with undocumented input.
    """

    def test_survive_anything(self, seed, fixture_names, sample_json):
        """
        Undecodable input is an error of ours, on one printable line.
        """
        rng = random.Random(seed)
        names = sorted(name for name in fixture_names if ".json" in name)
        documents = [sample_json(name) for name in names]
        failed = 0
        for _ in range(400):
            raw = spoil(rng, rng.choice(documents))
            for decode in decoders(rng, raw):
                try:
                    found = decode()
                except BankConnectError as error:
                    failed += 1
                    assert str(error).isprintable()
                    assert len(str(error)) < 9000
                else:
                    assert repr(found)
        assert failed

    @pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
    def test_take_every_kind_of_bytes(self, wrap):
        """
        A buffer is accepted like bytes, and a byte order mark is ignored.
        """
        raw = b'{"type":"finbox-bankconnect","status":"exit","payload":{}}'

        assert decode_event(wrap(BOM + raw)) == ExitEvent(is_failure=False)
        assert decode_webhook(wrap(BOM + b'{"progress": "completed"}'))

    def test_take_a_mark_before_a_text(self):
        """
        A byte order mark as a character is ignored, too.
        """
        assert decode_webhook('\ufeff{"progress": "x"}').progress == "x"

    def test_take_marked_answers(self):
        """
        JSON with a byte order mark is accepted in 2xx and error responses.
        """
        session = b'{"redirect_url": "https://x.example/?session_id=1"}'

        made = decode_session(BOM + session)
        entity = responses.decode(answers.Entity, BOM + b'{"entity_id": "e"}')
        error = error_from_response(400, BOM + b'{"link_id": ["is bad"]}')

        assert made.redirect_url == "https://x.example/?session_id=1"
        assert entity.entity_id == "e"
        assert error.fields == {"link_id": ("is bad",)}

    def test_refuse_many_marks(self):
        """
        A million byte order marks are no JSON, and cause no recursion.
        """
        for decode in (
            decode_session,
            decode_event,
            decode_webhook,
            lambda raw: responses.decode(answers.Entity, raw),
        ):
            with pytest.raises(DecodeError, match="not JSON"):
                decode(BOM * 100_000 + b"{}")

    def test_take_json_within_json(self):
        """
        A message or a payload that was encoded as JSON twice is decoded twice.
        """
        payload = {"linkId": "c", "reason": "r", "error_type": "MU003"}
        message = {
            "type": "finbox-bankconnect",
            "status": "error",
            "payload": payload,
        }
        inner = {**message, "payload": json.dumps(payload)}
        expected = ErrorEvent(link_id="c", reason="r", error_type="MU003")

        for each in (
            json.dumps(json.dumps(message)),
            json.dumps(inner),
            json.dumps(json.dumps(inner)),
        ):
            assert decode_event(each) == expected
            assert decode_event(each.encode()) == expected

    @pytest.mark.parametrize("payload", ["", "c", "[]", '"c"', "{"])
    def test_refuse_a_payload_that_is_no_object(self, payload):
        """
        The error names the path of a text that is no object.
        """
        message = {
            "type": "finbox-bankconnect",
            "status": "error",
            "payload": payload,
        }

        with pytest.raises(DecodeError, match=r"@ \$\.payload"):
            decode_event(message)

    def test_take_ids_that_are_numbers(self):
        """
        An id that is a number is read as its text.
        """
        event = decode_event(
            {
                "type": "finbox-bankconnect",
                "status": "success",
                "payload": {"entityId": 7, "sessionId": 8, "linkId": 42},
            }
        )
        webhook = decode_webhook(
            b'{"progress": "completed", "entity_id": 7, "link_id": 42}'
        )

        assert event == SuccessEvent(
            entity_id="7", session_id="8", link_id="42"
        )
        assert (webhook.entity_id, webhook.link_id) == ("7", "42")

    @pytest.mark.parametrize("session_id", ["0.0", "[]", "false", "{}", "0"])
    def test_use_no_session_id_that_is_no_text(self, session_id):
        """
        A malformed session id is ignored, and the one in the URL is used.
        """
        url = "https://x.example/?session_id=1"
        raw = f'{{"redirect_url": "{url}", "session_id": {session_id}}}'

        made = decode_session(raw.encode())

        assert made.session_id == "1"
        assert repr(made)

    def test_refuse_ids_without_end(self):
        """
        A number too long for Python to write is a clear error.
        """
        with pytest.raises(DecodeError, match=r"too large @ \$.link_id"):
            decode_webhook({"progress": "x", "link_id": 10**5000})

    def test_read_numbers_of_any_size(self):
        """
        A count or an amount of thousands of digits is decoded.
        """
        found = responses.decode(
            answers.Transaction, b'{"amount": 1%b}' % (b"0" * 4000)
        )

        assert found.amount == Decimal(10) ** 4000


def test_every_sample_is_as_good_with_a_mark(
    fixture_names, sample, sample_json
):
    """
    Messages and webhooks of every version decode alike with and without a byte
    order mark.
    """
    for name in sorted(fixture_names):
        decode = {
            "event.iframe": decode_event,
            "webhook.session": (decode_webhook),
            "webhook.entity": decode_webhook,
        }.get(".".join(name.split(".")[:2]))
        if decode is None or ".sequence." in name:
            continue
        marked = decode(BOM + sample(name))

        assert marked == decode(sample(name))
        assert orjson.dumps(marked.raw) == orjson.dumps(sample_json(name))
