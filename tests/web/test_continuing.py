"""
The pages continue the session that a customer began, or begin a new one.
"""

import asyncio
import datetime
import html
import re

import pytest

from yarl import URL

from bankconnect_async import MemorySessionStore, SessionRequest, SessionState
from bankconnect_async.sandbox import Fault, Sandbox
from bankconnect_async.testing import FakeClock
from bankconnect_async.web import WebRequest


WAYS = ["connect", "redirect"]
ORIGIN = "https://lender.example"
SRC = re.compile(r'<iframe src="([^"]*)"')
AGAIN = re.compile(r'action="([^"]*bankconnect_after=[^"]*)"')


def visit(way, query="", **headers):
    """
    Return the request of a browser for a page.
    """
    return WebRequest(path=f"/bank/{way}{query}", headers=headers)


def start_again(page):
    """
    Return the request that the button "Start again" of *page* sends.
    """
    (path,) = AGAIN.findall(page.body.decode())
    return WebRequest(
        method="POST",
        path=html.unescape(path),
        headers={"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"},
    )


def proceed(way):
    """
    Return the request that the button "Continue" sends.
    """
    return WebRequest(
        method="POST", path=f"/bank/{way}", headers={"Origin": ORIGIN}
    )


@pytest.fixture(name="sandbox")
async def _sandbox():
    """Run a sandbox of the session flow."""
    async with Sandbox("session") as sandbox:
        yield sandbox


@pytest.fixture(name="clock")
def _clock():
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture(name="bank")
async def _bank(sandbox, bank_of, clock):
    """Return a client with that clock."""
    async with bank_of(sandbox, clock=clock) as bank:
        yield bank


@pytest.fixture(name="timed")
def _timed(make, protocol, clock):
    """Make a service with that clock, or another one."""

    def timed(bank, *, now=clock.time, **settings):
        return make(bank, protocol=protocol(now=now), **settings)

    return timed


@pytest.fixture(name="service")
def _service(timed, bank):
    """Return a service with that clock."""
    return timed(bank)


@pytest.mark.parametrize("way", WAYS)
async def test_30_loads_make_one_session(timed, sandbox, bank_of, bank, way):
    """
    Of 30 loads at once in two processes, one creates a session.
    """
    async with bank_of(sandbox, store=bank.store) as other:
        services = [timed(bank), timed(other)]
        pages = await asyncio.gather(
            *(
                getattr(services[number % 2], way)(visit(way), "customer-42")
                for number in range(30)
            )
        )

    assert sandbox.created() == 1
    assert {page.status for page in pages} <= {200, 303}


@pytest.mark.parametrize("way", WAYS)
async def test_after_its_expiry(service, sandbox, clock, way):
    """
    After the expiry of a session, the next visit creates one more.
    """
    customer = SessionRequest(
        link_id="customer-42", redirect_url=None, session_expiry=10
    )
    begin = getattr(service, way)
    created = []
    for minutes in (0, 9, 2, 1):
        await clock.sleep(60 * minutes)
        await begin(visit(way), customer)
        created.append(sandbox.created())

    assert created == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("settings", "visits"),
    [
        ({}, [(0, 1), (29, 1), (2, 2)]),
        ({"continue_for": datetime.timedelta(hours=2)}, [(0, 1), (31, 1)]),
        ({"continue_for": None}, [(0, 1), (0, 2)]),
    ],
)
async def test_age(timed, bank, clock, settings, visits):
    """
    A session is continued up to the age of the setting.
    """
    service, pages = timed(bank, **settings), []
    for minutes, created in visits:
        await clock.sleep(60 * minutes)
        page = await service.connect(visit("connect"), "customer-42")
        pages.append(SRC.search(page.body.decode())[1])
        assert len(set(pages)) == created


async def test_a_store_without_urls(make, sandbox, bank_of):
    """
    With a store that keeps no URLs, each visit has a session of its own, and
    none waits for another.
    """

    class WithoutUrls(MemorySessionStore):
        keeps_urls = False

        async def reserve(self, *_, **__):
            raise AssertionError

    async with bank_of(sandbox, store=WithoutUrls()) as bank:
        service = make(bank)
        for _ in range(2):
            await service.connect(visit("connect"), "customer-42")

    assert sandbox.created() == 2


async def test_start_again(service, sandbox, clock):
    """
    A page that continues has a button for a new session. Two taps, and a
    reload of what came of them, give one; the old one stays in the store.
    """
    first = await service.connect(visit("connect", "?a=b"), "customer-42")
    await clock.sleep(60)
    second = await service.connect(visit("connect", "?a=b"), "customer-42")
    tap = start_again(second)
    await clock.sleep(60)
    pages = await asyncio.gather(
        *(service.connect(tap, "customer-42") for _ in range(2))
    )
    reloaded = await service.connect(tap, "customer-42")

    assert not AGAIN.search(first.body.decode())
    assert tap.path.startswith("/bank/connect?a=b&bankconnect_after=")
    assert {page.status for page in (*pages, reloaded)} == {200}
    assert sandbox.created() == 2
    policy = second.headers["Content-Security-Policy"]
    assert "form-action 'self'" in policy
    entries = await service.bank.store.find(
        api_id=service.bank.store_api_id, link_id="customer-42"
    )
    assert [entry.state for entry in entries] == [SessionState.OPENED] * 2
    # The next one can be left as well.
    await clock.sleep(60)
    await service.connect(start_again(reloaded), "customer-42")
    assert sandbox.created() == 3


