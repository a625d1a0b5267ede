"""
Journeys without a browser: `Sandbox.play` and `Sandbox.expire`.
"""

import pytest

from bankconnect_async import AsyncBankConnect, InvalidRequestError
from bankconnect_async._codec.browser_messages import decode_event
from bankconnect_async._codec.return_urls import ReturnURL
from bankconnect_async.sandbox import Sandbox


async def test_round_trip():
    """
    The events of a played journey decode with the client's own functions.
    """
    base = ReturnURL("https://lender.example/return", secret="s" * 32)
    async with (
        Sandbox() as sandbox,
        AsyncBankConnect(
            sandbox.api_key,
            base_url=sandbox.base_url,
            redirect_url=str(base.build("customer-42")),
        ) as bank,
    ):
        session = await bank.create_session("customer-42")
        played = await sandbox.play(session.session_id, "success")

    (message,) = played.messages
    event = base.decode(played.redirect)
    assert event.link_id == "customer-42"
    assert event == decode_event(message)
    assert sandbox.entities[event.entity_id].link_id == "customer-42"


async def test_same_as_the_page(http, create):
    """
    Playing a step and clicking it have the same effect.
    """
    async with Sandbox("session") as sandbox:
        session = await create(sandbox, redirect_url="https://a.example/")
        played = await sandbox.play(session.session_id, "failure")
        async with http.post(
            session.redirect_url, json={"action": "failure"}
        ) as response:
            clicked = await response.json()

    assert clicked == {
        "messages": list(played.messages),
        "redirect": played.redirect,
    }


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"action": "win"}, "action"),
        ({"action": "failure", "error_type": "MU999"}, "error_type"),
        ({"action": "success", "mode": "fax"}, "mode"),
        ({"action": "bank_selected", "bank": " "}, "bank"),
    ],
)
async def test_bad_arguments(sandbox, create, arguments, field):
    """
    The error names a bad argument.
    """
    session = await create(sandbox)

    with pytest.raises(InvalidRequestError) as caught:
        await sandbox.play(session.session_id, **arguments)

    assert caught.value.fields.keys() == {field}


async def test_over(sandbox, create):
    """
    A finished journey refuses further steps with the reason.
    """
    done, late = [await create(sandbox) for _ in range(2)]
    await sandbox.play(done.session_id, "success")
    sandbox.expire(late.session_id)

    with pytest.raises(InvalidRequestError, match="completed"):
        await sandbox.play(done.session_id, "exit")
    with pytest.raises(InvalidRequestError, match="expired"):
        await sandbox.play(late.session_id, "success")
    with pytest.raises(InvalidRequestError, match="not a session"):
        await sandbox.play("1d", "success")
    with pytest.raises(InvalidRequestError, match="not a session"):
        sandbox.expire("1d")


async def test_not_running(sandbox, create):
    """
    A sandbox that does not run plays nothing.
    """
    session = await create(sandbox)
    await sandbox.aclose()

    with pytest.raises(RuntimeError, match="async with"):
        await sandbox.play(session.session_id, "success")


async def test_restart(create, receiver):
    """
    A restarted sandbox continues its journeys and webhooks.
    """
    sandbox = Sandbox(webhook_url=receiver.url)
    async with sandbox:
        session = await create(sandbox)
        await sandbox.play(session.session_id, "failure")
        await sandbox.webhooks_sent()
    async with sandbox:
        await sandbox.play(session.session_id, "success")
        sent = await sandbox.webhooks_sent()

    assert [webhook.body["progress"] for webhook in sent] == [
        "failed",
        "completed",
    ]
    assert len({body["entity_id"] for body in receiver.bodies}) == 1
