"""
Pages and frames that mean no good, in a real browser.

A forged message is sent before a genuine one. Messages arrive in order, so
when the genuine one has, the forged one was turned away.
"""

import pytest

from playwright.async_api import expect

from bankconnect_async import ErrorType, ExitEvent


pytestmark = pytest.mark.asyncio(loop_scope="session")

FORGED = {
    "type": "finbox-bankconnect",
    "status": "success",
    "payload": {"entityId": "forged", "linkId": "victim"},
}
GENUINE = [ErrorType.PASSWORD_INCORRECT]
FRAMING = "<iframe src='{}' width=500 height=500></iframe>"


async def fail_genuinely(service, page, framed, until):
    """
    Fail genuinely, and return the types of the errors that the service got.
    """
    journey = framed(page)
    await journey.open()
    await journey.fail("MU003")
    await until(lambda: service.received.outcomes)
    await expect(page.locator("iframe")).to_be_visible()
    return [event.error_type for event in service.received.outcomes]


@pytest.mark.parametrize("as_text", [False, True])
async def test_page_of_another_site(
    serve, serve_page, page, framed, until, as_text
):
    """
    The opener of our page cannot send it an event.
    """
    async with serve() as service, serve_page("<h1>Evil</h1>") as evil:
        await page.goto(evil)
        async with page.expect_popup() as opening:
            await page.evaluate(
                "url => { window.opened = window.open(url); }",
                f"{service.base}/connect",
            )
        ours = await opening.value
        await ours.get_by_role("button", name="Continue").click()
        await expect(
            framed(ours).at.get_by_role("button", name="Upload PDF")
        ).to_be_visible()
        await page.evaluate(
            """([message, asText]) => window.opened.postMessage(
                asText ? JSON.stringify(message) : message, "*")""",
            [FORGED, as_text],
        )
        received = await fail_genuinely(service, ours, framed, until)

    assert received == GENUINE
    assert service.received.failures == []


async def test_window_of_the_same_origin(serve, page, framed, until):
    """
    A message of the journey's origin from another window is ignored.
    """
    async with serve() as service:
        await page.goto(f"{service.base}/connect")
        other = await service.bank.create_session("thief")
        async with page.expect_popup() as opening:
            await page.evaluate(
                "url => { window.open(url); }", str(other.redirect_url)
            )
        popup = await opening.value
        await expect(popup.get_by_label("Search by name")).to_be_visible()
        await popup.evaluate(
            "message => window.opener.postMessage(message, '*')", FORGED
        )
        # A page in the background is slow.
        await page.bring_to_front()
        received = await fail_genuinely(service, page, framed, until)

    assert received == GENUINE
    assert service.received.failures == []


async def test_other_site_in_the_frame(
    serve, serve_page, new_context, framed, until
):
    """
    A message of another site in our frame is ignored, even without a policy.
    """
    context = await new_context(bypass_csp=True)
    page = await context.new_page()
    async with serve() as service, serve_page("<h1>Evil</h1>") as evil:
        await page.goto(f"{service.base}/connect")
        _, frame = page.frames
        journey = frame.url
        await frame.goto(evil)
        await frame.evaluate(
            "message => window.parent.postMessage(message, '*')", FORGED
        )
        await page.evaluate(
            """url => {
                document.querySelector("iframe").src = url;
            }""",
            journey,
        )
        received = await fail_genuinely(service, page, framed, until)

    assert received == GENUINE
    assert service.received.failures == []


async def test_other_types(serve, page, framed, until):
    """
    Messages of the frame that are not the vendor's are ignored.
    """
    foreign = [
        {**FORGED, "type": "react-devtools"},
        {**FORGED, "type": ["finbox-bankconnect"]},
        {"status": "success", "payload": {}},
        "not JSON",
        '"finbox-bankconnect"',
        None,
        7,
        [FORGED],
    ]
    async with serve() as service:
        await page.goto(f"{service.base}/connect")
        at = framed(page).at
        await expect(
            at.get_by_role("button", name="Upload PDF")
        ).to_be_visible()
        _, frame = page.frames
        for message in foreign:
            await frame.evaluate(
                "message => window.parent.postMessage(message, '*')", message
            )
        received = await fail_genuinely(service, page, framed, until)

    assert received == GENUINE
    assert service.received.failures == []


