"""
Browser messages of every dialect decode to events, and back.
"""

import json
import pickle

from pathlib import Path
from typing import Any

import attrs
import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from bankconnect_async._codec.browser_messages import (
    _CHANNELS,
    Channel,
    decode_event,
    encode_event,
)
from bankconnect_async.errors import (
    BankConnectError,
    DecodeError,
    ForeignMessageError,
    InvalidRequestError,
)
from bankconnect_async.models.events import (
    ErrorEvent,
    ErrorType,
    Event,
    EventName,
    ExitEvent,
    InfoEvent,
    SuccessEvent,
    UnknownEvent,
)


FIXTURES = Path(__file__).parent / "fixtures"
LINK = "cust-7f31-0042"
ENTITY = "f5057fee-4c3e-4459-82dd-21250b729601"
SESSION = "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"

by_entity = SuccessEvent(link_id=LINK, entity_id=ENTITY)
by_session = SuccessEvent(link_id=LINK, session_id=SESSION)
by_both = SuccessEvent(link_id=LINK, entity_id=ENTITY, session_id=SESSION)
left = ExitEvent(
    link_id=LINK, reason="User closed the journey", is_failure=False
)
left_silently = ExitEvent(link_id=LINK, is_failure=False)
left_seed = ExitEvent(link_id=LINK, reason="User closed the journey")
failed_seed = ExitEvent(link_id=LINK, reason="Net banking login failed")
failed = ErrorEvent(link_id=LINK, reason="Net banking login failed")
bad_password = ErrorEvent(
    link_id=LINK, reason="Password Incorrect", error_type="MU003"
)
bad_captcha = ErrorEvent(
    link_id=LINK, reason="Invalid Captcha", error_type="NB004"
)
something = ErrorEvent(link_id=LINK, reason="Something failed")
went_back = InfoEvent(link_id=LINK, event_name="manual_upload_back")


