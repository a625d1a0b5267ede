"""
The store records what events and webhooks say, and processing is started.
"""

import datetime
import json

import attrs
import pytest

from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    EnrichmentWebhook,
    ErrorEvent,
    ExitEvent,
    ExpiryWebhook,
    ExtractionWebhook,
    InfoEvent,
    MemorySessionStore,
    SessionRequest,
    SessionState,
    SuccessEvent,
    UnknownWebhook,
    UploadWebhook,
)
from bankconnect_async._codec.event_keys import event_key
from bankconnect_async._codec.webhooks import decode_webhook
from bankconnect_async.errors import ConnectError, UnparsableStatementError
from bankconnect_async.models.sessions import Session
from bankconnect_async.models.webhooks import WebhookAccount
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import WebRequest
from bankconnect_async.web.news import News, news_of


QUICK = {"poll_interval": 0.01}
UPLOADED = "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION"
EXPIRED = "SESSION_EXPIRY_NOTIFICATION"


def body(session_id, event_name=UPLOADED, **rest):
    """
    Return the body of a webhook of the session flow.
    """
    return json.dumps(
        {"session_id": session_id, "event_name": event_name, **rest}
    ).encode()


async def entry_of(bank, session_id):
    """
    Return what the store knows of a session.
    """
    (entry,) = await bank.store.find(
        api_id=bank.store_api_id, session_id=session_id
    )
    return entry


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (SuccessEvent(session_id="s"), News(state=SessionState.SUBMITTED)),
        (
            SuccessEvent(entity_id="e"),
            News(state=SessionState.SUBMITTED, entity_id="e"),
        ),
        (ExitEvent(), News(problem="the customer left")),
        (ExitEvent(reason="x\ny"), News(problem="x y")),
        (
            ErrorEvent(error_type="MU003", reason="wrong"),
            News(problem="MU003: wrong"),
        ),
        (ErrorEvent(), News()),
        (InfoEvent(event_name="manual"), News()),
        (UploadWebhook(), News(state=SessionState.SUBMITTED)),
        (ExpiryWebhook(), News(state=SessionState.EXPIRED)),
        (EnrichmentWebhook(), News(state=SessionState.COMPLETED)),
        (
            EnrichmentWebhook(
                accounts=(
                    WebhookAccount(
                        account_status="failed", error_code="UNPARSABLE"
                    ),
                )
            ),
            News(state=SessionState.FAILED, problem="UNPARSABLE"),
        ),
        (
            ExtractionWebhook(entity_id="e", progress="completed"),
            News(state=SessionState.COMPLETED, entity_id="e"),
        ),
        (
            ExtractionWebhook(
                entity_id="e",
                statement_id="st",
                progress="failed",
                reason="bad",
            ),
            News(state=SessionState.FAILED, entity_id="e", problem="bad"),
        ),
        (
            ExtractionWebhook(
                entity_id="e", progress="failed", reason="login"
            ),
            News(entity_id="e", problem="login"),
        ),
        (UnknownWebhook(), News()),
    ],
)
def test_news(what, expected):
    """
    Exits and errors change no state: the customer may try again.
    """
    assert news_of(what) == expected


async def test_a_session_from_page_to_data(serve, told, until):
    """
    A webhook of the session flow has the customer's link id and a key;
    processing starts by itself, once; an expiry told late changes nothing.
    """
    async with serve("session", options=QUICK) as service:
        await service.bank.update_webhook(
            service.endpoints.protocol.webhook_url, flow="session"
        )
        others = await service.connect("customer-43")
        session = await service.connect("customer-42")
        await service.sandbox.play(session.session_id, "success")
        await until(lambda: len(told.events) == 2)
        service.sandbox.expire(session.session_id)
        service.sandbox.expire(others.session_id)
        await until(lambda: len(told.events) >= 3)
        await service.sandbox.webhooks_sent()
        await until(lambda: not service.endpoints.pending)
        (mine,) = await service.entries("customer-42")
        (other,) = await service.entries("customer-43")
        calls = service.sandbox.processed("initiate_processing")

    uploaded, enriched, expired = told.events
    assert isinstance(uploaded, UploadWebhook)
    assert isinstance(enriched, EnrichmentWebhook)
    assert isinstance(expired, ExpiryWebhook)
    assert uploaded.link_id == enriched.link_id == "customer-42"
    assert expired.link_id == "customer-43"
    assert len({event.key for event in told.events}) == 3
    assert all(event.key for event in told.events)
    assert calls == 1
    assert (mine.state, other.state) == ("completed", "expired")
    assert told.failures == []