async def test_own_page_lies(serve, page, framed, watch, until):
    """
    A success that the customer invents is refused by the server.
    """
    watch.expected.append("status of 403")
    async with serve() as service:
        await page.goto(f"{service.base}/connect")
        at = framed(page).at
        await expect(
            at.get_by_role("button", name="Upload PDF")
        ).to_be_visible()
        _, frame = page.frames
        async with page.expect_response("**/bank/events") as answering:
            await frame.evaluate(
                "message => window.parent.postMessage(message, '*')", FORGED
            )
        answer = await answering.value
        await until(lambda: service.received.failures)

    assert answer.status == 403
    assert service.received.events == []
    ((event, _),) = service.received.failures
    assert (event.link_id, event.entity_id) == ("customer-42", "forged")


async def test_other_site_cannot_post(serve, serve_page, page, watch):
    """
    A page of another site cannot post to the endpoint, with a token or
    without.
    """
    watch.expected += ["CORS policy", "Failed to load resource"]
    async with serve() as service, serve_page("<h1>Evil</h1>") as evil:
        session = await service.bank.create_session("victim")
        token = service.protocol.listener(session).token
        exit_ = {**FORGED, "status": "exit", "payload": {}}
        await page.goto(evil)
        outcomes = [
            await page.evaluate(
                """([url, type, body]) => fetch(url, {
                    method: "POST",
                    mode: type === "text/plain" ? "no-cors" : "cors",
                    headers: { "content-type": type },
                    body: JSON.stringify(body),
                }).then((answer) => answer.type, () => "refused")""",
                [
                    f"{service.base}/events",
                    content_type,
                    {"event": exit_, "token": token},
                ],
            )
            for content_type in ("application/json", "text/plain")
        ]

    assert outcomes == ["refused", "opaque"]
    assert service.received.events == service.received.failures == []


def shows_an_error(page):
    """
    Return whether the browser shows its own error page in the frame.
    """
    return len(page.frames) > 1 and page.frames[1].url.startswith(
        "chrome-error:"
    )


async def test_hostile_parent(serve, serve_page, page, watch, until):
    """
    Another site can neither frame our page nor start it.
    """
    watch.expected += ["frame-ancestors", "status of 403"]
    async with (
        serve() as service,
        serve_page(FRAMING.format(f"{service.base}/connect")) as evil,
    ):
        async with page.expect_response("**/bank/connect") as answering:
            await page.goto(evil)
        answer = await answering.value
        await until(lambda: shows_an_error(page))

    assert answer.status == 403
    assert service.sandbox.created() == 0


async def test_hostile_parent_of_the_return(
    serve, serve_page, page, watch, until
):
    """
    The return page may be fetched by a frame and is still not shown in one.
    """
    watch.expected.append("frame-ancestors")
    async with serve() as service:
        url = f"{service.protocol.return_url('customer-42')}?success=false"
        async with serve_page(FRAMING.format(url)) as evil:
            async with page.expect_response("**/bank/return/**") as answering:
                await page.goto(evil)
            answer = await answering.value
            await until(lambda: shows_an_error(page))

    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert service.received.events == [ExitEvent(link_id="customer-42")]


async def test_frame_cannot_take_the_page_away(serve, page, framed, watch):
    """
    The content of the frame cannot navigate the whole window.
    """
    watch.expected.append("Unsafe attempt to initiate navigation")
    async with serve() as service:
        await page.goto(f"{service.base}/connect")
        at = framed(page).at
        await expect(
            at.get_by_role("button", name="Upload PDF")
        ).to_be_visible()
        _, frame = page.frames
        problem = await frame.evaluate(
            """() => {
                try {
                    window.top.location = "about:blank";
                    return "";
                } catch (error) {
                    return error.name;
                }
            }"""
        )

        assert problem == "SecurityError"
        assert page.url == f"{service.base}/connect"
