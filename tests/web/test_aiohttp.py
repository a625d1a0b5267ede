"""
The endpoints over loopback, mounted into an aiohttp application.
"""

import asyncio
import html
import io
import json
import re

import pytest

from yarl import URL

from bankconnect_async import SessionRequest
from bankconnect_async.errors import InvalidCallbackError
from bankconnect_async.models.events import ErrorEvent, ExitEvent, SuccessEvent
from bankconnect_async.models.webhooks import ExtractionWebhook, UploadWebhook
from bankconnect_async.web import MAX_EVENT, MAX_WEBHOOK


AS_CUSTOMER = {"X-Customer": "customer-42"}
DIALECTS = ("seed", "entity", "session")


def settings_of(text):
    """
    Return the settings that a connect page gives its listener.
    """
    found = re.search('data-bankconnect="([^"]*)"', text)
    return json.loads(html.unescape(found[1]))


async def open_frame(service):
    """
    Open the connect page; return its session and its listener's settings.
    """
    async with service.http.get(
        f"{service.base}/connect", headers=AS_CUSTOMER
    ) as answer:
        assert answer.status == 200
        settings = settings_of(await answer.text())
    *_, session_id = service.sandbox.sessions
    return session_id, settings


async def post_event(service, settings, message):
    """
    Post as the listener does, and return the status.
    """
    async with service.http.post(
        URL(service.origin).with_path(settings["postTo"]),
        json={"event": message, "token": settings["token"]},
        headers={"Origin": service.origin, "Sec-Fetch-Site": "same-origin"},
    ) as answer:
        return answer.status


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_frame(serve, told, dialect):
    """
    A failure and then a success in a frame arrive in order, confirmed.
    """
    async with serve(dialect) as service:
        session_id, settings = await open_frame(service)
        statuses = []
        for action in ("failure", "success"):
            played = await service.sandbox.play(session_id, action)
            (message,) = played.messages
            statuses.append(await post_event(service, settings, message))

    failure, success = told.events
    assert statuses == [204, 204]
    assert isinstance(failure, ExitEvent if dialect == "seed" else ErrorEvent)
    assert isinstance(success, SuccessEvent)
    assert {failure.link_id, success.link_id} == {"customer-42"}
    assert success.confirmed is True


