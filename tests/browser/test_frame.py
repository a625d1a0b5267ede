"""
The inline-frame workflow in a real browser.
"""

import pytest

from playwright.async_api import expect

from bankconnect_async import (
    ErrorEvent,
    ErrorType,
    EventName,
    ExitEvent,
    InfoEvent,
    SuccessEvent,
)


pytestmark = pytest.mark.asyncio(loop_scope="session")

CURRENT = ("entity", "session")
DIALECTS = ("seed", *CURRENT)
THANKS = "Thank you. Your statements are being checked."
LEFT = "You have left the bank connection."
UNCLEAR = "The bank connection is not complete yet."


@pytest.mark.parametrize("mode", ["Upload PDF", "Net banking"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_success(serve, page, framed, until, dialect, mode):
    """
    A success closes the frame, and is confirmed when the service receives it.
    """
    async with serve(dialect) as service:
        await page.goto(f"{service.base}/connect")
        await framed(page).open(mode)
        await framed(page).succeed()
        await expect(page.get_by_role("status")).to_have_text(THANKS)
        await until(lambda: service.received.outcomes)

    (event,) = service.received.outcomes
    assert isinstance(event, SuccessEvent)
    assert (event.link_id, event.confirmed) == ("customer-42", True)
    assert service.received.failures == []
    assert await page.locator("iframe").count() == 0


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_leave(serve, page, framed, until, dialect):
    """
    After an exit, a focused sentence replaces the frame.
    """
    async with serve(dialect) as service:
        await page.goto(f"{service.base}/connect")
        await framed(page).leave()
        if dialect == "seed":
            # There the page cannot tell leaving from a failure.
            await page.get_by_role("button", name="Leave").click()
        note = page.get_by_role("status")
        await expect(note).to_have_text(LEFT)
        await expect(note).to_be_focused()
        await until(lambda: service.received.outcomes)

    (event,) = service.received.outcomes
    assert isinstance(event, ExitEvent)
    assert event.link_id == "customer-42"
    assert event.is_failure is (None if dialect == "seed" else False)


@pytest.mark.parametrize("dialect", CURRENT)
async def test_failure_then_exit(serve, page, framed, until, dialect):
    """
    A failure followed by an exit is two events, in that order.
    """
    async with serve(dialect) as service:
        await page.goto(f"{service.base}/connect")
        await framed(page).open()
        await framed(page).fail("MU004", leave=True)
        await expect(page.get_by_role("status")).to_have_text(LEFT)
        await until(lambda: len(service.received.outcomes) == 2)

    failure, exit_ = service.received.outcomes
    assert isinstance(failure, ErrorEvent)
    assert failure.error_type is ErrorType.BANK_MISMATCH
    assert failure.reason == "Not axis statement"
    assert isinstance(exit_, ExitEvent)


async def test_wrong_password_in_the_first_dialect(
    serve, serve_page, page, framed
):
    """
    In the first dialect a failure looks like an exit: the frame stays open,
    and the customer tries the next password in it.
    """
    async with (
        serve_page("<title>Account</title>") as account,
        serve("seed", next_url=f"{account}/") as service,
    ):
        await page.goto(f"{service.base}/connect")
        await framed(page).open()
        await framed(page).fail("MU003")
        await expect(page.get_by_role("status")).to_have_text(UNCLEAR)
        for name in ("Try again", "Leave"):
            await expect(
                page.get_by_role("button", name=name)
            ).to_be_in_viewport()
        await framed(page).succeed()
        await page.wait_for_url(f"{account}/")

    failure, success = service.received.events
    assert isinstance(failure, ExitEvent)
    assert failure.is_failure is None
    assert failure.reason == "Password Incorrect"
    assert isinstance(success, SuccessEvent)
    assert success.confirmed is True


async def test_trying_again_in_the_first_dialect(serve, page, framed, until):
    """
    The button opens the page again, which continues the session; another
    button starts a new one, and is gone after the success.
    """
    async with serve("seed") as service:
        await page.goto(f"{service.base}/connect#here")
        await framed(page).open()
        await framed(page).fail("MU003", leave=True)
        await until(lambda: len(service.received.events) == 2)
        start_again = page.get_by_role("button", name="Start again")
        await expect(start_again).to_have_count(0)
        await page.get_by_role("button", name="Try again").click()
        await expect(start_again).to_be_visible()
        assert service.sandbox.created() == 1
        await start_again.click()
        await until(lambda: service.sandbox.created() == 2)
        await expect(page.get_by_role("status")).to_have_count(0)
        await framed(page).open()
        await framed(page).succeed()
        await expect(page.get_by_role("status")).to_have_text(THANKS)
        await expect(page.get_by_role("button")).to_have_count(0)


async def test_leaving_in_the_first_dialect(serve, serve_page, page, framed):
    """
    The button ends the journey, and the browser goes on as after any exit.
    """
    async with (
        serve_page("<title>Account</title>") as account,
        serve("seed", next_url=f"{account}/") as service,
    ):
        await page.goto(f"{service.base}/connect")
        await framed(page).leave()
        await page.get_by_role("button", name="Leave").click()
        await page.wait_for_url(f"{account}/")

    (event,) = service.received.events
    assert isinstance(event, ExitEvent)


@pytest.mark.parametrize("dialect", CURRENT)
async def test_coming_back_after_an_exit(serve, page, framed, until, dialect):
    """
    A customer who left the frame can continue, or start again.
    """
    async with serve(dialect) as service:
        await page.goto(f"{service.base}/connect")
        for _ in range(2):
            await framed(page).leave()
            await expect(page.get_by_role("status")).to_have_text(LEFT)
            await expect(page.get_by_role("button")).to_have_count(1)
            await page.get_by_role("button", name="Try again").click()
        assert service.sandbox.created() == 1
        await page.get_by_role("button", name="Start again").click()
        await framed(page).open()
        await until(lambda: service.sandbox.created() == 2)
        # What the page still has to tell would find the service gone.
        await page.goto("about:blank")


@pytest.mark.parametrize(
    ("mode", "prefix"), [("Upload PDF", "MU"), ("Net banking", "NB")]
)
async def test_every_failure_keeps_the_frame(
    serve, page, framed, until, mode, prefix
):
    """
    The frame stays open through every documented failure, until a success.
    """
    codes = [code for code in ErrorType if code.startswith(prefix)]
    async with serve("entity") as service:
        await page.goto(f"{service.base}/connect")
        journey = framed(page)
        await journey.open(mode)
        for count, code in enumerate(codes, 1):
            await journey.fail(code.value)
            await expect(journey.at.get_by_role("alert")).to_contain_text(code)
            await until(
                lambda count=count: len(service.received.outcomes) == count
            )
            await expect(page.locator("iframe")).to_be_visible()
        await journey.succeed()
        await expect(page.get_by_role("status")).to_have_text(THANKS)
        await until(lambda: len(service.received.outcomes) == len(codes) + 1)

    *failures, success = service.received.outcomes
    assert [event.error_type for event in failures] == codes
    assert isinstance(success, SuccessEvent)


async def test_steps(serve, page, framed, until):
    """
    Intermediate steps are reported, too, and close nothing.
    """
    async with serve("session", bank_name=None) as service:
        await page.goto(f"{service.base}/connect")
        journey = framed(page)
        await journey.open(bank="Axis Bank")
        # The view before it has a button of this name, too.
        finish = journey.at.get_by_role("button", name="and finish")
        await expect(finish).to_be_visible()
        await journey.at.get_by_role("button", name="Back").click()
        await until(lambda: len(service.received.events) == 3)
        await expect(page.locator("iframe")).to_be_visible()

    assert [event.event_name for event in service.received.events] == [
        EventName.BANK_SELECTED,
        EventName.MANUAL,
        EventName.MANUAL_UPLOAD_BACK,
    ]
    assert all(isinstance(one, InfoEvent) for one in service.received.events)


async def test_goes_on(serve, serve_page, page, framed):
    """
    With a `next_url`, the browser goes there at the end.
    """
    async with (
        serve_page("<title>Account</title>") as account,
        serve("entity", next_url=f"{account}/?from=bank") as service,
    ):
        await page.goto(f"{service.base}/connect")
        await framed(page).leave()
        await page.wait_for_url(f"{account}/?from=bank")
        assert await page.title() == "Account"

    assert len(service.received.outcomes) == 1


async def test_keyboard_only(serve, page, framed, until):
    """
    A whole journey works without a mouse.
    """

    async def tab_to(name):
        target = framed(page).at.get_by_role("button", name=name)
        for _ in range(30):
            await page.keyboard.press("Tab")
            if await target.evaluate("it => it === document.activeElement"):
                return
        pytest.fail(f"Tab never comes to {name}")

    async with serve("entity", bank_name=None) as service:
        await page.goto(f"{service.base}/connect")
        at = framed(page).at
        await expect(at.get_by_label("Search by name")).to_be_visible()
        await tab_to("Leave")
        await page.keyboard.press("Tab")
        await expect(at.get_by_label("Search by name")).to_be_focused()
        await page.keyboard.type("axis")
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await expect(
            at.get_by_role("heading", name="How do you want")
        ).to_be_focused()
        await tab_to("Upload PDF")
        await page.keyboard.press("Space")
        await expect(
            at.get_by_role("heading", name="Upload your statements")
        ).to_be_focused()
        await tab_to("Upload and finish")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_be_focused()
        await until(lambda: service.received.outcomes)

    assert isinstance(service.received.outcomes[-1], SuccessEvent)


async def test_phone(serve, new_context, framed, until):
    """
    On a small phone nothing is wider than the screen, and everything is
    reachable.
    """
    context = await new_context(
        viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True
    )
    page = await context.new_page()
    too_wide = "() => document.scrollingElement.scrollWidth > innerWidth"
    async with serve("entity", bank_name=None) as service:
        await page.goto(f"{service.base}/connect")
        journey = framed(page)
        await expect(journey.at.get_by_label("Search by name")).to_be_visible()
        _, inner = page.frames
        await journey.choose_bank("Axis Bank")
        for step, heading in (
            ("Upload PDF", "Upload your statements"),
            ("Back", "How do you want"),
            ("Net banking", "Log in to net banking"),
        ):
            await journey.at.get_by_role("button", name=step).tap()
            await expect(
                journey.at.get_by_role("heading", name=heading)
            ).to_be_focused()
            assert not await page.evaluate(too_wide)
            assert not await inner.evaluate(too_wide)
            for button in await journey.at.get_by_role("button").all():
                # It could be tapped: visible, and nothing in front of it.
                await button.tap(trial=True)
        await journey.at.get_by_role("button", name="and finish").tap()
        await expect(page.get_by_role("status")).to_have_text(THANKS)
        assert not await page.evaluate(too_wide)
        await until(lambda: service.received.outcomes)

    assert isinstance(service.received.outcomes[-1], SuccessEvent)
