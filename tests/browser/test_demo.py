"""
``bankconnect demo`` in a real browser.
"""

import asyncio
import csv
import io
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


@pytest_asyncio.fixture(name="demo", loop_scope="session", scope="module")
async def _demo_fixture():
    """Serve the demo in all dialects, and return its URL."""
    async with _demo._serving(_demo._listen(0), "seed") as url:
        yield url


def customer(page, name):
    """
    Return the link of a customer's invitation.
    """
    return page.get_by_role("link", name=name)


async def test_campaign(demo, page, new_context, alone):
    """
    Links create nothing, a second device continues, a sweep finds the
    outcomes of lost webhooks, and statements arrive as a table.
    """
    figures = page.locator(".figures dd")
    rows = page.locator("#rows tr")
    await page.goto(f"{demo}session/")
    await expect(page.locator(".customers a")).to_have_count(12)
    await customer(page, "Chetan Rao").click()
    await expect(page.get_by_text("You are invited")).to_be_visible()
    await page.go_back()
    await expect(figures).to_have_text(["12", "0", "0", "0"])

    await customer(page, "Chetan Rao").click()
    await page.get_by_role("button", name="Continue").click()
    await alone(page).choose_bank("Axis Bank")
    other = await (await new_context()).new_page()
    await other.goto(f"{demo}session/")
    await expect(customer(other, "Chetan Rao")).to_contain_text("opened")
    await customer(other, "Chetan Rao").click()
    await expect(other.get_by_text("already begun")).to_be_visible()
    await other.get_by_role("button", name="Continue").click()
    await alone(other).open(bank="Axis Bank")
    await alone(other).succeed()
    await expect(other.get_by_text("Welcome back.")).to_be_visible()
    chetan = customer(other, "Chetan Rao")
    await expect(chetan).to_contain_text("completed")
    await expect(chetan).to_contain_text("1 session")
    await customer(other, "Chetan Rao").click()
    await expect(other.get_by_text("already submitted")).to_be_visible()

    await page.goto(f"{demo}session/")
    await expect(rows).to_have_count(4)
    await expect(rows.first).to_contain_text("Chetan Rao")
    await lose_and_sweep(page, count=11, lost=22)
    total = (await figures.nth(3).text_content()).replace(",", "")
    async with page.expect_download() as pending:
        await page.get_by_role("link", name="Download all as CSV").click()
    download = await pending.value
    text = await asyncio.to_thread(Path(await download.path()).read_text)
    assert len(list(csv.DictReader(io.StringIO(text)))) == int(total)


async def lose_and_sweep(page, *, count, lost):
    """
    Let customers answer while webhooks are lost, and sweep.
    """
    completed = page.locator(".state", has_text="completed")
    await page.get_by_role("button", name="Lose webhooks").click()
    await page.get_by_role("button", name="Let them answer").click()
    await expect(entries(page, "lost")).to_have_count(lost)
    await expect(completed).to_have_count(12 - count)
    await page.get_by_role("button", name="Sweep").click()
    await expect(completed).to_have_count(12)
    await expect(page.locator("#rows tr")).to_have_count(48)
    found = entries(page, "sweep").locator("dd").nth(1)
    await expect(found).to_have_text(str(count))


@pytest.mark.parametrize("dialect", ["seed", "entity"])
async def test_dialects(demo, page, dialect):
    """
    The page switches to a campaign in another dialect.
    """
    await page.goto(f"{demo}session/")
    await page.get_by_role("link", name=dialect, exact=True).click()
    await expect(page.locator(".figures dd").nth(1)).to_have_text("0")
    await lose_and_sweep(page, count=12, lost=12)


