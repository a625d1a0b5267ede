"""
The journey in the web view of a mobile app, and its Account Aggregator mode.

Stand-ins take the place of the objects that apps put into the page.
"""

import pytest

from playwright.async_api import expect

from bankconnect_async import (
    AsyncBankConnect,
    ErrorEvent,
    ExitEvent,
    InfoEvent,
    SuccessEvent,
    decode_event,
)
from bankconnect_async._codec.browser_messages import Channel
from bankconnect_async.sandbox import Sandbox


pytestmark = pytest.mark.asyncio(loop_scope="session")

ANDROID = """
window.heard = [];
window.BankConnectAndroid = Object.fromEntries(
  ["onResult", "onSuccess", "onExit", "onError", "onInfo"].map(
    (name) => [name, (text) => heard.push([name, JSON.parse(text)])]));
"""
WEBKIT = """
window.heard = [];
window.webkit = { messageHandlers: { BankConnectFlutter: {
  postMessage: (message) => heard.push(["postMessage", message]) } } };
"""
FETCH = """
async ([url, body]) => {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", "x-api-key": body.api_key },
    body: JSON.stringify(body),
  });
  return response.json();
}
"""
CHANNELS = {
    "onSuccess": Channel.WEBVIEW_SUCCESS,
    "onExit": Channel.WEBVIEW_EXIT,
    "onError": Channel.WEBVIEW_ERROR,
    "onInfo": Channel.WEBVIEW_INFO,
}
RECURRING = {
    "aa_journey_mode": "only_recurring",
    "aa_recurring_frequency_unit": "month",
    "aa_recurring_frequency_value": 1,
}


def heard_by(heard, name):
    """Return what one function was called with, in order."""
    return [message for each, message in heard if each == name]


async def play(page, alone, sandbox, script, **parameters):
    """
    Fail with a wrong password, succeed, and return what the app heard.
    """
    await page.add_init_script(script)
    async with AsyncBankConnect(
        sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
    ) as bank:
        session = await bank.create_session("customer-42", **parameters)
    await page.goto(session.url)
    journey = alone(page)
    await journey.open(bank="Axis Bank")
    await journey.fail("MU003")
    await expect(page.get_by_role("alert")).to_contain_text("MU003")
    await journey.succeed()
    await expect(page.get_by_role("heading")).to_have_text(
        "Statements submitted"
    )
    return await page.evaluate("heard")


@pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
async def test_android(page, alone, dialect):
    """
    `onResult` hears every event once, and each other function its own.
    """
    async with Sandbox(dialect) as sandbox:
        heard = await play(page, alone, sandbox, ANDROID)

    events = [decode_event(each) for each in heard_by(heard, "onResult")]
    payloads = [
        decode_event(payload, channel=CHANNELS[name])
        for name, payload in heard
        if name in CHANNELS
    ]
    kinds = (
        [ExitEvent, SuccessEvent]
        if dialect == "seed"
        else [InfoEvent, InfoEvent, ErrorEvent, SuccessEvent]
    )
    assert [type(event) for event in events] == kinds
    assert len(heard) == 2 * len(kinds)
    if dialect != "seed":
        assert payloads == events


@pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
async def test_webkit(page, alone, dialect):
    """
    The message handler hears every event once, as an object.
    """
    async with Sandbox(dialect) as sandbox:
        heard = await play(page, alone, sandbox, WEBKIT)

    events = [decode_event(each) for each in heard_by(heard, "postMessage")]
    assert len(events) == len(heard) == (2 if dialect == "seed" else 4)
    assert isinstance(events[-1], SuccessEvent)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
async def test_session_from_the_browser(page, serve_page, dialect, version):
    """
    A page of this machine creates a session, as the React sample does.
    """
    async with (
        Sandbox(dialect) as sandbox,
        serve_page("<title>App</title>") as origin,
    ):
        await page.goto(origin)
        created = await page.evaluate(
            FETCH,
            [
                f"{sandbox.base_url}/{version}/session/",
                {"link_id": "customer-42", "api_key": sandbox.api_key},
            ],
        )
        (session,) = sandbox.sessions.values()

    assert created["redirect_url"] == session.redirect_url


@pytest.mark.parametrize("parameters", [{}, RECURRING], ids=["once", "again"])
@pytest.mark.parametrize(
    "failure", [None, "CONSENT_REJECTED", "CONSENT_FAILED"]
)
async def test_account_aggregator(page, alone, failure, parameters):
    """
    A consent is approved, rejected or fails; a recurring one is then listed.
    """
    await page.add_init_script(WEBKIT)
    async with (
        Sandbox("session") as sandbox,
        AsyncBankConnect(
            sandbox.api_key,
            server_hash=sandbox.server_hash,
            base_url=sandbox.base_url,
            redirect_url=None,
        ) as bank,
    ):
        session = await bank.create_session(
            "customer-42", mode="aa", bank_name="hdfc", **parameters
        )
        await page.goto(session.url)
        journey = alone(page)
        if failure is None:
            await journey.succeed()
        else:
            await journey.fail(failure, leave=True)
        await expect(page.get_by_role("heading")).to_have_text(
            "You have left" if failure else "Statements submitted"
        )
        heard = await page.evaluate("heard")
        consents = await bank.session(session).recurring_consents()
        status = await bank.session(session).upload_status()

    events = [decode_event(message) for _, message in heard]
    if failure is None:
        (success,) = events
        assert success == SuccessEvent(
            link_id="customer-42", session_id=session.session_id
        )
    else:
        error, _ = events
        assert error == ErrorEvent(
            link_id="customer-42",
            reason=failure.replace("_", " ").capitalize(),
        )
        assert isinstance(events[1], ExitEvent)
    assert status.upload_status == ("NO_UPLOADS" if failure else "COMPLETED")
    assert len(consents) == (1 if parameters and not failure else 0)


@pytest.mark.parametrize("dialect", ["seed", "entity"])
async def test_choice_of_account_aggregator(page, alone, until, dialect):
    """
    The page offers it where the dialect knows it.
    """
    async with (
        Sandbox(dialect) as sandbox,
        AsyncBankConnect(
            sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
        ) as bank,
    ):
        session = await bank.create_session("customer-42")
        await page.goto(session.url)
        await alone(page).choose_bank("HDFC Bank")
        choice = page.get_by_role("button", name="Account Aggregator")
        await expect(choice).to_have_count(0 if dialect == "seed" else 1)
        if dialect == "entity":
            await choice.click()
            await alone(page).succeed()
            await until(lambda: sandbox.entities)
            (entity,) = sandbox.entities.values()
            assert entity.link_id == "customer-42"
