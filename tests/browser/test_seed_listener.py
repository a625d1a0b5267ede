"""
The page of the vendor's first documentation, word for word.
"""

import re

import pytest

from bankconnect_async import SessionRequest


pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTENER_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<body>
  <script>
    window.addEventListener('message', function (event) {
      console.log("Event -> ", event)
    });
  </script>
  <iframe src="<url-from-create-session>" width="500px" height="700px"></iframe>
</body>
</html>
"""  # noqa: E501 - word for word
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(name="received")
def _received(page):
    """Return the events that the page logs behind "Event -> "."""
    handles = []

    def on_console(message):
        if message.text.startswith("Event -> "):
            handles.append(message.args[1])

    page.on("console", on_console)
    return handles


@pytest.fixture(name="open_page")
def _open_page(serve, serve_page, page, framed):
    """Create a session, and open the listener's page with it."""

    async def play(work):
        async with serve("seed") as service:
            session = await service.bank.create_session(
                SessionRequest(
                    link_id="customer-42", redirect_url=None, bank_name="axis"
                )
            )
            text = LISTENER_PAGE.replace(
                "<url-from-create-session>", str(session.redirect_url)
            )
            async with serve_page(text) as origin:
                await page.goto(origin)
                await work(framed(page))

    return play


async def test_success(open_page, received, until):
    """
    A success is the documented object, key for key.
    """
    messages = []

    async def succeed(journey):
        await journey.open()
        await journey.succeed()
        await until(lambda: received)
        messages.append(await received[0].evaluate("event => event.data"))

    await open_page(succeed)

    (message,) = messages
    entity_id = message["payload"]["entityId"]
    assert UUID.fullmatch(entity_id)
    assert message == {
        "type": "finbox-bankconnect",
        "status": "fb-success",
        "payload": {"entityId": entity_id, "linkId": "customer-42"},
    }
    assert list(message) == ["type", "status", "payload"]


@pytest.mark.parametrize(
    ("mode", "error_type", "reasons"),
    [
        ("Upload PDF", None, ["User closed the journey"]),
        (
            "Net banking",
            "NB004",
            ["Invalid Captcha", "User closed the journey"],
        ),
        (
            "Upload PDF",
            "MU006",
            ["PDF is not parsable", "User closed the journey"],
        ),
    ],
    ids=["exit", "failed login", "unusable PDF"],
)
async def test_exit(open_page, received, until, mode, error_type, reasons):
    """
    An exit is the documented object; after a failure there are two of them.
    """
    messages = []

    async def leave(journey):
        await journey.open(mode)
        if error_type is None:
            await journey.leave()
        else:
            await journey.fail(error_type, leave=True)
        await until(lambda: len(received) == len(reasons))
        messages.extend(
            [await one.evaluate("event => event.data") for one in received]
        )

    await open_page(leave)

    assert messages == [
        {
            "type": "finbox-bankconnect",
            "status": "fb-exit",
            "payload": {"reason": reason, "linkId": "customer-42"},
        }
        for reason in reasons
    ]