@pytest.mark.parametrize("key", ["error_type", "errorType"])
async def test_both_keys_of_the_error_type(serve, told, key):
    """
    The code of an error arrives under either key: the vendor's sample and its
    page differ.
    """
    message = {
        "type": "finbox-bankconnect",
        "status": "error",
        "payload": {"linkId": "customer-42", "reason": "", key: "MU006"},
    }
    async with serve("entity") as service:
        _, settings = await open_frame(service)
        status = await post_event(service, settings, message)

    (event,) = told.events
    assert status == 204
    assert event == ErrorEvent(
        link_id="customer-42", error_type="MU006", reason=""
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("action", ["success", "exit"])
async def test_redirect(serve, told, dialect, action):
    """
    After a redirect there and back, the outcome arrives and a page shows it.
    """
    async with serve(dialect) as service:
        async with service.http.get(
            f"{service.base}/redirect",
            headers=AS_CUSTOMER,
            allow_redirects=False,
        ) as answer:
            assert answer.status == 303
            journey = URL(answer.headers["Location"], encoded=True)
        played = await service.sandbox.play(
            journey.query["session_id"], action
        )
        async with service.http.get(
            URL(played.redirect, encoded=True)
        ) as answer:
            text = await answer.text()

    (event,) = told.events
    assert answer.status == 200
    assert event.link_id == "customer-42"
    assert ("Thank you" in text) == (action == "success")
    assert event.confirmed is (True if action == "success" else None)


async def test_continues(serve, told):
    """
    If the service has a `next_url`, the browser is sent there after a
    success. An exit may be a failure, so a page offers to try again first.
    """
    async with serve("entity", next_url="/account") as service:
        protocol = service.endpoints.protocol
        session = await service.bank.create_session(
            SessionRequest(
                link_id="customer-42",
                redirect_url=protocol.return_url("customer-42"),
            )
        )
        played = await service.sandbox.play(session.session_id, "success")
        async with service.http.get(
            URL(played.redirect, encoded=True), allow_redirects=False
        ) as answer:
            location = answer.headers["Location"]
        url = protocol.return_url("customer-42")
        async with service.http.get(f"{url}?success=false") as exit_page:
            text = await exit_page.text()

    assert (answer.status, location) == (303, "/account")
    assert "not complete yet" in text
    assert 'href="/bank/redirect"' in text
    assert 'href="/account"' in text
    assert len(told.events) == 2


@pytest.mark.parametrize(
    ("dialect", "kind"),
    [("entity", ExtractionWebhook), ("session", UploadWebhook)],
)
async def test_webhooks(serve, told, until, dialect, kind):
    """
    The client registers the webhook URL, and the webhooks arrive.
    """
    async with serve(dialect) as service:
        await service.bank.update_webhook(
            service.endpoints.protocol.webhook_url, flow=dialect
        )
        session = await service.bank.create_session("customer-42")
        await service.sandbox.play(session.session_id, "success")
        (sent,) = await service.sandbox.webhooks_sent()
        await until(lambda: told.events)

    (webhook,) = told.events
    assert sent.status == 200
    assert isinstance(webhook, kind)


async def test_shutdown_waits_for_webhooks(serve, told, until):
    """
    An acknowledged webhook is delivered before the application ends.
    """
    gate, entered = asyncio.Event(), []

    async def slow(webhook):
        entered.append(webhook)
        await gate.wait()
        told.events.append(webhook)

    async with serve("entity") as service:
        service.endpoints.on_event = slow
        async with service.http.post(
            service.endpoints.protocol.webhook_url,
            json={"progress": "completed", "entity_id": "e-1"},
        ) as answer:
            assert answer.status == 200
        await until(lambda: entered)
        closing = asyncio.create_task(service.runner.cleanup())
        await until(lambda: service.endpoints.pending == 1)
        assert told.events == []
        gate.set()
        await closing

    assert told.events == entered


async def test_strangers(serve):
    """
    A visitor who is no customer gets the service's response for strangers.
    """
    async with serve() as service:
        for page in ("connect", "redirect"):
            async with service.http.get(f"{service.base}/{page}") as answer:
                assert answer.status == 401
        assert service.sandbox.created() == 0


@pytest.mark.parametrize("way", ["connect", "redirect"])
async def test_a_visitor_from_another_site(serve, way):
    """
    A visitor whom another site sends is asked first; the page's button sends a
    same-origin POST, which creates the session. A POST of another site does
    not.
    """
    async with serve() as service:
        url, sandbox = f"{service.base}/{way}", service.sandbox
        sent = {**AS_CUSTOMER, "Sec-Fetch-Site": "cross-site"}
        async with service.http.get(url, headers=sent) as answer:
            page = await answer.text()
            policy = answer.headers["Content-Security-Policy"]
        before = sandbox.created()
        statuses = []
        for headers in (
            {**sent, "Origin": "https://evil.example"},
            {**AS_CUSTOMER, "Origin": "https://evil.example"},
            {**AS_CUSTOMER, "Origin": "null"},
            AS_CUSTOMER,
        ):
            async with service.http.post(url, headers=headers) as answer:
                statuses.append(answer.status)
        refused = sandbox.created()
        async with service.http.post(
            url,
            headers={**AS_CUSTOMER, "Origin": service.origin},
            allow_redirects=False,
        ) as answer:
            begun = answer.status

    assert '<form method="post">' in page
    assert page.count("<button>") == 1
    assert "form-action" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (before, refused, statuses) == (0, 0, [403] * 4)
    assert (begun, sandbox.created()) == (
        {"connect": 200, "redirect": 303}[way],
        1,
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
        {"Purpose": "Prefetch"},
        {"X-Moz": "prefetch"},
        {"X-Purpose": "preview"},
        {"Purpose": "prefetch", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("way", ["connect", "redirect"])
async def test_a_prefetch(serve, way, headers):
    """
    A prefetch creates nothing, and its page is not shown later.
    """
    async with (
        serve() as service,
        service.http.get(
            f"{service.base}/{way}", headers={**AS_CUSTOMER, **headers}
        ) as answer,
    ):
        assert answer.status == 403
        assert answer.headers["Cache-Control"] == "no-store"
        assert service.sandbox.created() == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "connect"),
        ("HEAD", "connect"),
        ("PUT", "redirect"),
        ("HEAD", "redirect"),
        ("POST", "return/x"),
        ("HEAD", "return/x"),
        ("GET", "events"),
        ("OPTIONS", "events"),
        ("GET", "webhook/x"),
    ],
)
async def test_other_methods(serve, told, method, path):
    """
    Each endpoint allows its own methods only; the preflight of another site is
    refused.
    """
    async with (
        serve() as service,
        service.http.request(method, f"{service.base}/{path}") as answer,
    ):
        assert answer.status == 405
    assert told.events == told.failures == []