async def test_redirect_asks(service, sandbox, clock):
    """
    Before a redirect to a session that was begun, a page offers to continue
    or to start again.
    """
    first = await service.redirect(visit("redirect"), "customer-42")
    page = await service.redirect(visit("redirect"), "customer-42")
    on = await service.redirect(proceed("redirect"), "customer-42")
    await clock.sleep(1)
    again = await service.redirect(start_again(page), "customer-42")

    assert [reply.status for reply in (first, page, on, again)] == [
        303,
        200,
        303,
        303,
    ]
    assert b"already begun" in page.body
    assert on.headers["Location"] == first.headers["Location"]
    assert again.headers["Location"] != first.headers["Location"]
    assert sandbox.created() == 2


@pytest.mark.parametrize(
    "path",
    [
        "?bankconnect_after=",
        "?bankconnect_after=-1",
        "?bankconnect_after=1e9",
        "?bankconnect_after=99999999999999999999999",
        "?xbankconnect_after=1",
    ],
)
async def test_a_mark_that_is_none_of_ours(service, sandbox, path):
    """
    A mark that no page of ours wrote is ignored.
    """
    for _ in range(2):
        call = WebRequest(
            method="POST",
            path=f"/bank/connect{path}",
            headers={"Origin": ORIGIN},
        )
        reply = await service.connect(call, "customer-42")
        assert reply.status == 200

    assert sandbox.created() == 1


async def test_another_site_cannot_start_again(service, sandbox, clock):
    """
    A button on a page of another site creates no session.
    """
    await service.connect(visit("connect"), "customer-42")
    await clock.sleep(1)
    page = await service.connect(visit("connect"), "customer-42")
    call = WebRequest(
        method="POST",
        path=start_again(page).path,
        headers={"Origin": "https://evil.example"},
    )

    assert (await service.connect(call, "customer-42")).status == 403
    assert sandbox.created() == 1


@pytest.mark.parametrize(
    "others",
    [
        ("connect", "customer-43"),
        ("redirect", "customer-42"),
        (
            "connect",
            SessionRequest(
                link_id="customer-42", redirect_url=None, bank_name="axis"
            ),
        ),
    ],
)
async def test_only_the_same_journey(service, sandbox, others):
    """
    Another customer, workflow or request has a session of its own.
    """
    way, customer = others
    for _ in range(2):
        await service.connect(visit("connect"), "customer-42")
        reply = await getattr(service, way)(visit(way), customer)
        assert reply.status in {200, 303}

    assert sandbox.created() == 2


async def test_submitted(service, sandbox):
    """
    A session whose statements were submitted is not continued.
    """
    await service.connect(visit("connect"), "customer-42")
    (entry,) = await service.bank.store.find(
        api_id=service.bank.store_api_id, link_id="customer-42"
    )
    await service.bank.store.advance(
        entry.entry_id, SessionState.SUBMITTED, at=entry.created_at
    )
    await service.connect(visit("connect"), "customer-42")

    assert sandbox.created() == 2


async def test_a_create_that_fails(make, sandbox, bank_of):
    """
    If the vendor fails, the next load tries at once.
    """
    sandbox.faults.script(Fault.status(500))
    async with bank_of(sandbox) as bank:
        service = make(bank)
        pages = [
            await service.connect(visit("connect"), "customer-42")
            for _ in range(2)
        ]

    assert [page.status for page in pages] == [503, 200]


async def test_a_load_that_is_cancelled(service, monkeypatch, sandbox, until):
    """
    A browser that has gone while its session was created blocks no other.
    """
    entered, create = asyncio.Event(), service.bank.create_session

    async def stuck(*_, **__):
        entered.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(service.bank, "create_session", stuck, raising=False)
    load = asyncio.create_task(
        service.connect(visit("connect"), "customer-42")
    )
    await entered.wait()
    load.cancel()
    await asyncio.wait([load])
    monkeypatch.setattr(service.bank, "create_session", create)
    async with asyncio.timeout(10):
        page = await service.connect(visit("connect"), "customer-42")

    assert load.cancelled()
    assert page.status == 200


async def test_clocks_a_minute_apart(timed, sandbox, bank_of, clock):
    """
    Processes whose clocks differ by a minute continue each other's sessions,
    and start them again.
    """
    store = MemorySessionStore()
    fast = FakeClock()
    await fast.sleep(60)
    async with (
        bank_of(sandbox, store=store, clock=clock) as one,
        bank_of(sandbox, store=store, clock=fast) as other,
    ):
        services = [timed(one), timed(other, now=fast.time)]
        for first, second in (services, services[::-1]):
            begun = sandbox.created()
            link_id = f"customer-{begun}"
            await first.connect(visit("connect"), link_id)
            await clock.sleep(1)
            await fast.sleep(1)
            page = await second.connect(visit("connect"), link_id)
            assert sandbox.created() == begun + 1
            tap = start_again(page)
            await clock.sleep(61)
            await fast.sleep(61)
            for service in (second, first):
                await service.connect(tap, link_id)
            assert sandbox.created() == begun + 2


async def test_a_scope_for_each_campaign(bank, service, sandbox):
    """
    Two campaigns of one customer have a session each, and a return of one
    leaves the other as it is.
    """
    journeys = [
        await service._begin(
            proceed("redirect"),
            "customer-42",
            is_frame=False,
            scope=scope,
        )
        for scope in ("spring", "autumn", "spring")
    ]
    spring, autumn, same = journeys
    played = await sandbox.play(autumn.session.session_id, "success")
    reply = await service.handle_return(
        WebRequest(path=URL(played.redirect, encoded=True).raw_path_qs)
    )
    entries = await bank.store.find(
        api_id=bank.store_api_id, link_id="customer-42"
    )
    await service.aclose()

    assert same.session.url == spring.session.url
    assert reply.status == 200
    assert {entry.key.scope: entry.state for entry in entries} == {
        "spring": SessionState.OPENED,
        "autumn": SessionState.SUBMITTED,
    }
