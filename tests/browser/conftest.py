"""
Shared fixtures of tests in a real browser: the browser, a service, a watch.

The browser is one for the whole run, and each test has a profile of its own
in it. That is why these tests share the event loop of the session.
"""

import asyncio
import contextlib
import re
import socket
import sys

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_asyncio

from aiohttp import web
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    FrameLocator,
    Page,
    async_playwright,
    expect,
)

from bankconnect_async import AsyncBankConnect, InfoEvent, SessionRequest
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import CallbackProtocol, CallbackService, mount


COMMANDS = ("chromium", "chromium-browser", "google-chrome")
PLAYWRIGHT = (sys.executable, "-m", "playwright", "install", "chromium")
NO_BROWSER = (
    "browser tests need Chromium: install the package chromium (Debian:"
    " apt-get install chromium), or run python -m playwright install"
    " --with-deps chromium"
)
ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Without it browsers ask for one, and complain that there is none.
NO_ICON = '<!doctype html><link rel="icon" href="data:,">'
# In milliseconds; a browser that is busy elsewhere may take long for a page.
TIMEOUT = 30_000

# A violation anywhere in a page or its frames becomes a console error.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP violation: ${event.effectiveDirective} blocked`
    + ` ${event.blockedURI} on ${event.documentURI}`);
});
"""


@attrs.frozen
class Finder:
    """
    Finds a browser: an installed one, a package, or a download.

    Attributes:
        debian: The programs of this machine and of packages.
        run: Runs a command, and returns whether it succeeded.
        downloaded: Returns the path of Playwright's own browser.
    """

    debian: Any
    run: Callable[[tuple[str, ...]], bool]
    downloaded: Callable[[], str]

    def find(self) -> str:
        """
        Return the browser's path, or fail the test in one clear line.
        """
        path: str | None = self.debian.find(*COMMANDS, package="chromium")
        path = path or self._download()
        if path is None:
            pytest.fail(NO_BROWSER, pytrace=False)
        return path

    def _download(self) -> str | None:
        path = self.downloaded()
        if Path(path).exists() or self.run(PLAYWRIGHT):
            return path
        return None


# Before pytest reads the markers.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    folder = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(folder):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(name="finder", scope="session")
def _finder() -> type[Finder]:
    """Return the class that finds a browser, for a test of its own."""
    return Finder


@pytest_asyncio.fixture(name="browser", loop_scope="session", scope="session")
async def _browser(debian, run_aloud) -> AsyncIterator[Browser]:
    """Start a browser with a new, temporary profile."""
    async with async_playwright() as playwright:
        finder = Finder(
            debian=debian,
            run=run_aloud,
            downloaded=lambda: playwright.chromium.executable_path,
        )
        path = finder.find()
        browser = None
        # Its own message is a page long.
        with contextlib.suppress(Error):
            browser = await playwright.chromium.launch(
                executable_path=path, args=ARGS
            )
        if browser is None:
            pytest.fail(f"{path} does not start; {NO_BROWSER}", pytrace=False)
        yield browser
        await browser.close()


# Playwright notes something on whose method it is to call.
@attrs.define(slots=False)
class Watch:
    """
    Records what goes wrong in the browser.

    Attributes:
        expected: Patterns of console messages that the test provokes.
        seen: Errors and warnings of consoles, and uncaught exceptions.
    """

    expected: list[str] = attrs.Factory(list)
    seen: list[str] = attrs.Factory(list)

    def attach(self, page: Page) -> None:
        """Watch *page*."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.seen.append(str(error)))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.seen.append(f"{message.type}: {message.text}")

    def unexpected(self) -> list[str]:
        """Return the messages that no pattern matches."""
        return [
            text
            for text in self.seen
            if not any(re.search(one, text) for one in self.expected)
        ]


@pytest.fixture(name="watch")
def _watch() -> Iterator[Watch]:
    """
    Watch consoles and policies, and fail at the end if anything went wrong.
    """
    watch = Watch()
    yield watch
    assert watch.unexpected() == []


NewContext = Callable[..., Awaitable[BrowserContext]]


@pytest_asyncio.fixture(name="new_context", loop_scope="session")
async def _new_context(browser, watch) -> AsyncIterator[NewContext]:
    """Make a profile whose pages are watched."""
    contexts: list[BrowserContext] = []

    async def make(**settings: Any) -> BrowserContext:
        context = await browser.new_context(**settings)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        context.on("page", watch.attach)
        await context.add_init_script(REPORT_VIOLATIONS)
        return context

    expect.set_options(timeout=TIMEOUT)
    yield make
    for context in contexts:
        await context.close()


@pytest_asyncio.fixture(name="page", loop_scope="session")
async def _page(new_context) -> Page:
    """Open a watched page in a profile of its own."""
    context = await new_context()
    return await context.new_page()


