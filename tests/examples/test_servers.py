"""
The examples as whole services, under the servers that people run.
"""

import asyncio
import contextlib
import html
import json
import os
import re
import signal
import sys

from pathlib import Path

import aiohttp
import attrs
import pytest

from yarl import URL

from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import CallbackProtocol


EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "s" * 32
CUSTOMERS = [f"customer-{number}" for number in range(6)]
FASTAPI = "examples.fastapi_app:from_env()"
AIOHTTP = "examples.aiohttp_app:from_env()"
UVICORN_WORKER = "uvicorn_worker.UvicornWorker"
AIOHTTP_WORKER = "aiohttp.GunicornWebWorker"
# The workers are forked, so that all listen when the first one does.
GUNICORN = "-m gunicorn --no-control-socket --preload --workers=4"
BIND = "--bind=127.0.0.1:PORT"
# Python hides these warnings by default.
UNCLOSED = "default::ResourceWarning"
PROBLEM = re.compile("WARNING|ERROR|CRITICAL|Warning|Traceback|nclosed")
COMMANDS = {
    "uvicorn": "-m examples.fastapi_app",
    "hypercorn": f"-m hypercorn {BIND} {FASTAPI}",
    "gunicorn-uvicorn": f"{GUNICORN} -k {UVICORN_WORKER} {BIND} {FASTAPI}",
    "aiohttp": "-m aiohttp.web -H 127.0.0.1 -P PORT "
    "examples.aiohttp_app:from_env",
    "django": "-m examples.django_app",
    "gunicorn-django": f"{GUNICORN} --threads=2 {BIND} "
    "examples.django_app:wsgi",
    "gunicorn-aiohttp": f"{GUNICORN} -k {AIOHTTP_WORKER} {BIND} {AIOHTTP}",
}


@attrs.frozen
class Service:
    """
    A running example, with its sandbox and a browser's client.
    """

    protocol: CallbackProtocol
    sandbox: Sandbox
    http: aiohttp.ClientSession

    async def take_journeys(self, customer):
        """
        Take one journey in a frame, and one by redirects.

        Returns the statuses of the event, the return and a webhook.
        """
        login = {"Cookie": f"login={customer}"}
        origin = str(self.protocol.base.origin())
        page = await self._get(f"{self.protocol.base}/connect", login)
        found = re.search('data-bankconnect="([^"]*)"', await page.text())
        listener = json.loads(html.unescape(found[1]))
        event = {
            "event": await self._message(page),
            "token": listener["token"],
        }
        event_post = await self.http.post(
            origin + listener["postTo"], json=event, headers={"Origin": origin}
        )
        start = await self._get(f"{self.protocol.base}/redirect", login)
        session_id = URL(start.headers["Location"]).query["session_id"]
        played = await self.sandbox.play(session_id, "success")
        end = await self._get(URL(played.redirect, encoded=True), {})
        webhook_post = await self.http.post(
            self.protocol.webhook_url,
            json={"progress": "completed", "entity_id": f"e-{customer}"},
        )
        return event_post.status, end.status, webhook_post.status

    async def _get(self, url, headers):
        return await self.http.get(url, headers=headers, allow_redirects=False)

    async def _message(self, page):
        found = re.search(r"session_id=([\w-]+)", await page.text())
        played = await self.sandbox.play(found[1], "success")
        return played.messages[0]


@contextlib.asynccontextmanager
async def running(command, folder, settings):
    """
    Run a server until it is stopped by SIGTERM; yield its process.
    """
    (folder / "examples").symlink_to(EXAMPLES)
    environment = {
        **os.environ,
        **settings,
        "PYTHONWARNINGS": UNCLOSED,
        # How a server ends its workers decides whether they flush stdout.
        "PYTHONUNBUFFERED": "1",
    }
    # The examples are in the folder.
    environment.pop("PYTHONSAFEPATH", None)
    # It shows warnings of servers that people do not see.
    environment.pop("PYTHONDEVMODE", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command.replace("PORT", settings["PORT"]).split(),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def wait_for(url, http):
    """
    Wait until the server answers.
    """
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                return (await http.get(url)).status
            await asyncio.sleep(0.02)


@pytest.mark.long
@pytest.mark.parametrize("server", COMMANDS)
async def test_whole_services(server, tmp_path, unused_tcp_port):
    """
    Every worker takes every request, and SIGTERM ends a service cleanly.
    """
    public = f"http://127.0.0.1:{unused_tcp_port}"
    async with (
        Sandbox("session") as sandbox,
        # So that the next request may come to another worker.
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True)
        ) as http,
        running(
            COMMANDS[server],
            tmp_path,
            {
                "BANKCONNECT_API_KEY": sandbox.api_key,
                "BANKCONNECT_BASE_URL": str(sandbox.base_url),
                "BANKCONNECT_SERVER_HASH": sandbox.server_hash,
                "BANKCONNECT_STORE": "sessions.db",
                "BANKCONNECT_STORE_KEYS": SECRET,
                "LOGINS": " ".join(f"{name}={name}" for name in CUSTOMERS),
                "PORT": str(unused_tcp_port),
                "PUBLIC_URL": public,
                "SIGNING_KEY": SECRET,
            },
        ) as process,
    ):
        protocol = CallbackProtocol(f"{public}/bank", secret=SECRET)
        assert await wait_for(f"{protocol.base}/connect", http) == 401
        service = Service(protocol, sandbox, http)
        statuses = await asyncio.gather(*map(service.take_journeys, CUSTOMERS))
        process.send_signal(signal.SIGTERM)
        output, log = await asyncio.wait_for(process.communicate(), 30)
        assert sandbox.created() == 2 * len(CUSTOMERS)

    told = output.decode()
    assert statuses == [(204, 200, 200)] * len(CUSTOMERS)
    submitted = {
        customer: told.count(f"{customer} has submitted")
        for customer in CUSTOMERS
    }
    assert submitted == dict.fromkeys(CUSTOMERS, 2), log.decode()
    assert told.count("ExtractionWebhook") == len(CUSTOMERS)
    assert process.returncode == 0
    assert not PROBLEM.search(log.decode())