async def test_both_workflows(demo, page, framed, alone):
    """
    Both workflows show a confirmed success and its webhook.
    """
    await page.goto(f"{demo}entity/")
    await page.get_by_role("link", name="One customer").click()
    await page.get_by_role("link", name="In a frame").click()
    await framed(page).open(bank="Axis Bank")
    await framed(page).succeed()
    await expect(page.get_by_text("Thank you.")).to_be_visible()
    own = page.locator("#entries li", has_text=re.compile("customer-42"))
    success = own.filter(has_text=CONFIRMED)
    await expect(success).to_have_count(1)
    await page.get_by_role("link", name="Choose again").click()
    await page.get_by_role("link", name="By redirect").click()
    await alone(page).open("Net banking", bank="Axis Bank")
    await alone(page).succeed()
    await expect(page.get_by_text("Welcome back.")).to_be_visible()
    await expect(success).to_have_count(2)
    await expect(own.filter(has_text="ExtractionWebhook")).to_have_count(2)
    words = await own.locator(".source").all_text_contents()
    assert (words.count("redirect"), words.count("webhook")) == (1, 2)


async def test_failure_and_exit(demo, page, framed):
    """
    A failure, an exit and steps have entries with their raw messages.
    """
    await page.goto(f"{demo}session/frame")
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
    await page.goto(f"{demo}session/workflows")
    await page.get_by_role("button", name="Try it").click()
    await expect(page.get_by_text("could not confirm")).to_be_visible()
    await page.get_by_role("link", name="Continue").click()
    await expect(entries(page, "refused")).to_contain_text(REFUSED)
    stolen = entries(page, "success").filter(has_text="customer-42")
    await expect(stolen).to_have_count(0)


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
    for path in ("", "workflows", "frame"):
        await page.goto(f"{demo}seed/{path}")
        await expect(page.get_by_text("live", exact=True)).to_be_visible()
        width, ground = await page.evaluate(
            """() => [document.scrollingElement.scrollWidth,
                getComputedStyle(document.body).backgroundColor]"""
        )
        assert width <= 360
        assert sum(map(int, re.findall(r"\d+", ground))) < 150


async def test_says_when_it_is_gone(page, watch):
    """
    The page shows that it is a sandbox, and that the demo has ended.
    """
    watch.expected.append("net::ERR_")
    async with _demo._serving(_demo._listen(0), "seed") as url:
        await page.goto(url)
        await expect(page.get_by_text("live", exact=True)).to_be_visible()
        await expect(page.get_by_text("not FinBox")).to_be_visible()
        await expect(page.get_by_text("Nothing yet.")).to_be_visible()
    await expect(page.get_by_text("not connected")).to_be_visible()


async def test_other_names_redirect(demo):
    """
    Other names of this machine redirect to the demo's URL.
    """
    other = URL(demo).with_host("localhost")
    async with (
        aiohttp.ClientSession() as http,
        http.get(other, allow_redirects=False) as response,
    ):
        assert response.status == 307
        assert response.headers["Location"] == demo


async def test_unreadable_webhook(page):
    """
    A body that is not a webhook gets lost without an entry.
    """
    async with (
        _demo._serving(_demo._listen(0), "seed") as url,
        aiohttp.ClientSession() as http,
    ):
        for body in (b"[", b'{"progress": "failed"}'):
            async with http.post(f"{url}seed/lost", data=body) as response:
                assert response.status == 503
        await page.goto(f"{url}seed/")
        await expect(page.locator("#entries li")).to_have_count(1)
        await expect(entries(page, "lost")).to_contain_text("failed")
        # The page would miss the end of the demo.
        await page.goto("about:blank")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "", {"Host": "evil.example"}, 400),
        ("GET", "seed/frame", {"Host": "evil.example"}, 400),
        ("GET", "seed/live", {"Host": "evil.example"}, 400),
        ("GET", "seed/frame", {"Sec-Purpose": "prefetch"}, 403),
        ("GET", "seed/frame", {"Sec-Fetch-Dest": "iframe"}, 403),
        ("POST", "seed/forge", {"Origin": "https://evil.example"}, 403),
        ("POST", "seed/forge", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "seed/sweep", {"Origin": "https://evil.example"}, 403),
        ("POST", "seed/lost", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "seed/frame", {"Origin": "https://evil.example"}, 403),
        ("POST", "seed/bank/connect", {"Sec-Fetch-Site": "same-site"}, 403),
        ("GET", "", {"Host": "laptop:1"}, 307),
        ("GET", "seed/frame", {"Sec-Fetch-Site": "cross-site"}, 200),
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