async def test_an_expiry_after_a_completion(serve, told, until, webhook_call):
    """
    An expiry that is told after the data was ready is handed on, and the
    session stays complete.
    """
    async with serve("session", options=QUICK) as service:
        session = await service.connect("customer-42")
        for name in (UPLOADED, "ENRICHMENT_NOTIFICATION", EXPIRED):
            await service.endpoints.handle_webhook(
                webhook_call(service.endpoints, body(session.session_id, name))
            )
            await until(lambda: not service.endpoints.pending)
        (entry,) = await service.entries("customer-42")

    assert isinstance(told.events[-1], ExpiryWebhook)
    assert entry.state == SessionState.COMPLETED


async def test_a_wrong_password_then_a_success(serve, told, posted):
    """
    A wrong password is the last problem of a session that stays open; the
    success after it counts.
    """
    async with serve("session") as service:
        session = await service.connect("customer-42")
        states = []
        for action in ("failure", "exit", "success"):
            played = await service.sandbox.play(session.session_id, action)
            for message in played.messages:
                call = posted(
                    service.endpoints,
                    Session(
                        link_id="customer-42",
                        session_id=session.session_id,
                        redirect_url=URL(),
                    ),
                    message,
                )
                call = attrs.evolve(
                    call,
                    headers={**call.headers, "origin": service.origin},
                )
                reply = await service.endpoints.handle_event(call)
                assert reply.status == 204
            (entry,) = await service.entries("customer-42")
            states.append((entry.state, entry.last_problem))

    assert [state for state, _ in states] == ["opened", "opened", "submitted"]
    assert states[0][1].startswith("MU003")
    assert states[2][1] == states[1][1] != states[0][1]
    assert isinstance(told.events[-1], SuccessEvent)


async def test_processing_is_left_to_the_service(serve, told, until):
    """
    With `process="never"`, nobody starts processing.
    """
    options = {**QUICK, "process": "never"}
    async with serve("session", options=options) as service:
        await service.bank.update_webhook(
            service.endpoints.protocol.webhook_url, flow="session"
        )
        session = await service.connect("customer-42")
        await service.sandbox.play(session.session_id, "success")
        await until(lambda: told.events)
        await until(lambda: not service.endpoints.pending)
        (entry,) = await service.entries("customer-42")

    assert service.sandbox.processed("initiate_processing") == 0
    assert entry.state == SessionState.SUBMITTED


async def test_processing_after_an_outage(
    make, bank_of, told, until, webhook_call
):
    """
    If the vendor cannot be reached, processing starts later; the webhook does
    not wait for it.
    """
    async with Sandbox("session") as sandbox, bank_of(sandbox) as bank:
        service = make(bank, **QUICK)
        session = await bank.create_session("customer-42")
        await sandbox.play(session.session_id, "success")
        async with sandbox.outage():
            await service.handle_webhook(
                webhook_call(service, body(session.session_id))
            )
            await until(lambda: not service.pending)
            assert len(told.events) == 1
            assert sandbox.processed("initiate_processing") == 0
        await until(lambda: sandbox.processed("initiate_processing"))
        await service.aclose()
        entry = await entry_of(bank, session.session_id)

    assert entry.state == SessionState.PROCESSING
    assert told.failures == []


async def test_processing_that_was_requested_before(
    make, bank_of, told, until, webhook_call
):
    """
    A session whose processing somebody requested already is processed.
    """
    async with Sandbox("session") as sandbox, bank_of(sandbox) as bank:
        service = make(bank, **QUICK)
        session = await bank.create_session("customer-42")
        await sandbox.play(session.session_id, "success")
        await bank.session(session).initiate_processing()
        await service.handle_webhook(
            webhook_call(service, body(session.session_id))
        )
        await until(lambda: not service.pending)
        await service.aclose()
        entry = await entry_of(bank, session.session_id)

    assert entry.state == SessionState.PROCESSING
    assert told.failures == []


async def test_an_expired_session_that_is_filled_in_part(
    make, bank_of, told, until, webhook_call
):
    """
    Processing of an expired session that has an account is tried once; a
    refusal goes to the failure hook, and the expiry to the callback.
    """
    async with Sandbox("session") as sandbox, bank_of(sandbox) as bank:
        service = make(bank, **QUICK)
        session = await bank.create_session("customer-42")
        expiry = body(
            session.session_id, EXPIRED, accounts=[{"account_id": "a-1"}]
        )
        for _ in range(2):
            await service.handle_webhook(webhook_call(service, expiry))
            await until(lambda: not service.pending)
        await service.aclose()
        entry = await entry_of(bank, session.session_id)

    (expired,) = told.events
    ((reported, error),) = told.failures
    assert isinstance(error, UnparsableStatementError)
    assert reported.key == expired.key
    assert reported.link_id == "customer-42"
    assert entry.state == SessionState.EXPIRED


