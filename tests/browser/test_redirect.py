"""
The redirect workflow in a real browser.
"""

import re

import pytest

from playwright.async_api import expect

from bankconnect_async import ExitEvent, SuccessEvent


pytestmark = pytest.mark.asyncio(loop_scope="session")

DIALECTS = ("seed", "entity", "session")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_success(serve, page, alone, dialect):
    """
    After the redirects the page says thanks, and the success is confirmed.
    """
    async with serve(dialect) as service:
        await page.goto(f"{service.base}/redirect")
        journey = alone(page)
        await journey.open()
        await journey.succeed()
        await expect(page.get_by_text("Thank you.")).to_be_visible()
        (cookie,) = await page.context.cookies()

    (event,) = service.received.events
    assert isinstance(event, SuccessEvent)
    assert (event.link_id, event.confirmed) == ("customer-42", True)
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert re.fullmatch("/bank/return/[0-9a-f]{8}", cookie["path"])


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_leave(serve, page, alone, dialect):
    """
    After an exit, which may be a failure, a page in neutral words offers to
    try again: to continue the journey, or to start again.
    """
    async with serve(dialect) as service:
        await page.goto(f"{service.base}/redirect")
        await alone(page).leave()
        await expect(page.get_by_text("not complete yet")).to_be_visible()
        await page.get_by_role("link", name="Try again").click()
        await expect(page.get_by_text("already begun")).to_be_visible()
        await page.get_by_role("button", name="Continue").click()
        await alone(page).leave()
        assert service.sandbox.created() == 1
        await page.get_by_role("link", name="Try again").click()
        await page.get_by_role("button", name="Start again").click()
        await alone(page).open()
        assert service.sandbox.created() == 2

    assert service.received.events == [ExitEvent(link_id="customer-42")] * 2


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_failure_then_exit(serve, page, alone, dialect):
    """
    A failure stays inside the journey; only an exit returns.
    """
    async with serve(dialect) as service:
        await page.goto(f"{service.base}/redirect")
        journey = alone(page)
        await journey.open("Net banking")
        await journey.fail("NB004")
        await expect(page.get_by_role("alert")).to_contain_text("NB004")
        assert service.received.events == []
        await journey.fail("NB005", leave=True)
        await expect(page.get_by_text("not complete yet")).to_be_visible()

    assert service.received.events == [ExitEvent(link_id="customer-42")]


async def test_failure_then_success(serve, page, alone):
    """
    After a failure the customer may try again.
    """
    async with serve("session") as service:
        await page.goto(f"{service.base}/redirect")
        journey = alone(page)
        await journey.open()
        await journey.fail()
        await expect(page.get_by_role("alert")).to_contain_text("MU002")
        await journey.succeed()
        await expect(page.get_by_text("Thank you.")).to_be_visible()

    (event,) = service.received.events
    assert event.confirmed is True


async def test_goes_on(serve, serve_page, page, alone):
    """
    With a `next_url`, the browser ends there after a success, without the
    outcome in the URL; after an exit there is a link to it.
    """
    async with (
        serve_page("<title>Account</title>") as account,
        serve("entity", next_url=f"{account}/") as service,
    ):
        await page.goto(f"{service.base}/redirect")
        await alone(page).leave()
        await page.get_by_role("link", name="Continue").click()
        await page.wait_for_url(f"{account}/")
        await page.goto(f"{service.base}/redirect")
        await page.get_by_role("button", name="Continue").click()
        await alone(page).open()
        await alone(page).succeed()
        await page.wait_for_url(f"{account}/")
        assert await page.evaluate("document.referrer") == ""

    assert len(service.received.events) == 2


async def test_swapped_ids(serve, page, watch):
    """
    Another customer's entity behind one's own signed URL is no success.
    """
    watch.expected.append("status of 403")
    async with serve("entity") as service:
        victim = await service.bank.create_session("victim")
        played = await service.sandbox.play(victim.session_id, "success")
        entity_id = played.messages[0]["payload"]["entityId"]
        url = service.protocol.return_url("customer-42")
        await page.goto(f"{url}?success=true&entity_id={entity_id}")
        await expect(page.get_by_text("could not confirm")).to_be_visible()

    assert service.received.events == []
    ((event, _),) = service.received.failures
    assert (event.link_id, event.confirmed) == ("customer-42", False)