EXPECTED: dict[str, Any] = {
    "android.payload.entity": (by_entity, Channel.ANDROID),
    "android.payload.session": (by_session, Channel.ANDROID),
    "android_view.entity_destroyed.2019": (
        InfoEvent(link_id=LINK, event_name="OnEntityDestroyed"),
        Channel.ANDROID_VIEW_ENTITY_DESTROYED,
    ),
    "android_view.error.2019": (something, Channel.ANDROID_VIEW_ERROR),
    "android_view.error.2020": (something, Channel.ANDROID_VIEW_ERROR),
    "android_view.exit.2019": (left_silently, Channel.ANDROID_VIEW_EXIT),
    "android_view.exit.2020": (
        ExitEvent(link_id=LINK, reason="exit message", is_failure=False),
        Channel.ANDROID_VIEW_EXIT,
    ),
    "android_view.finished.2019": (by_entity, Channel.ANDROID_VIEW_FINISHED),
    "android_view.success.2020": (by_entity, Channel.ANDROID_VIEW_SUCCESS),
    "android_view.upload.2019": (
        InfoEvent(link_id=LINK, event_name="OnUpload"),
        Channel.ANDROID_VIEW_UPLOAD,
    ),
    "flat.info.legacy.bank_selected": (
        InfoEvent(event_name="bank_selected", message="HDFC BANK"),
        None,
    ),
    "flat.info.legacy.manual": (InfoEvent(event_name="manual"), None),
    "flat.info.legacy.open_manual_upload": (
        InfoEvent(event_name="open_manual_upload"),
        None,
    ),
    "flutter.result": (bad_password, Channel.FLUTTER),
    "iframe.error.v1.empty_reason": (
        ErrorEvent(link_id=LINK, error_type="MU006"),
        None,
    ),
    "iframe.error.v1": (bad_password, None),
    "iframe.error.v1.linkID_key": (bad_captcha, None),
    "iframe.error_as_exit.transition": (failed, None),
    "iframe.error_as_exit.transition_with_type": (bad_password, None),
    "iframe.exit.seed.failure": (failed_seed, None),
    "iframe.exit.seed": (left_seed, None),
    "iframe.exit.transition": (left_silently, None),
    "iframe.exit.v1": (left, None),
    "iframe.info.v1.bank_selected": (
        InfoEvent(
            link_id=LINK, event_name="bank_selected", message="HDFC BANK"
        ),
        None,
    ),
    "iframe.info.v1.manual": (
        InfoEvent(link_id=LINK, event_name="manual"),
        None,
    ),
    "iframe.info.v1.manual_upload_back": (went_back, None),
    "iframe.info.v1.net_banking_back": (
        InfoEvent(link_id=LINK, event_name="net_banking_back"),
        None,
    ),
    "iframe.sequence.error_then_exit.v1": ([bad_password, left], None),
    "iframe.sequence.failure_then_exit.seed": ([failed_seed, left_seed], None),
    "iframe.success.seed": (by_entity, None),
    "iframe.success.v1.entity_and_session": (by_both, None),
    "iframe.success.v1": (by_entity, None),
    "iframe.success.v1.session": (by_session, None),
    "jslib.error.2019": (ErrorEvent(reason="Upload failed"), Channel.LIBRARY),
    "jslib.exit.2019": (
        ExitEvent(reason="User exited", is_failure=False),
        Channel.LIBRARY,
    ),
    "jslib.success.2019": (SuccessEvent(entity_id=ENTITY), Channel.LIBRARY),
    "react.error": (
        ErrorEvent(
            link_id=LINK,
            error_type="MU021",
            reason="Please upload statements within the date range"
            " 01/10/2025 to 31/03/2026",
        ),
        Channel.REACT_ERROR,
    ),
    "react.error.transition": (failed, Channel.REACT_ERROR),
    "react.exit": (left_silently, Channel.REACT_EXIT),
    "react.success": (by_entity, Channel.REACT_SUCCESS),
    "webview.error.v1": (bad_captcha, Channel.WEBVIEW_ERROR),
    "webview.exit.v1": (left, Channel.WEBVIEW_EXIT),
    "webview.info.v1": (went_back, Channel.WEBVIEW_INFO),
    "webview.success.v1.entity": (by_entity, Channel.WEBVIEW_SUCCESS),
    "webview.success.v1.entity_and_session": (
        by_both,
        Channel.WEBVIEW_SUCCESS,
    ),
    "webview.success.v1.session": (by_session, Channel.WEBVIEW_SUCCESS),
}


def message(status: str, **payload: object) -> dict[str, Any]:
    """
    A browser message in its envelope.
    """
    return {
        "type": "finbox-bankconnect",
        "status": status,
        "payload": payload,
    }


def attempt(raw: Any, channel: Channel | None) -> Event | BankConnectError:
    """
    Return the event, or the error of ours.
    """
    try:
        return decode_event(raw, channel=channel)
    except BankConnectError as error:
        return error


def nested(depth: int) -> str:
    """
    Return JSON arrays inside one another.
    """
    return "[" * depth + "]" * depth


texts = st.text(max_size=20)
values = st.none() | st.booleans() | st.integers() | st.floats() | texts
names = (
    st.sampled_from(
        [
            "type",
            "status",
            "payload",
            "linkId",
            "linkID",
            "entityId",
            "sessionId",
            "reason",
            "message",
            "error_type",
            "event_name",
            "data",
            "request_id",
        ]
    )
    | texts
)
statuses = st.sampled_from(
    ["fb-success", "fb-exit", "success", "exit", "error", "info", "manual"]
)
trees = st.recursive(
    values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5)
    ),
    max_leaves=20,
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("finbox-bankconnect") | trees,
        "status": statuses | trees,
        "payload": st.dictionaries(names, trees, max_size=6) | trees,
    },
)
channels = st.none() | st.sampled_from(Channel)


