"""
Redirect URLs are built, signed, verified and read.
"""

import copy
import datetime
import pickle
import string

from pathlib import Path
from urllib.parse import quote

import attrs
import pytest

from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from bankconnect_async._codec.redirects import build_redirect, decode_redirect
from bankconnect_async._codec.return_urls import ReturnURL
from bankconnect_async.environment import resolve_texts
from bankconnect_async.errors import (
    BankConnectError,
    ConfigurationError,
    DecodeError,
    InvalidCallbackError,
    InvalidRequestError,
)
from bankconnect_async.models.events import (
    ErrorEvent,
    ExitEvent,
    InfoEvent,
    SuccessEvent,
    UnknownEvent,
)


FIXTURES = Path(__file__).parent / "fixtures"
BASE = "https://lender.example/return"
ENTITY = "f5057fee-4c3e-4459-82dd-21250b729601"
SESSION = "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"
SECRET = "correct horse battery staple twice over"
OLD_SECRET = "an older secret of more than 32 bytes!!"

EXPECTED = {
    "exit": ExitEvent(),
    "success.appended_to_query": SuccessEvent(entity_id=ENTITY),
    "success.entity": SuccessEvent(entity_id=ENTITY),
    "success.seed": SuccessEvent(entity_id=ENTITY),
    "success.session": SuccessEvent(session_id=SESSION),
    "success.session_in_entity_key": SuccessEvent(entity_id=SESSION),
}

ids = st.text(min_size=1, max_size=30).filter(str.strip)
own_urls = st.sampled_from(
    [
        BASE,
        f"{BASE}?",
        f"{BASE}?nonce=1",
        f"{BASE}?success=true&entity_id=own",
        f"{BASE}?session_id=own#part",
        f"{BASE}#part?success=false",
    ]
)


@attrs.define
class Clock:
    """
    A clock that the test sets.
    """

    seconds: float = 1_800_000_000.0

    def __call__(self) -> float:
        """
        Return the time.
        """
        return self.seconds


def attempt(url):
    """
    Return the problems of *url*, or its parameters.
    """
    try:
        return decode_redirect(url).raw
    except DecodeError as error:
        return error.problems


def make(**kwargs):
    """
    Return a valid `ReturnURL`, except for *kwargs*.
    """
    return ReturnURL(**{"base": BASE, "secret": SECRET} | kwargs)


def fits(ours, link_id):
    """
    Return whether a return URL has room for *link_id*.
    """
    try:
        ours.build(link_id)
    except InvalidRequestError:
        return False
    return True


