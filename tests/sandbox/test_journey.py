"""
Journeys of the sandbox: the steps, and the events that they cause.
"""

import datetime
import uuid

import pytest

from bankconnect_async._codec.browser_messages import decode_event
from bankconnect_async._codec.redirects import decode_redirect
from bankconnect_async.models.events import ErrorType, SuccessEvent
from bankconnect_async.sandbox import SandboxSession
from bankconnect_async.sandbox.http.errors import ApiError
from bankconnect_async.sandbox.journey.journey import (
    ClosedReason,
    Journey,
    Step,
    parse_step,
    report,
)
from bankconnect_async.sandbox.messages import find_message


NOW = datetime.datetime(2026, 4, 1, 12, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(minutes=60)
DIALECTS = ["seed", "entity", "session"]
RETURN = "https://merchant.example/bank/return"


def journey_of(dialect="seed", **parameters):
    """
    Start a journey.
    """
    return Journey.start(
        SandboxSession(
            session_id="d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee",
            link_id="cust-7f31-0042",
            dialect=dialect,
            parameters=parameters,
            redirect_url="https://sandbox.example/?session_id=1",
            created_at=NOW,
        )
    )


def play(journey, action, **details):
    """
    Do one step.
    """
    step = parse_step({"action": action, **details})
    return report(journey, journey.apply(step, NOW))


def masked(message):
    """
    Replace the entity id, which is random, with the sample's.
    """
    payload = message["payload"]
    if "entityId" in payload:
        assert uuid.UUID(payload["entityId"]).version == 4
        payload = {
            **payload,
            "entityId": "f5057fee-4c3e-4459-82dd-21250b729601",
        }
    return {**message, "payload": payload}


MESSAGES = [
    ("seed", "success.seed", "success", {}),
    ("seed", "exit.seed", "exit", {}),
    ("seed", "exit.seed.failure", "failure", {"error_type": "NB003"}),
    ("entity", "success.v1", "success", {}),
    ("session", "success.v1.session", "success", {}),
    *(
        (dialect, f"{name}.v1{suffix}", action, details)
        for dialect in ("entity", "session")
        for name, suffix, action, details in (
            ("exit", "", "exit", {}),
            ("error", "", "failure", {}),
            ("error", ".empty_reason", "failure", {"error_type": "MU006"}),
            ("info", ".bank_selected", "bank_selected", {"bank": "hdfc"}),
            ("info", ".manual", "manual", {}),
            ("info", ".manual_upload_back", "manual_upload_back", {}),
            ("info", ".net_banking_back", "net_banking_back", {}),
        )
    ),
]


class TestMessages:
    """
    The messages that the page posts.
    """

    @pytest.mark.parametrize(
        ("dialect", "sample", "action", "details"),
        MESSAGES,
        ids=[f"{dialect}-{sample}" for dialect, sample, *_ in MESSAGES],
    )
    def test_as_documented(
        self, sample_json, dialect, sample, action, details
    ):
        """
        Each step posts exactly the documented object, keys in order.
        """
        documented = sample_json(f"event.iframe.{sample}.json")

        (message,) = play(journey_of(dialect), action, **details).messages

        assert masked(message) == documented
        assert list(message["payload"]) == list(documented["payload"])

    @pytest.mark.parametrize(
        ("dialect", "sample", "error_type"),
        [
            ("seed", "failure_then_exit.seed", "NB003"),
            ("entity", "error_then_exit.v1", "MU003"),
            ("session", "error_then_exit.v1", "MU003"),
        ],
    )
    def test_failure_then_exit(self, sample_json, dialect, sample, error_type):
        """
        An exit after a failure is reported as two events.
        """
        journey = journey_of(dialect)
        played = [
            play(journey, "failure", error_type=error_type),
            play(journey, "exit"),
        ]

        assert [
            message for step in played for message in step.messages
        ] == sample_json(f"event.iframe.sequence.{sample}.json")

    @pytest.mark.parametrize(
        "action",
        ["bank_selected", "manual", "manual_upload_back", "net_banking_back"],
    )
    def test_seed_has_no_steps(self, action):
        """
        The seed reports only the end of a journey.
        """
        played = play(journey_of(redirect_url=RETURN), action)

        assert (played.messages, played.redirect) == ((), None)


class TestFailures:
    """
    The documented ways to fail.
    """

    def test_every_code_has_a_reason(self):
        """
        Every documented code has the vendor's text.
        """
        assert all(find_message("event", code) for code in ErrorType)

    @pytest.mark.parametrize("code", list(ErrorType))
    @pytest.mark.parametrize("dialect", ["entity", "session"])
    def test_codes(self, dialect, code):
        """
        Every code appears in its failure.
        """
        (message,) = play(
            journey_of(dialect), "failure", error_type=code
        ).messages

        event = decode_event(message)
        assert event.error_type is code
        assert "{" not in message["payload"]["reason"]

    @pytest.mark.parametrize(
        ("parameters", "details", "reason"),
        [
            ({}, {}, "Not axis statement"),
            ({"bank_name": "HDFC"}, {}, "Not hdfc statement"),
            ({"bank": "ICICI"}, {}, "Not icici statement"),
            ({"bank_name": "HDFC"}, {"bank": "SBI"}, "Not sbi statement"),
            ({"bank_name": "{end}"}, {}, "Not {end} statement"),
        ],
    )
    def test_other_bank(self, parameters, details, reason):
        """
        The failure for another bank's statement names the chosen bank.
        """
        (message,) = play(
            journey_of(**parameters), "failure", error_type="MU004", **details
        ).messages

        assert message["payload"]["reason"] == reason

    def test_bank_is_remembered(self):
        """
        Failures name the bank that was chosen.
        """
        journey = journey_of()
        play(journey, "bank_selected", bank="SBI")

        (message,) = play(journey, "failure", error_type="MU004").messages

        assert message["payload"]["reason"] == "Not sbi statement"

    @pytest.mark.parametrize(
        ("parameters", "span"),
        [
            ({}, "01/10/2025 to 01/04/2026"),
            (
                {
                    "from_date": datetime.date(2026, 1, 2),
                    "to_date": datetime.date(2026, 2, 3),
                },
                "02/01/2026 to 03/02/2026",
            ),
        ],
    )
    def test_range(self, parameters, span):
        """
        The failure for a statement of other dates names the range.
        """
        (message,) = play(
            journey_of(**parameters), "failure", error_type="MU021"
        ).messages

        assert span in message["payload"]["reason"]

    @pytest.mark.parametrize(
        ("parameters", "details", "code"),
        [
            ({}, {}, "MU003"),
            ({}, {"mode": "online"}, "NB003"),
            ({"mode": "online"}, {}, "NB003"),
            ({"mode": "online"}, {"mode": "pdf"}, "MU003"),
        ],
    )
    def test_default(self, parameters, details, code):
        """
        A failure without details is the usual one of its mode.
        """
        (message,) = play(
            journey_of("entity", **parameters), "failure", **details
        ).messages

        assert message["payload"]["error_type"] == code

    @pytest.mark.parametrize(
        ("parameters", "details", "reason"),
        [
            ({"mode": "aa"}, {}, "Consent rejected"),
            ({}, {"error_type": "CONSENT_FAILED"}, "Consent failed"),
        ],
    )
    def test_consent(self, parameters, details, reason):
        """
        A failed consent has a reason and no code: none is documented.
        """
        (message,) = play(
            journey_of("entity", **parameters), "failure", **details
        ).messages

        assert message["status"] == "error"
        assert message["payload"] == {
            "reason": reason,
            "linkId": "cust-7f31-0042",
        }


class TestRedirects:
    """
    The redirects of the page.
    """

    @pytest.mark.parametrize("dialect", DIALECTS)
    @pytest.mark.parametrize("action", ["success", "exit", "failure"])
    def test_nowhere(self, dialect, action):
        """
        A session of the inline-frame workflow has no redirect.
        """
        assert play(journey_of(dialect), action).redirect is None

    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_success(self, dialect):
        """
        The redirect of a success has the id of its flow, as the message does.
        """
        played = play(journey_of(dialect, redirect_url=RETURN), "success")

        event = decode_redirect(played.redirect)
        message = decode_event(played.messages[0])
        assert isinstance(event, SuccessEvent)
        assert played.redirect.startswith(f"{RETURN}?success=true&")
        assert (event.entity_id, event.session_id) == (
            message.entity_id,
            message.session_id,
        )
        assert (event.entity_id is None) is (dialect == "session")

    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_exit(self, dialect):
        """
        The redirect of an exit has `success=false` only.
        """
        played = play(journey_of(dialect, redirect_url=RETURN), "exit")

        assert played.redirect == f"{RETURN}?success=false"

    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_failure_stays(self, dialect):
        """
        A failure does not end the journey, so it does not redirect.
        """
        journey = journey_of(dialect, redirect_url=RETURN)

        assert play(journey, "failure").redirect is None


class TestLife:
    """
    The lifetime of a journey.
    """

    def test_default_expiry(self):
        """
        Without `session_expiry` a journey is valid for an hour.
        """
        journey = journey_of()

        assert (
            journey.closed_reason(LATER - datetime.timedelta(seconds=1))
            is None
        )
        assert journey.closed_reason(LATER) is ClosedReason.EXPIRED

    def test_own_expiry(self):
        """
        `session_expiry` is in minutes.
        """
        journey = journey_of("session", session_expiry=61)

        assert journey.closed_reason(LATER) is None

    @pytest.mark.parametrize("moment", [NOW, LATER])
    def test_completed(self, moment):
        """
        A success ends the journey, which does not expire any more.
        """
        journey = journey_of()
        play(journey, "success")

        assert journey.closed_reason(moment) is ClosedReason.COMPLETED

    @pytest.mark.parametrize("action", ["failure", "exit", "bank_selected"])
    def test_goes_on(self, action):
        """
        All other events leave the journey open.
        """
        journey = journey_of()
        play(journey, action, bank="HDFC")

        assert journey.closed_reason(NOW) is None

    def test_one_entity(self):
        """
        All attempts of a journey belong to one entity.
        """
        journey = journey_of()
        play(journey, "failure")
        entity_id = journey.entity_id

        (message,) = play(journey, "success").messages

        assert message["payload"]["entityId"] == entity_id

    def test_no_entity(self):
        """
        The session flow has no entities.
        """
        journey = journey_of("session")
        play(journey, "success")

        assert journey.entity_id is None


class TestReadStep:
    """
    The steps that the page may post.
    """

    def test_whole(self):
        """
        Every field of a step is read.
        """
        said = {
            "action": "failure",
            "mode": "pdf",
            "bank": "HDFC",
            "error_type": "MU004",
        }

        assert parse_step(said) == Step(
            action="failure",
            mode="pdf",
            bank="HDFC",
            error_type=ErrorType.BANK_MISMATCH,
        )

    @pytest.mark.parametrize(
        ("said", "field"),
        [
            ({}, "action"),
            ({"action": None}, "action"),
            ({"action": "win"}, "action"),
            ({"action": ["success"]}, "action"),
            ({"action": "exit", "mode": "fax"}, "mode"),
            ({"action": "exit", "bank": "x" * 51}, "bank"),
            ({"action": "exit", "bank": {}}, "bank"),
            ({"action": "failure", "error_type": "MU999"}, "error_type"),
            ({"action": "failure", "error_type": {}}, "error_type"),
        ],
    )
    def test_bad(self, said, field):
        """
        The error names a bad field of a step.
        """
        with pytest.raises(ApiError) as caught:
            parse_step(said)

        assert [problem.field for problem in caught.value.problems] == [field]