class TestDecodeEvent:
    """
    `decode_event` returns a typed event or raises an error of ours.
    """

    @pytest.mark.parametrize("sample", EXPECTED)
    def test_sample(self, sample):
        """
        Each documented message decodes to its kind and fields.
        """
        expected, channel = EXPECTED[sample]
        raw = (FIXTURES / f"event.{sample}.json").read_bytes()

        if isinstance(expected, list):
            events = [decode_event(each) for each in json.loads(raw)]
        else:
            expected = [expected]
            events = [decode_event(raw, channel=channel)]

        assert events == expected

    def test_no_sample_forgotten(self):
        """
        The table has every fixture of an event.
        """
        samples = {
            path.name.removeprefix("event.").removesuffix(".json")
            for path in FIXTURES.glob("event.*")
        }

        assert samples == EXPECTED.keys()

    @pytest.mark.parametrize("form", [json.loads, str, bytes])
    def test_forms(self, form):
        """
        A mapping, a text and bytes decode alike, and the original is kept.
        """
        document = message("success", entityId=ENTITY, extra=1)
        text = json.dumps(document)
        raw = text.encode() if form is bytes else form(text)

        event = decode_event(raw)

        assert event == SuccessEvent(entity_id=ENTITY)
        assert event.raw == document
        assert event.confirmed is None

    @pytest.mark.parametrize(
        ("raw", "problem"),
        [
            ({}, "required field missing @ $.type"),
            ({"status": "exit", "payload": {}}, "missing @ $.type"),
            ({"type": 1}, "must be a text, not int @ $.type"),
            (
                {"type": "finbox-bankconnect", "payload": {}},
                "required field missing @ $.status",
            ),
            (
                {"type": "finbox-bankconnect", "status": "exit"},
                "required field missing @ $.payload",
            ),
            (
                {
                    "type": "finbox-bankconnect",
                    "status": "new",
                    "payload": [],
                },
                "must be an object, not list @ $.payload",
            ),
            (
                message("exit", linkId=7.5),
                "must be a text, not float @ $.payload.linkId",
            ),
            (
                message("error", error_type=True),
                "must be a text, not bool @ $.payload.error_type",
            ),
            (
                message("success", linkId=LINK),
                "neither entityId nor sessionId @ $.payload",
            ),
            (
                message("success", entityId="\ud800"),
                "is not Unicode @ $.payload.entityId",
            ),
            ({"status": "manual", "data": 1}, "not int @ $.data"),
            ([], "is not a JSON object @ $"),
            ("[]", "is not a JSON object @ $"),
            ("hello", "is not JSON @ $"),
            (b"\xff\xfe", "is not JSON @ $"),
            ('"\ud800"', "is not JSON @ $"),
            (nested(100_000), "is not JSON @ $"),
            ({"status": []}, "required field missing @ $.type"),
        ],
    )
    def test_malformed(self, raw, problem):
        """
        A message that breaks the contract is a `DecodeError` that names the
        path.
        """
        with pytest.raises(DecodeError) as caught:
            decode_event(raw)

        assert any(each.endswith(problem) for each in caught.value.problems)
        assert not isinstance(caught.value, ForeignMessageError)

    def test_all_problems(self):
        """
        One error lists every problem of a message.
        """
        with pytest.raises(DecodeError) as caught:
            decode_event(message("error", linkId=[1], reason=2, error_type=3))

        assert len(caught.value.problems) == 3

    @pytest.mark.parametrize(
        "raw",
        [{"type": "webpackOk"}, {"type": "x", "status": 1, "payload": None}],
    )
    def test_foreign(self, raw):
        """
        A message of another type is recognised, whatever else it holds.
        """
        with pytest.raises(
            ForeignMessageError, match="is not finbox-bankconnect"
        ):
            decode_event(raw)

    @pytest.mark.parametrize("link_id", [LINK, None, 7.5])
    def test_unknown_status(self, link_id):
        """
        A new status passes through, even with an odd link id.
        """
        event = decode_event(message("paused", linkId=link_id, since="noon"))

        assert event == UnknownEvent(
            status="paused", link_id=link_id if link_id == LINK else None
        )
        assert event.raw["payload"]["since"] == "noon"

    def test_new_codes(self):
        """
        Unknown codes and names stay plain texts.
        """
        error = decode_event(message("error", error_type="MU999"))
        info = decode_event(message("info", event_name="aa_back"))

        assert error == ErrorEvent(error_type="MU999")
        assert type(error.error_type) is str
        assert info == InfoEvent(event_name="aa_back")

    def test_known_codes(self):
        """
        A documented code equals its text and has a meaning.
        """
        event = decode_event(message("error", error_type="MU003"))

        assert event.error_type is ErrorType.PASSWORD_INCORRECT
        assert event.error_type == "MU003"
        assert event.error_type.meaning == "the password of the PDF is wrong"
        assert EventName("manual").meaning == "the manual upload was opened"

    @pytest.mark.parametrize("name", ["linkId", "linkID", "link_id"])
    def test_link_id_spellings(self, name):
        """
        The link id is found under each of its names.
        """
        event = decode_event(message("exit", **{"linkId": None, name: LINK}))

        assert event.link_id == LINK

    @pytest.mark.parametrize("nothing", ["", " ", None])
    def test_none_in_all_spellings(self, nothing):
        """
        Blank, null and absent values are equal.
        """
        event = decode_event(message("exit", linkId=nothing, message=nothing))

        assert event == ExitEvent(is_failure=False)
        assert ErrorEvent(reason=nothing, error_type=nothing) == ErrorEvent()

    def test_exit_with_message_and_reason(self):
        """
        An exit with a message is not read as a failure of 2020.
        """
        event = decode_event(message("exit", message="bye", reason="no"))

        assert event == ExitEvent(reason="no", is_failure=False)

    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            ({"status": "manual"}, InfoEvent(event_name="manual")),
            (message("success", entityId="e"), SuccessEvent(entity_id="e")),
            ({"error_type": "NB000"}, ErrorEvent(error_type="NB000")),
            ({"errorType": "NB000"}, ErrorEvent(error_type="NB000")),
            ({"event_name": "manual"}, InfoEvent(event_name="manual")),
            ({"sessionId": "s"}, SuccessEvent(session_id="s")),
            ({"linkId": LINK}, ExitEvent(link_id=LINK)),
        ],
    )
    def test_on_result(self, raw, expected):
        """
        The WebView's common function accepts all three forms.
        """
        event = decode_event(raw, channel=Channel.WEBVIEW_RESULT)

        assert event == expected

    @pytest.mark.parametrize("channel", [Channel.ANDROID, Channel.FLUTTER])
    def test_blank_ids_are_no_success(self, channel):
        """
        Blank ids of a mobile result mean an exit or a failure.
        """
        event = decode_event(
            {"entityId": "", "sessionId": None}, channel=channel
        )

        assert event == ExitEvent()

    def test_unknown_library_status(self):
        """
        A status that the library of 2019 did not have is unknown.
        """
        event = decode_event({"status": "BSM7"}, channel=Channel.LIBRARY)

        assert event == UnknownEvent(status="BSM7")

    def test_library_without_status(self):
        """
        The library's callback needs its status.
        """
        with pytest.raises(DecodeError, match=r"missing @ \$\.status"):
            decode_event({"message": "x"}, channel=Channel.LIBRARY)

    def test_every_channel(self):
        """
        Each channel has a decoder.
        """
        assert set(_CHANNELS) == set(Channel)

    @settings(print_blob=True, deadline=None)
    @given(raw=messages | trees, channel=channels)
    def test_any_tree(self, raw, channel):
        """
        Any JSON value gives an event or an error of ours.
        """
        outcome = attempt(raw, channel)

        assert isinstance(outcome, Event | DecodeError)
        if isinstance(outcome, DecodeError):
            copy = pickle.loads(pickle.dumps(outcome))
            assert copy.problems == outcome.problems

    @settings(print_blob=True, deadline=None)
    @given(raw=st.binary() | st.text(), channel=channels)
    def test_any_bytes(self, raw, channel):
        """
        Any bytes and any text give an event or an error of ours.
        """
        assert isinstance(attempt(raw, channel), Event | DecodeError)

    @pytest.mark.parametrize(
        "raw",
        [
            b"[" * 2**20,
            b'{"a":' * 2**18,
            b"9" * 2**20,
            b'"' + b"\\u0061" * 2**17,
            b"\xf0\x9f" * 2**19,
            b'{"status":"' + b" " * 2**20 + b'"}',
        ],
    )
    def test_a_megabyte(self, raw):
        """
        A megabyte of junk is refused as quickly as a byte.
        """
        with pytest.raises(DecodeError) as caught:
            decode_event(raw)

        assert len(str(caught.value)) < 200

    def test_locals(self):
        """
        No frame of ours that raises holds the message.
        """
        with pytest.raises(DecodeError) as caught:
            decode_event(message("success", linkId="customer-unique"))

        frames = [entry.frame for entry in caught.traceback][1:]
        assert "customer-unique" not in repr([f.f_locals for f in frames])
        assert frames


