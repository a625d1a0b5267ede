"""
Whole services in processes of their own, and what a customer does there.
"""

import asyncio
import html
import json
import os
import re
import signal
import socket
import sys

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import attrs
import pytest

from yarl import URL

import bankconnect_async

from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import CallbackProtocol


ROOT = Path(__file__).parents[2]
PACKAGE = Path(bankconnect_async.__file__).parent.parent
SECRET = "s" * 32
TIMEOUT = 60
# gunicorn drops a copy of the socket that it is given.
WARNINGS = "default,ignore:unclosed:ResourceWarning:gunicorn.arbiter"


@attrs.define
class Service:
    """
    A service in a process of its own.

    Attributes:
        sandbox: The sandbox that it uses.
        protocol: The settings of its endpoints.
        process: The process of its server.
        cookie: Returns the cookie by which a customer is logged in.
    """

    sandbox: Sandbox
    protocol: CallbackProtocol
    process: asyncio.subprocess.Process
    cookie: Callable[[str], str]
    _http: aiohttp.ClientSession = attrs.field(init=False)

    def browser(self, link_id: str) -> aiohttp.ClientSession:
        """
        Return a browser in which a customer is logged in.

        Each of its requests may come to another worker.
        """
        return aiohttp.ClientSession(
            headers={"Cookie": self.cookie(link_id)},
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(TIMEOUT),
        )

    async def finish_in_frame(self, link_id: str) -> str:
        """
        Begin a journey in a frame, report its success, and send its webhook.

        Returns:
            The id of the session.
        """
        base = self.protocol.base
        async with self.browser(link_id) as http:
            async with http.get(f"{base}/connect") as page:
                assert page.status == 200, await page.text()
                text = await page.text()
            found = re.search('data-bankconnect="([^"]*)"', text)
            assert found is not None
            settings = json.loads(html.unescape(found[1]))
            (session_id,) = (
                id_
                for id_, session in self.sandbox.sessions.items()
                if session.link_id == link_id
            )
            played = await self.sandbox.play(session_id, "success")
            async with http.post(
                base.origin().with_path(settings["postTo"]),
                json={
                    "event": played.messages[0],
                    "token": settings["token"],
                },
                headers={"Origin": str(base.origin())},
            ) as answer:
                assert answer.status == 204, await answer.text()
            async with http.post(
                URL(self.protocol.webhook_url, encoded=True),
                json={
                    "session_id": session_id,
                    "event_name": "SESSION_REQUIREMENT_COMPLETION_"
                    "NOTIFICATION",
                },
            ) as answer:
                assert answer.status == 200, await answer.text()
        return session_id

    async def go_and_return(self, link_id: str) -> None:
        """
        Go to a journey by a redirect, and return from it.
        """
        async with self.browser(link_id) as http:
            async with http.get(
                f"{self.protocol.base}/redirect", allow_redirects=False
            ) as answer:
                assert answer.status == 303, await answer.text()
                journey = URL(answer.headers["Location"])
            session_id = journey.query["session_id"]
            played = await self.sandbox.play(session_id, "success")
            async with http.get(URL(played.redirect, encoded=True)) as answer:
                assert answer.status == 200, await answer.text()

    async def stop(self) -> tuple[int, str, str]:
        """
        Stop it by SIGTERM, and return its exit code, stdout and stderr.
        """
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(TIMEOUT):
            stdout, stderr = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, stdout.decode(), stderr.decode()


RunService = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture(name="run_service")
def _run_service(tmp_path: Path) -> RunService:
    """
    Run a service by a Python program that listens at the given descriptor.

    ``async with run_service(lambda fd: ["-m", "gunicorn", …]) as service``
    """

    @asynccontextmanager
    async def run(
        command: Callable[[int], list[str]],
        *,
        cookie: Callable[[str], str],
        environ: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Service]:
        listener = socket.create_server(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with Sandbox("session") as sandbox:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *command(listener.fileno()),
                cwd=tmp_path,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{ROOT / 'examples'}:{PACKAGE}",
                    "PYTHONWARNINGS": WARNINGS,
                    "BANKCONNECT_API_KEY": sandbox.api_key,
                    "BANKCONNECT_SERVER_HASH": sandbox.server_hash,
                    "BANKCONNECT_BASE_URL": sandbox.base_url,
                    "BANKCONNECT_STORE": str(tmp_path / "store.sqlite"),
                    "BANKCONNECT_STORE_KEYS": "k" * 32,
                    "PUBLIC_URL": origin,
                    "SIGNING_KEY": SECRET,
                    **(environ or {}),
                },
                pass_fds=[listener.fileno()],
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            # What connects from now on waits in the socket's queue.
            listener.close()
            protocol = CallbackProtocol(f"{origin}/bank", secret=SECRET)
            try:
                yield Service(sandbox, protocol, process, cookie)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.communicate()

    return run
