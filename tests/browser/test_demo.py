"""
``bankconnect demo`` in a real browser.
"""

import asyncio
import os
import re
import signal
import socket
import stat
import sys

from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from playwright.async_api import expect
from yarl import URL

import bankconnect_async

from bankconnect_async.cli.demo import server as _demo
from bankconnect_async.errors import ConfigurationError


pytestmark = pytest.mark.asyncio(loop_scope="session")

CONFIRMED = "confirmed with the server"
REFUSED = "the server did not confirm this success"


def entries(page, kind):
    """
    Return the entries of one kind.
    """
    return page.locator(f'#entries [data-kind="{kind}"]')


@pytest.fixture(name="demo")
def _demo_fixture():
    """Serve the demo in a dialect: ``async with demo(dialect) as url``."""
    return lambda dialect: _demo._serving(_demo._listen(0), dialect)


@pytest.mark.parametrize(
    ("dialect", "webhooks"),
    [
        ("seed", ["ExtractionWebhook"]),
        ("entity", ["ExtractionWebhook"]),
        ("session", ["UploadWebhook", "EnrichmentWebhook"]),
    ],
)
async def test_both_workflows(demo, page, framed, alone, dialect, webhooks):
    """
    Both workflows show a confirmed success and its webhooks; in the session
    flow, processing starts by itself.
    """

    async def expect_webhooks(count):
        for name in webhooks:
            told = entries(page, "webhook").filter(has_text=name)
            await expect(told).to_have_count(count)

    async with demo(dialect) as url:
        await page.goto(url)
        await expect(page.get_by_text("Nothing yet.")).to_be_visible()
        await expect(page.get_by_text("not FinBox")).to_be_visible()
        await page.get_by_role("link", name="In a frame").click()
        await framed(page).open(bank="Axis Bank")
        await framed(page).succeed()
        await expect(page.get_by_text("Thank you.")).to_be_visible()
        await expect(entries(page, "success")).to_contain_text(CONFIRMED)
        await expect_webhooks(1)
        await page.get_by_role("link", name="Choose again").click()
        await page.get_by_role("link", name="By redirect").click()
        await alone(page).open("Net banking", bank="Axis Bank")
        await alone(page).succeed()
        await expect(page.get_by_text("Welcome back.")).to_be_visible()
        await expect(entries(page, "success")).to_have_count(2)
        await expect_webhooks(2)
        sources = page.locator("#entries .source")
        words = await sources.all_text_contents()

    assert words.count("redirect") == 1
    assert words.count("webhook") == 2 * len(webhooks)


async def test_failure_and_exit(demo, page, framed):
    """
    A failure, an exit and steps have entries with their raw messages.
    """
    async with demo("session") as url:
        await page.goto(f"{url}frame")
        await framed(page).open(bank="Axis Bank")
        await framed(page).fail("MU004", leave=True)
        await expect(entries(page, "error")).to_contain_text("MU004")
        await expect(entries(page, "exit")).to_contain_text("ExitEvent")
        await expect(entries(page, "info")).to_have_count(2)
        error = entries(page, "error")
        await error.get_by_text("As delivered").click()
        await expect(error.locator("pre")).to_contain_text('"MU004"')


async def test_forged_success(demo, page, watch):
    """
    The page shows that the service refuses a stolen success.
    """
    watch.expected.append("status of 403")
    async with demo("session") as url:
        await page.goto(url)
        await page.get_by_role("button", name="Try it").click()
        await expect(page.get_by_text("could not confirm")).to_be_visible()
        await page.get_by_role("link", name="Continue").click()
        await expect(entries(page, "refused")).to_contain_text(REFUSED)
        await expect(entries(page, "success")).to_have_count(0)


async def test_goes_dark_and_narrow(demo, new_context):
    """
    The page follows the colour scheme, and fits on a phone.
    """
    context = await new_context(
        viewport={"width": 360, "height": 640},
        color_scheme="dark",
        is_mobile=True,
    )
    page = await context.new_page()
    async with demo("seed") as url:
        for path in ("", "frame"):
            await page.goto(f"{url}{path}")
            await expect(page.get_by_text("live", exact=True)).to_be_visible()
            width, ground = await page.evaluate(
                """() => [document.scrollingElement.scrollWidth,
                    getComputedStyle(document.body).backgroundColor]"""
            )
            assert width <= 360
            assert sum(map(int, re.findall(r"\d+", ground))) < 150