class TestEvents:
    """
    The event classes are values.
    """

    @pytest.mark.parametrize(
        "event", [by_both, left, bad_password, went_back, UnknownEvent()]
    )
    def test_values(self, event):
        """
        The original message is kept, but neither compared nor shown.
        """
        other = attrs.evolve(event, raw={"pan": "ABCDE"}, confirmed=True)

        assert other == event
        assert hash(other) == hash(event)
        assert "ABCDE" not in repr(other)
        assert pickle.loads(pickle.dumps(other)).raw == {"pan": "ABCDE"}


ENCODED = [
    ("iframe.success.seed", "seed"),
    ("iframe.exit.seed", "seed"),
    ("iframe.exit.seed.failure", "seed"),
    ("iframe.success.v1", "entity"),
    ("iframe.success.v1.entity_and_session", "entity"),
    ("iframe.success.v1.session", "session"),
    *(
        (f"iframe.{name}", dialect)
        for dialect in ("entity", "session")
        for name in (
            "exit.v1",
            "error.v1",
            "error.v1.empty_reason",
            "info.v1.bank_selected",
            "info.v1.manual",
            "info.v1.manual_upload_back",
            "info.v1.net_banking_back",
        )
    ),
]


class TestEncodeEvent:
    """
    `encode_event` writes what the documentation of a dialect shows.
    """

    @pytest.mark.parametrize(("sample", "dialect"), ENCODED)
    def test_sample(self, sample, dialect):
        """
        Each message equals the documented bytes.
        """
        text = (FIXTURES / f"event.{sample}.json").read_text()
        event, _ = EXPECTED[sample]

        encoded = json.dumps(encode_event(event, dialect), indent=2)

        assert encoded == text.rstrip("\n")

    def test_failure_in_seed(self):
        """
        The first dialect reports a failure as an exit without a code.
        """
        encoded = encode_event(bad_password, "seed")

        assert encoded == message(
            "fb-exit", reason="Password Incorrect", linkId=LINK
        )

    def test_nothing_to_say(self):
        """
        A missing link id is null, and a missing code is omitted.
        """
        encoded = encode_event(ErrorEvent(), "entity")

        assert encoded == message("error", reason="", linkId=None)

    @pytest.mark.parametrize(
        ("event", "dialect"),
        [
            (went_back, "seed"),
            (UnknownEvent(status="x"), "entity"),
            (by_session, "seed"),
            (by_entity, "session"),
            (SuccessEvent(), "entity"),
        ],
    )
    def test_refused(self, event, dialect):
        """
        An event that a dialect cannot express is refused.
        """
        with pytest.raises(InvalidRequestError) as caught:
            encode_event(event, dialect)

        assert "event" in caught.value.fields

    @settings(print_blob=True, deadline=None)
    @given(
        event=st.builds(
            SuccessEvent,
            link_id=st.none() | texts,
            entity_id=texts.filter(str.strip),
            session_id=st.none() | texts,
        )
        | st.builds(
            ExitEvent,
            link_id=st.none() | texts,
            reason=st.none() | texts,
            is_failure=st.just(value=False),
        )
        | st.builds(
            ErrorEvent,
            link_id=st.none() | texts,
            reason=st.none() | texts,
            error_type=st.none() | st.sampled_from(ErrorType) | texts,
        )
        | st.builds(
            InfoEvent,
            link_id=st.none() | texts,
            event_name=st.none() | st.sampled_from(EventName) | texts,
            message=st.none() | texts,
        )
    )
    def test_round_trip(self, event):
        """
        A message of the current dialect decodes to the encoded event.
        """
        encoded = json.dumps(encode_event(event, "entity"))

        assert decode_event(encoded) == event