@attrs.define
class Received:
    """
    Records what the service receives.
    """

    events: list[Any] = attrs.Factory(list)
    failures: list[tuple[Any, Exception]] = attrs.Factory(list)

    async def on_event(self, event: Any) -> None:
        """Record an event."""
        self.events.append(event)

    async def on_failure(self, what: Any, error: Exception) -> None:
        """Record a failure."""
        self.failures.append((what, error))

    @property
    def outcomes(self) -> list[Any]:
        """Return the events that end or fail a journey."""
        return [
            event for event in self.events if not isinstance(event, InfoEvent)
        ]


@attrs.frozen
class Service:
    """
    A service on loopback, with its sandbox.
    """

    sandbox: Sandbox
    bank: AsyncBankConnect
    protocol: CallbackProtocol
    received: Received

    @property
    def base(self) -> str:
        """The base URL of its endpoints."""
        return str(self.protocol.base)

    @property
    def origin(self) -> str:
        """Its origin."""
        return str(self.protocol.base.origin())


Serve = Callable[..., AbstractAsyncContextManager[Service]]


@asynccontextmanager
async def _running(
    app: web.Application, listener: socket.socket
) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()


def _listen(name: str) -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"http://{name}:{listener.getsockname()[1]}"


@pytest.fixture(name="serve", scope="session")
def _serve() -> Serve:
    """
    Run a service: ``async with serve(dialect) as service``.

    Its journeys skip the choice of a bank unless *bank_name* is `None`.
    """

    @asynccontextmanager
    async def serve(
        dialect: Any = "entity",
        *,
        bank_name: str | None = "axis",
        **settings: Any,
    ) -> AsyncIterator[Service]:
        async def get_customer(_: web.Request) -> SessionRequest:
            return SessionRequest(
                link_id="customer-42", redirect_url=None, bank_name=bank_name
            )

        app, received = web.Application(), Received()
        listener, origin = _listen("127.0.0.1")
        protocol = CallbackProtocol(
            f"{origin}/bank", secret="s" * 32, **settings
        )
        async with (
            Sandbox(dialect) as sandbox,
            AsyncBankConnect(
                sandbox.api_key,
                server_hash=sandbox.server_hash,
                base_url=sandbox.base_url,
                redirect_url=None,
            ) as bank,
        ):
            endpoints = CallbackService(
                bank,
                protocol,
                on_event=received.on_event,
                on_failure=received.on_failure,
            )
            mount(app, endpoints, get_customer=get_customer)
            async with _running(app, listener):
                yield Service(sandbox, bank, protocol, received)

    return serve


ServePage = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture(name="serve_page", scope="session")
def _serve_page() -> ServePage:
    """
    Serve one page, by default from another site than the service's.
    """

    @asynccontextmanager
    async def serve(text: str, name: str = "localhost") -> AsyncIterator[str]:
        async def show(_: web.Request) -> web.Response:
            return web.Response(text=NO_ICON + text, content_type="text/html")

        app = web.Application()
        app.router.add_get("/", show)
        listener, origin = _listen(name)
        async with _running(app, listener):
            yield origin

    return serve


@attrs.frozen
class Journey:
    """
    A customer at the journey's page, in a frame or in the whole window.
    """

    at: FrameLocator | Page

    async def choose_bank(self, name: str) -> None:
        """Search for a bank, and choose it."""
        await self.at.get_by_label("Search by name").fill(name)
        await self.at.get_by_role("button", name=name, exact=True).click()

    async def open(
        self, mode: str = "Upload PDF", *, bank: str | None = None
    ) -> None:
        """
        Choose one of the two modes, after choosing a bank if there is a
        choice.
        """
        if bank is not None:
            await self.choose_bank(bank)
        await self.at.get_by_role("button", name=mode).click()

    async def succeed(self) -> None:
        """Finish the chosen mode successfully."""
        await self.at.get_by_role("button", name="and finish").click()

    async def fail(
        self, error_type: str | None = None, *, leave: bool = False
    ) -> None:
        """Provoke a failure, and leave after it."""
        if error_type is not None:
            choice = self.at.get_by_role("combobox", name="What goes wrong")
            await choice.select_option(error_type)
        name = "Fail, then leave" if leave else "Fail"
        await self.at.get_by_role("button", name=name, exact=True).click()

    async def leave(self) -> None:
        """Leave the journey."""
        await self.at.get_by_role("button", name="Leave", exact=True).click()


@pytest.fixture(name="framed", scope="session")
def _framed() -> Callable[[Page], Journey]:
    """Return the journey in the frame of a page."""
    return lambda page: Journey(page.frame_locator("iframe"))


@pytest.fixture(name="alone", scope="session")
def _alone() -> Callable[[Page], Journey]:
    """Return the journey that fills a page."""
    return Journey


@pytest.fixture(name="until", scope="session")
def _until() -> Callable[..., Awaitable[None]]:
    """Wait until a condition holds, and fail if it never does."""

    async def until(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(TIMEOUT / 1000):
            while not condition():
                await asyncio.sleep(0.005)

    return until