async def test_says_when_it_is_gone(demo, page, watch):
    """
    The page shows that the demo has ended.
    """
    watch.expected.append("net::ERR_")
    async with demo("seed") as url:
        await page.goto(url)
        await expect(page.get_by_text("live", exact=True)).to_be_visible()
    await expect(page.get_by_text("not connected")).to_be_visible()


async def test_other_names_redirect(demo):
    """
    Other names of this machine redirect to the demo's URL.
    """
    async with demo("seed") as url, aiohttp.ClientSession() as http:
        other = URL(url).with_host("localhost")
        async with http.get(other, allow_redirects=False) as response:
            assert response.status == 307
            assert response.headers["Location"] == url


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "", {"Host": "evil.example"}, 400),
        ("GET", "frame", {"Host": "evil.example"}, 400),
        ("GET", "live", {"Host": "evil.example"}, 400),
        ("GET", "frame", {"Sec-Purpose": "prefetch"}, 403),
        ("GET", "frame", {"Sec-Fetch-Dest": "iframe"}, 403),
        ("POST", "forge", {"Origin": "https://evil.example"}, 403),
        ("POST", "forge", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "frame", {"Origin": "https://evil.example"}, 403),
        ("POST", "bank/connect", {"Sec-Fetch-Site": "same-site"}, 403),
        ("GET", "", {"Host": "laptop:1"}, 307),
        ("GET", "frame", {"Sec-Fetch-Site": "cross-site"}, 200),
    ],
)
async def test_requests_of_other_sites(
    method, path, headers, status, monkeypatch
):
    """
    Pages of other sites begin nothing under any host name; an allowed name
    redirects to the demo's URL.
    """
    made = []

    async def create_session(*_):
        made.append(1)

    monkeypatch.setattr(
        _demo.AsyncBankConnect, "create_session", create_session
    )
    listener = _demo._listen(0)
    async with (
        _demo._serving(listener, "seed", {"laptop"}) as url,
        aiohttp.ClientSession() as http,
        http.request(
            method, url + path, headers=headers, allow_redirects=False
        ) as response,
    ):
        assert response.status == status

    assert made == []


async def test_port_in_use():
    """
    A port that is in use is an error with advice.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigurationError, match="choose another --port"):
            _demo._listen(port)


@pytest_asyncio.fixture(name="command", loop_scope="session")
async def _command(tmp_path):
    """Start the command as a process of its own."""
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    started = []

    async def start(*args):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bankconnect_async.cli", "demo", *args),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                **os.environ,
                "BROWSER": f"{browser} %s",
                "PYTHONPATH": str(Path(bankconnect_async.__file__).parents[1]),
                "PYTHONWARNINGS": "error",
            },
        )
        started.append(process)
        return process, opened

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_command(command, page, number):
    """
    The command prints its URL, and exits with 0 on a signal while a page is
    open.
    """
    process, opened = await command("--port", "0", "--dialect", "entity")
    first = (await process.stdout.readline()).decode()
    second = (await process.stdout.readline()).decode()
    url = re.search(r"http://127\.0\.0\.1:\d+/", second)[0]
    await page.goto(url)
    await expect(page.get_by_text("live", exact=True)).to_be_visible()
    await expect(page.get_by_text("v1, entity flow")).to_be_visible()
    await page.close()
    process.send_signal(number)
    async with asyncio.timeout(10):
        code = await process.wait()

    assert code == 0
    assert "not FinBox" in first
    assert await process.stderr.read() == b""
    assert not opened.exists()


async def test_opens_a_browser(command, until):
    """
    With --open the URL opens in the default browser.
    """
    process, opened = await command("--port", "0", "--open")
    await process.stdout.readline()
    line = (await process.stdout.readline()).decode()
    await until(lambda: opened.exists() and opened.read_text())

    assert opened.read_text().strip() in line