async def test_a_webhook_before_its_session_is_stored(
    make, bank_of, told, until, webhook_call
):
    """
    A webhook of an unknown session is handed on without a link id; once the
    session is stored, its state follows.
    """
    async with (
        Sandbox("session") as sandbox,
        bank_of(sandbox) as creator,
        bank_of(sandbox) as bank,
    ):
        service = make(bank, **QUICK)
        session = await creator.create_session("customer-42")
        await sandbox.play(session.session_id, "success")
        await service.handle_webhook(
            webhook_call(service, body(session.session_id))
        )
        await until(lambda: told.events)
        await bank.store.add(
            await creator.store.find(
                api_id=bank.store_api_id, session_id=session.session_id
            )
        )
        await until(lambda: sandbox.processed("initiate_processing"))
        await service.aclose()
        entry = await entry_of(bank, session.session_id)

    (webhook,) = told.events
    assert webhook.link_id is None
    assert entry.state == SessionState.PROCESSING


async def test_a_session_that_stays_unknown(
    make, told, until, webhook_call, caplog
):
    """
    The service does not look for a session forever, and reports nothing.
    """
    finished = []

    class Watched(MemorySessionStore):
        async def done(self, key, /):
            finished.append(key)
            await super().done(key)

    bank = AsyncBankConnect("key", redirect_url=None, store=Watched())
    service = make(bank, max_attempts=2, **QUICK)
    await service.handle_webhook(webhook_call(service, body("s-1")))
    await until(lambda: len(finished) == 2)
    await service.aclose()

    (event,) = told.events
    assert finished == [event.key, f"unmatched:{event.key}"]
    assert told.failures == []
    assert not caplog.records


async def test_an_entity(serve, told, until, webhook_call, posted):
    """
    In the entity flow, the success of a browser tells which entity belongs to
    the session; a webhook about its statement completes it.
    """
    async with serve("entity", options=QUICK) as service:
        await service.bank.update_webhook(
            service.endpoints.protocol.webhook_url, flow="entity"
        )
        session = await service.bank.create_session("customer-42")
        again = await service.bank.create_session("customer-42")
        login = {
            "entity_id": "e-0",
            "statement_id": "",
            "progress": "failed",
            "reason": "Invalid credentials",
        }
        await service.endpoints.handle_webhook(
            webhook_call(service.endpoints, **login)
        )
        played = await service.sandbox.play(session.session_id, "success")
        call = posted(service.endpoints, session, played.messages[0])
        reply = await service.endpoints.handle_event(
            attrs.evolve(
                call, headers={**call.headers, "origin": service.origin}
            )
        )
        assert reply.status == 204
        await service.sandbox.webhooks_sent()
        await until(lambda: len(told.events) == 3)
        await until(lambda: not service.endpoints.pending)
        entries = await service.entries("customer-42")

    states = {entry.session_id: entry.state for entry in entries}
    assert states[session.session_id] in {"submitted", "completed"}
    assert states[again.session_id] == "created"


@pytest.mark.parametrize("with_session", [False, True])
async def test_the_entity_of_an_earlier_journey(make, bank_of, with_session):
    """
    A customer who reports the statements of an earlier journey has submitted
    nothing in the present one.
    """
    async with Sandbox("entity") as sandbox, bank_of(sandbox) as bank:
        service = make(bank)
        outcome = ""
        for bank_name in ("axis", "hdfc"):
            await service.redirect(
                WebRequest(),
                SessionRequest(
                    link_id="customer-42",
                    redirect_url=None,
                    bank_name=bank_name,
                ),
            )
            session_id = [*sandbox.sessions][-1]
            if not outcome:
                played = await sandbox.play(session_id, "success")
                outcome = URL(played.redirect).raw_query_string
            entry = await entry_of(bank, session_id)
            path = URL(
                service.protocol.return_url("customer-42", entry.entry_id)
            )
            also = f"&session_id={session_id}" if with_session else ""
            reply = await service.handle_return(
                WebRequest(path=f"{path.raw_path}?{outcome}{also}")
            )
            assert reply.status == 200
        await service.aclose()
        entries = await bank.store.find(
            api_id=bank.store_api_id, link_id="customer-42"
        )

    assert [entry.state for entry in entries] == ["opened", "submitted"]
    assert [len(entry.entity_ids) for entry in entries] == [0, 1]