class TestDecodeRedirect:
    """
    `decode_redirect` returns an event or raises a `DecodeError`.
    """

    @pytest.mark.parametrize("sample", EXPECTED)
    @pytest.mark.parametrize("prefix", ["", "/return?", f"{BASE}?"])
    def test_sample(self, sample, prefix):
        """
        Each documented return decodes, as URL, as path and as query.
        """
        text = (FIXTURES / f"redirect.{sample}.txt").read_text().strip()
        url = text if "//" in text else prefix + text

        assert decode_redirect(url) == EXPECTED[sample]

    def test_no_sample_forgotten(self):
        """
        The table has every fixture of a redirect.
        """
        samples = {
            path.name.removeprefix("redirect.").removesuffix(".txt")
            for path in FIXTURES.glob("redirect.*")
        }

        assert samples == EXPECTED.keys()

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("?success=TRUE&entity_id=e", SuccessEvent(entity_id="e")),
            ("?success=False", ExitEvent()),
            ("?success=false&entity_id=e", ExitEvent()),
            ("?a=1?success=true&session_id=s", SuccessEvent(session_id="s")),
            ("?a=1&success=true&session_id=s", SuccessEvent(session_id="s")),
            ("?success=true&entity_id=e?success=false", ExitEvent()),
            (
                "?success=false&success=true&entity_id=e",
                SuccessEvent(entity_id="e"),
            ),
            (
                "?success=true&entity_id=a&entity_id=b",
                SuccessEvent(entity_id="b"),
            ),
            (
                "?session_id=own?success=true&entity_id=e",
                SuccessEvent(entity_id="e"),
            ),
            ("?entity_id=e&success=true", SuccessEvent(entity_id="e")),
            (
                "?success=true&entity_id=e&session_id=s",
                SuccessEvent(entity_id="e", session_id="s"),
            ),
            (
                "?%73uccess=%74rue&entity_id=a%2Fb%26",
                SuccessEvent(entity_id="a/b&"),
            ),
            ("?success=true&entity_id=a+b%2B", SuccessEvent(entity_id="a b+")),
            ("?success=true&entity_id=e#part", SuccessEvent(entity_id="e")),
            ("#part?success=true&entity_id=e", SuccessEvent(entity_id="e")),
            (
                "?success=true&entity_id=e#a?success=false",
                SuccessEvent(entity_id="e"),
            ),
            ("?&&success=false&=&", ExitEvent()),
            (
                "?success=true&entity_id=&session_id=s",
                SuccessEvent(session_id="s"),
            ),
        ],
    )
    def test_quirks(self, query, expected):
        """
        The outcome is found, however a server or proxy rewrites the query.
        """
        assert decode_redirect(BASE + query) == expected
        assert decode_redirect(URL(BASE + query, encoded=True)) == expected

    @pytest.mark.parametrize(
        "url",
        [
            "",
            BASE,
            f"{BASE}?",
            f"{BASE}/success=true",
            f"{BASE}?success",
            f"{BASE}?success=",
            f"{BASE}?success=yes",
            f"{BASE}?success=true",
            f"{BASE}?success=true&entity_id=%20",
            f"{BASE}?success=true&entity_id=%ff",
            f"{BASE}?success=true&entity_id=\ud800",
            f"{BASE}?succes=true&entity_id=e",
        ],
    )
    def test_no_outcome(self, url):
        """
        A return without a usable outcome is a `DecodeError`.
        """
        with pytest.raises(DecodeError, match=r"@ \$\.query"):
            decode_redirect(url)

    def test_raw(self):
        """
        Every parameter is kept.
        """
        event = decode_redirect(f"{BASE}?x=1?success=false&why=none")

        assert event.raw == {"x": "1", "success": "false", "why": "none"}

    @settings(print_blob=True, deadline=None)
    @given(text=st.text() | st.text("?&=#%suceflatriny_d+"))
    def test_any_text(self, text):
        """
        Any text gives an event or a `DecodeError`.
        """
        assert attempt(f"?success={text}")

    @pytest.mark.long
    @pytest.mark.parametrize("junk", ["?", "&", "=", "%", "%ff", "a=b&"])
    def test_a_megabyte(self, junk):
        """
        A megabyte of junk is refused as quickly as a byte.
        """
        with pytest.raises(DecodeError):
            decode_redirect("?" + junk * (2**20 // len(junk)))


class TestBuildRedirect:
    """
    `build_redirect` writes what `decode_redirect` reads.
    """

    @pytest.mark.parametrize("sample", sorted(EXPECTED))
    def test_sample(self, sample):
        """
        The query equals the documented bytes.
        """
        text = (FIXTURES / f"redirect.{sample}.txt").read_text().strip()

        url = build_redirect(BASE, EXPECTED[sample])

        assert url.raw_query_string == text.rpartition("?")[2]

    @settings(print_blob=True, deadline=None)
    @given(
        url=own_urls,
        event=st.just(ExitEvent())
        | st.builds(SuccessEvent, entity_id=ids, session_id=st.none() | ids)
        | st.builds(SuccessEvent, session_id=ids),
    )
    def test_round_trip(self, url, event):
        """
        Any event that a redirect can carry decodes to the same event, whatever
        the base URL.
        """
        assert decode_redirect(build_redirect(url, event)) == event

    def test_fragment(self):
        """
        The parameters precede a fragment, so that the server receives them.
        """
        url = build_redirect(f"{BASE}?a=%2F#b", ExitEvent())

        assert str(url) == f"{BASE}?a=%2F&success=false#b"

    @pytest.mark.parametrize(
        "event",
        [
            SuccessEvent(),
            SuccessEvent(entity_id="e", link_id="customer"),
            ExitEvent(reason="bye"),
            ExitEvent(is_failure=False),
            ErrorEvent(error_type="MU003"),
            InfoEvent(event_name="manual"),
            UnknownEvent(status="x"),
            SuccessEvent(entity_id="\ud800"),
        ],
    )
    def test_refused(self, event):
        """
        An event that would not decode again is refused.
        """
        with pytest.raises(InvalidRequestError) as caught:
            build_redirect(BASE, event)

        assert "event" in caught.value.fields


class TestReturnURL:
    """
    A `ReturnURL` proves for which link id a session was created.
    """

    @settings(print_blob=True, deadline=None)
    @given(link_id=st.text(min_size=1, max_size=20).filter(str.strip))
    def test_round_trip(self, link_id):
        """
        The signed link id is decoded together with the outcome.
        """
        returns = make()
        came_back = build_redirect(
            returns.build(link_id), SuccessEvent(entity_id="e")
        )

        assert returns.decode(came_back) == SuccessEvent(
            link_id=link_id, entity_id="e"
        )

    @pytest.mark.parametrize("base", [BASE, f"{BASE}/", "https://a.example"])
    def test_shape(self, base):
        """
        The URL is the base and one segment that no proxy rewrites.
        """
        url = make(base=base).build("customer-42")

        state = str(url).removeprefix(base.rstrip("/") + "/")
        assert quote(state, safe="") == state
        assert url.parent == URL(base.rstrip("/") or base)
        assert make(base=base).decode(f"{url}?success=false")

    def test_second_question_mark(self):
        """
        Parameters that were appended with a second question mark are read.
        """
        url = make().build("c")

        event = make().decode(f"{url}?lang=en?success=false")

        assert event == ExitEvent(link_id="c")

    def test_behind_a_proxy(self):
        """
        Path and query are enough, whatever host the proxy asked for.
        """
        url = make().build("c").with_query("success=false")

        assert make().decode(url.relative()) == ExitEvent(link_id="c")
        assert make().decode(str(url.relative())) == ExitEvent(link_id="c")

    @pytest.mark.parametrize(
        "change",
        [
            lambda url: url.replace("https:", "http:"),
            lambda url: url.replace("lender", "attacker"),
            lambda url: url.replace("lender.example", "lender.example:8443"),
            lambda url: url.replace("https:", ""),
            lambda url: url.replace("https://", "https:/"),
            lambda url: url.replace("/return/", "/elsewhere/"),
            lambda url: url.replace("/return/", "/x/return/"),
            lambda url: url.replace("/return/", "/return/x/"),
            lambda url: url.replace("?", "/more?"),
            lambda url: url.replace("https://", "https://["),
            lambda url: url.replace("https://", "https://user@"),
            lambda url: url.replace("https://", "//[]@"),
            lambda url: "\t" + url,
            lambda url: "",
        ],
    )
    def test_foreign(self, change):
        """
        A URL with another scheme, host, port or path is refused.
        """
        url = f"{make().build('c')}?success=false"

        with pytest.raises(InvalidCallbackError) as caught:
            make().decode(change(url))

        assert not caught.value.expired

    def test_default_port(self):
        """
        Default ports and case make no difference.
        """
        url = f"{make().build('c')}?success=false"

        event = make().decode(
            url.replace("lender.example", "LENDER.example:443")
        )

        assert event == ExitEvent(link_id="c")

    def test_every_character_counts(self):
        """
        A state with any one character changed, removed or added is refused.
        """
        state = make().build("customer-42").name
        forged = {
            state[:at] + change + state[at + 1 :]
            for at in range(len(state))
            for change in ("", "A", "B", "-", ".", "!", "=", state[at] + "A")
        } - {state}

        for each in forged:
            with pytest.raises(InvalidCallbackError):
                make().decode(f"/return/{each}?success=false")
        assert len(forged) > len(state)

    @pytest.mark.parametrize("last", string.ascii_letters + string.digits)
    def test_last_character(self, last):
        """
        The spare bits of base64 are part of the signature.
        """
        state = make(now=Clock()).build("customer-42").name
        outcome = f"/return/{state[:-1]}{last}?success=false"

        if last == state[-1]:
            assert make(now=Clock()).decode(outcome)
        else:
            with pytest.raises(InvalidCallbackError):
                make(now=Clock()).decode(outcome)

    def test_reference(self):
        """
        A reference is part of what is signed; it is left out where the URL
        has no room for it.
        """
        ours = make()
        url = ours.build("customer-42", reference="0123abcd")
        path = url.raw_path
        event, reference = ours.decode_journey(f"{path}?success=false")
        others = [
            path.replace("0123abcd", "0123abce"),
            path.replace("0123abcd/", ""),
            path.replace("0123abcd", "0123ABCD"),
            path.replace("/0123abcd", "/0123abcd/0123abcd"),
        ]

        assert (event.link_id, reference) == ("customer-42", "0123abcd")
        assert ours.decode(f"{url}?success=false") == event
        for other in others:
            with pytest.raises(InvalidCallbackError):
                ours.decode(f"{other}?success=false")
        longest = next(
            link_id
            for length in range(200, 0, -1)
            if fits(ours, link_id := "x" * length)
        )
        tight = ours.build(longest, reference="0123abcd").raw_path
        event, reference = ours.decode_journey(f"{tight}?success=false")
        assert (event.link_id, reference) == (longest, None)

    def test_swapped(self):
        """
        A link id with the signature of another state is refused.
        """
        mine, theirs = make().build("me").name, make().build("them").name
        swapped = ".".join([*theirs.split(".")[:1], *mine.split(".")[1:]])

        with pytest.raises(InvalidCallbackError):
            make().decode(f"/return/{swapped}?success=false")

    def test_bound_to_its_page(self):
        """
        A state for one page is refused on another page with the same secret.
        """
        state = make(base="https://lender.example/loans").build("c").name

        with pytest.raises(InvalidCallbackError):
            make().decode(f"/return/{state}?success=false")

    def test_expiry(self):
        """
        A state is valid to the exact second, and the error says that it
        expired.
        """
        clock = Clock()
        returns = make(max_age=datetime.timedelta(hours=1), now=clock)
        url = f"{returns.build('c')}?success=false"

        clock.seconds += 3600
        assert returns.decode(url) == ExitEvent(link_id="c")
        clock.seconds += 1
        with pytest.raises(InvalidCallbackError) as caught:
            returns.decode(url)
        assert caught.value.expired

    def test_clock_behind(self):
        """
        A host whose clock is behind accepts a state that another has just
        signed.
        """
        clock = Clock()
        returns = make(now=clock)
        url = f"{returns.build('c')}?success=false"

        for _ in range(2):
            clock.seconds -= 30
            assert returns.decode(url) == ExitEvent(link_id="c")

    @pytest.mark.parametrize("ahead", [61, 3600, 100 * 365 * 86400])
    def test_from_the_future(self, ahead):
        """
        A state from too far in the future is refused.
        """
        clock = Clock()
        returns = make(now=clock)
        clock.seconds += ahead
        url = f"{returns.build('c')}?success=false"
        clock.seconds -= ahead

        with pytest.raises(InvalidCallbackError, match="future") as caught:
            returns.decode(url)
        assert not caught.value.expired

    @pytest.mark.parametrize("secret", [f"{SECRET},{SECRET}", f" {SECRET}\n"])
    def test_any_secret(self, secret):
        """
        A secret is taken byte for byte, whatever is in it.
        """
        path = make(secret=secret.encode()).build("customer-42").path

        assert (
            make(secret=secret)
            .decode(f"{path}?success=true&entity_id=e")
            .link_id
        )

    def test_keys_of_the_environment(self):
        """
        The variable holds several keys, separated by commas.
        """
        settings = {
            "redirect_url": BASE,
            "signing_key": f"{SECRET},{OLD_SECRET}",
        }
        resolve_texts(settings, None)
        path = make(secret=OLD_SECRET).build("customer-42").path

        decoded = settings["redirect_url"].decode(
            f"{path}?success=true&entity_id=e"
        )
        assert decoded.link_id == "customer-42"

    def test_rotation(self):
        """
        The first secret signs, and the others still verify.
        """
        before = make(secret=OLD_SECRET)
        during = make(secret=[SECRET, OLD_SECRET.encode()])
        after = make(secret=SECRET)
        old = f"{before.build('c')}?success=false"
        new = f"{during.build('c')}?success=false"

        assert during.decode(old) == ExitEvent(link_id="c")
        assert after.decode(new) == ExitEvent(link_id="c")
        with pytest.raises(InvalidCallbackError):
            after.decode(old)
        with pytest.raises(InvalidCallbackError):
            before.decode(new)

    def test_no_outcome(self):
        """
        A valid state without an outcome is a `DecodeError`, no forgery.
        """
        with pytest.raises(DecodeError):
            make().decode(make().build("c"))

    def test_length(self):
        """
        The longest link id gives at most 200 characters; a longer one is
        refused with advice.
        """
        fitting = 0
        for length in range(1, 120):
            try:
                url = make().build("x" * length)
            except InvalidRequestError as error:
                (problem,) = error.fields["redirect_url"]
                break
            fitting, longest = length, len(str(url))

        assert fitting == 89
        assert longest <= 200
        assert problem.startswith("has 201 characters, at most 200 are taken")
        assert "link_id (90 characters" in problem

    @pytest.mark.parametrize("link_id", ["", "  ", None, 7, "\ud800"])
    def test_bad_link_id(self, link_id):
        """
        A link id that is no text is refused.
        """
        with pytest.raises(InvalidRequestError) as caught:
            make().build(link_id)

        assert "link_id" in caught.value.fields

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("secret", "short"),
            ("secret", b"x" * 31),
            ("secret", []),
            ("secret", [SECRET, "short"]),
            ("secret", None),
            ("secret", [64]),
            ("secret", "\ud800" * 40),
            ("base", "lender.example/return"),
            ("base", "ftp://lender.example"),
            ("base", f"{BASE}?a=1"),
            ("base", f"{BASE}#a"),
            ("base", "https://user@lender.example/"),
            ("base", "https://["),
            ("base", f"{BASE}/{'x' * 120}"),
            ("max_age", datetime.timedelta(0)),
            ("max_age", 3600),
        ],
    )
    def test_bad_settings(self, setting, value):
        """
        The error names a setting that cannot work.
        """
        with pytest.raises(ConfigurationError) as caught:
            make(**{setting: value})

        assert list(caught.value.fields) == [setting]

    def test_secrets_stay_secret(self):
        """
        No secret shows in a repr, a pickle or the locals of a raising frame.
        """
        returns = make()
        with pytest.raises(InvalidCallbackError) as forged:
            returns.decode("/return/a.b.c?success=false")
        with pytest.raises(ConfigurationError) as refused:
            ReturnURL("nowhere", secret=SECRET)

        shown = [
            repr(value)
            for caught in (forged, refused)
            for entry in caught.traceback[1:]
            for name, value in entry.frame.f_locals.items()
            if name != "self"
        ]
        assert SECRET not in repr(returns) + repr(shown)
        assert shown
        for attempt in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="secrets"):
                attempt(returns)

    @settings(print_blob=True, deadline=None)
    @given(path=st.text() | st.text("/.:?#[]@%return-\\"))
    def test_any_text(self, path):
        """
        Any text gives an event or an error of ours.
        """
        for prefix in ("", "/return/", "//", "https://", f"{BASE}/"):
            with pytest.raises(BankConnectError):
                make().decode(f"{prefix}{path}?success=false")

    def test_lazy(self, run_program):
        """
        Without signing, itsdangerous is not imported.
        """
        code = (
            "import sys, bankconnect_async._codec.redirects;"
            "print('itsdangerous' in sys.modules)"
        )

        assert run_program(code) == "False\n"
