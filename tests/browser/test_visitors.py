"""
Visitors whom another site sends to a page that creates a session.
"""

import pytest

from playwright.async_api import expect


pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("way", ["connect", "redirect"])
async def test_a_link_in_webmail(serve, serve_page, page, framed, alone, way):
    """
    A link on another site leads to a page with one button, which starts.
    """
    async with serve() as service:
        link = f'<a href="{service.base}/{way}">Connect</a>'
        async with serve_page(link) as webmail:
            await page.goto(webmail)
            await page.get_by_role("link", name="Connect").click()
            button = page.get_by_role("button")
            await expect(button).to_have_count(1)
            before = service.sandbox.created()
            await button.click()
            journey = framed(page) if way == "connect" else alone(page)
            await expect(
                journey.at.get_by_role("button", name="Upload PDF")
            ).to_be_visible()

        assert (before, service.sandbox.created()) == (0, 1)


async def test_an_invitation(serve, serve_page, page, new_context, alone):
    """
    An invitation in a mail begins with a tap, continues in another browser,
    and says so once statements were submitted.
    """
    async with serve("session") as service:
        url = service.protocol.invitation_url(
            "customer-7",
            invitation_id="spring",
            parameters={"bank_name": "axis"},
        )
        async with serve_page(f'<a href="{url}">Your invitation</a>') as mail:
            await page.goto(mail)
            await page.get_by_role("link", name="Your invitation").click()
        await expect(page.get_by_text("You are invited")).to_be_visible()
        assert (service.sandbox.created(), await page.context.cookies()) == (
            0,
            [],
        )
        await page.get_by_role("button", name="Continue").click()
        await alone(page).leave()
        await page.get_by_role("link", name="Try again").click()

        other = await (await new_context()).new_page()
        await other.goto(url)
        await other.get_by_role("button", name="Continue").click()
        await alone(other).open()
        await alone(other).succeed()
        await expect(other.get_by_text("Thank you.")).to_be_visible()

        await page.reload()
        await expect(page.get_by_text("already submitted")).to_be_visible()
        assert service.sandbox.created("customer-7") == 1

    assert service.received.events[-1].link_id == "customer-7"


async def test_a_form_of_another_site(serve, serve_page, page, watch):
    """
    A form of another site creates nothing.
    """
    watch.expected.append("status of 403")
    async with serve() as service:
        form = (
            f'<form method="post" action="{service.base}/connect">'
            "<button>Win</button></form>"
        )
        async with serve_page(form) as evil:
            await page.goto(evil)
            await page.get_by_role("button", name="Win").click()
            await expect(page.get_by_text("another site")).to_be_visible()

        assert service.sandbox.created() == 0


async def test_a_link_of_our_own(serve, page, framed):
    """
    A visitor who typed the address or comes from our own pages is not asked.
    """
    async with serve() as service:
        await page.goto(f"{service.base}/connect")
        await expect(
            framed(page).at.get_by_role("button", name="Upload PDF")
        ).to_be_visible()

        assert service.sandbox.created() == 1