class TestOtherProcesses:
    """
    A return or a webhook may come to any process that shares the store.
    """

    @pytest.fixture(name="sandbox")
    async def _sandbox(self):
        """Run a sandbox of the session flow."""
        async with Sandbox("session") as sandbox:
            yield sandbox

    @pytest.fixture(name="pair")
    async def _pair(self, sandbox, bank_of, make):
        """Return the services of two processes that share a store."""
        store = MemorySessionStore()
        async with (
            bank_of(sandbox, store=store) as one,
            bank_of(sandbox, store=store) as other,
        ):
            yield make(one), make(other)

    async def test_return(self, sandbox, pair, told):
        """
        A return without its cookie is confirmed at another process, once; one
        that names the session of somebody else is refused.
        """
        first, second = pair
        for link_id in ("customer-42", "customer-43"):
            reply = await first.redirect(WebRequest(), link_id)
            assert reply.status == 303
        mine, theirs = [
            (await sandbox.play(session_id, "success")).redirect
            for session_id in sandbox.sessions
        ]
        statuses = [
            (await service.handle_return(WebRequest(path=path))).status
            for service in (second, first)
            for path in (
                URL(mine, encoded=True).raw_path_qs,
                # The signed path of one, with the outcome of the other.
                f"{URL(mine).raw_path}?{URL(theirs).raw_query_string}",
            )
        ]
        await first.aclose()
        await second.aclose()

        assert statuses == [200, 403, 200, 403]
        (event,) = told.events
        assert event.link_id == "customer-42"

    async def test_webhook(self, sandbox, pair, told, until, webhook_call):
        """
        A webhook at another process has the link id.
        """
        first, second = pair
        await first.connect(WebRequest(), "customer-42")
        (session_id,) = sandbox.sessions
        for service in (second, first):
            await service.handle_webhook(
                webhook_call(service, body(session_id))
            )
        await until(lambda: told.events)
        await first.aclose()
        await second.aclose()

        (webhook,) = told.events
        assert webhook.link_id == "customer-42"


async def test_two_journeys_in_one_browser(serve, told):
    """
    Two journeys side by side have a cookie each, and an exit of one is noted
    for that one.
    """
    async with serve("session") as service:
        for link_id in ("customer-42", "customer-43", "customer-42"):
            async with service.http.post(
                f"{service.base}/redirect",
                headers={"X-Customer": link_id, "Origin": service.origin},
                params={"bankconnect_after": "9999999999999999"},
                allow_redirects=False,
            ) as answer:
                assert answer.status == 303
        ways_back = [
            session.parameters["redirect_url"]
            for session in service.sandbox.sessions.values()
        ]
        paths = {
            cookie["path"]
            for cookie in service.http.cookie_jar
            if cookie.key == "bankconnect"
        }
        async with service.http.get(f"{ways_back[0]}?success=false") as answer:
            assert answer.status == 200
        entries = [
            *await service.entries("customer-42"),
            *await service.entries("customer-43"),
        ]

    assert len(paths) == 3
    assert all(way.startswith(service.base) for way in ways_back)
    (event,) = told.events
    assert event.link_id == "customer-42"
    noted = {entry.redirect_url: entry.last_problem for entry in entries}
    assert sorted(map(bool, noted.values())) == [False, False, True]
    (first, *_) = service.sandbox.sessions
    (problem,) = [url for url, text in noted.items() if text]
    assert first in problem


async def test_a_success_whose_callback_fails(
    make, bank_of, told, until, posted
):
    """
    A confirmed success is handed on again after the callback failed, and a
    reload in between makes no second one.
    """
    async with Sandbox("session") as sandbox, bank_of(sandbox) as bank:
        service = make(bank, lease=datetime.timedelta(seconds=0.1), **QUICK)
        session = await bank.create_session("customer-42")
        played = await sandbox.play(session.session_id, "success")
        call = posted(service, session, played.messages[0])
        told.breaks = RuntimeError("no database")
        first = await service.handle_event(call)
        told.breaks = None
        second = await service.handle_event(call)
        await until(lambda: told.events)
        await service.aclose()

    assert (first.status, second.status) == (500, 204)
    (event,) = told.events
    assert event.confirmed is True
    assert event.key
    assert len(told.failures) == 1


async def test_the_customer_of_a_failure(
    make, bank_of, told, until, webhook_call
):
    """
    A webhook that goes to the failure hook has its key and the customer's
    link id, if the callback fails or if processing cannot be started.
    """
    async with Sandbox("session") as sandbox, bank_of(sandbox) as bank:
        service = make(bank, max_attempts=1, **QUICK)
        session = await bank.create_session("customer-42")
        webhook = body(session.session_id)
        told.breaks = RuntimeError("no database")
        async with sandbox.outage():
            await service.handle_webhook(webhook_call(service, webhook))
            await until(lambda: len(told.failures) == 2)
            await service.aclose()

    reported = {(what.key, what.link_id) for what, _ in told.failures}
    expected = event_key(decode_webhook(webhook), bank.store_api_id)
    assert reported == {(expected, "customer-42")}
    assert {type(error) for _, error in told.failures} == {
        RuntimeError,
        ConnectError,
    }