async def endless(size):
    """
    A body of unknown length that is larger than *size*.
    """
    for _ in range(size // 1024 + 64):
        yield b" " * 1024


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(
    ("endpoint", "limit"), [("events", MAX_EVENT), ("webhook", MAX_WEBHOOK)]
)
async def test_large_bodies(serve, endpoint, limit, chunked):
    """
    A body over the limit is refused, whether or not it says its length.
    """
    async with serve() as service:
        url = {
            "events": f"{service.base}/events",
            "webhook": service.endpoints.protocol.webhook_url,
        }[endpoint]
        data = endless(limit) if chunked else io.BytesIO(b" " * (limit + 1))
        async with service.http.post(
            url, data=data, headers={"Content-Type": "application/json"}
        ) as answer:
            assert answer.status == 413


async def test_compressed_bodies(serve):
    """
    A compressed body is refused, because it could unpack to any size.
    """
    async with (
        serve() as service,
        service.http.post(
            service.endpoints.protocol.webhook_url,
            data=b"{}",
            compress="gzip",
            headers={"Content-Type": "application/json"},
        ) as answer,
    ):
        assert answer.status == 415


async def test_behind_a_proxy_that_rewrites(serve, told):
    """
    Behind a proxy that strips the prefix, URLs keep the public path.
    """
    async with serve(prefix="") as service:
        protocol = service.endpoints.protocol
        for url in (
            f"{protocol.return_url('customer-42')}?success=false",
            protocol.webhook_url,
        ):
            seen = URL(url.replace("/bank/", "/"), encoded=True)
            post = "webhook" in url
            async with service.http.request(
                "POST" if post else "GET",
                seen,
                json={"progress": "completed"} if post else None,
            ) as answer:
                assert answer.status == 200

    assert [type(event) for event in told.events] == [
        ExitEvent,
        ExtractionWebhook,
    ]


async def test_swapped_ids_are_caught(serve, told):
    """
    Another customer's entity behind one's own signed URL is no success.
    """
    async with serve("entity") as service:
        victim = await service.bank.create_session("victim")
        played = await service.sandbox.play(victim.session_id, "success")
        entity_id = played.messages[0]["payload"]["entityId"]
        url = service.endpoints.protocol.return_url("thief")
        async with service.http.get(
            f"{url}?success=true&entity_id={entity_id}"
        ) as answer:
            assert answer.status == 403
            assert "could not confirm" in await answer.text()

    ((event, error),) = told.failures
    assert told.events == []
    assert (event.link_id, event.entity_id) == ("thief", entity_id)
    assert isinstance(error, InvalidCallbackError)
