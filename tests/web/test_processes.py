"""
Several processes of a service share a store; any of them may be killed.
"""

import asyncio
import contextlib
import json
import sys

from pathlib import Path

import aiohttp
import attrs
import pytest

from yarl import URL

from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import CallbackProtocol


SECRET = "correct horse battery staple, long enough"
PUBLIC = "http://127.0.0.1:1/bank"
PROCESS = Path(__file__).with_name("service_process.py")


@attrs.frozen
class Process:
    """
    A running process of the service.

    Attributes:
        handle: The process.
        port: The port at which it listens.
    """

    handle: asyncio.subprocess.Process
    port: int

    def url(self, public):
        """
        Return the address of *public*, one of the service's own URLs, here.
        """
        return URL(str(public), encoded=True).with_port(self.port)

    async def kill(self):
        """
        Kill it with SIGKILL.
        """
        self.handle.kill()
        await self.handle.wait()


@attrs.define
class Fleet:
    """
    The processes of one service, with their sandbox.
    """

    sandbox: Sandbox
    folder: Path
    processes: list[Process] = attrs.Factory(list)

    async def start(self, *, lease=60, **settings):
        """
        Start one more process.
        """
        given = {
            "api_key": self.sandbox.api_key,
            "server_hash": self.sandbox.server_hash,
            "base_url": self.sandbox.base_url,
            "public": PUBLIC,
            "secret": SECRET,
            "store": str(self.folder / "store.sqlite"),
            "key": "k" * 32,
            "events": str(self.folder / "events.jsonl"),
            "lease": lease,
            **settings,
        }
        handle = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROCESS),
            json.dumps(given),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            line = await handle.stdout.readline()
        process = Process(handle, int(line))
        self.processes.append(process)
        return process

    @property
    def events(self):
        """What the callbacks of all processes got, in order."""
        path = self.folder / "events.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(name="fleet")
async def _fleet(tmp_path):
    """Return a service without processes, with a sandbox."""
    async with Sandbox("session") as sandbox:
        fleet = Fleet(sandbox, tmp_path)
        yield fleet
        for process in fleet.processes:
            with contextlib.suppress(ProcessLookupError):
                await process.kill()


@pytest.fixture(name="http")
async def _http():
    """Return a browser's client."""
    async with aiohttp.ClientSession() as http:
        yield http


@pytest.fixture(name="ours", scope="module")
def _ours():
    """Return the protocol of the processes."""
    return CallbackProtocol(PUBLIC, secret=SECRET)


async def test_killed_between_the_answer_and_the_callback(
    fleet, http, ours, until
):
    """
    A webhook that was answered with 200 is handed on by another process after
    the first one was killed, with the same key and the link id.
    """
    first = await fleet.start(is_stuck=True, lease=1)
    async with http.get(
        first.url(f"{PUBLIC}/connect"), headers={"X-Customer": "customer-42"}
    ) as answer:
        assert answer.status == 200
    (session_id,) = fleet.sandbox.sessions
    await fleet.sandbox.play(session_id, "success")
    body = {
        "session_id": session_id,
        "event_name": "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION",
    }
    async with http.post(first.url(ours.webhook_url), json=body) as answer:
        assert answer.status == 200
    await until(lambda: fleet.events)
    await first.kill()
    second = await fleet.start()
    await until(lambda: len(fleet.events) == 2)
    async with http.post(second.url(ours.webhook_url), json=body) as answer:
        assert answer.status == 200
    await until(lambda: fleet.sandbox.processed("initiate_processing"))

    (name, key, link_id, _), after = fleet.events
    assert after == [name, key, link_id]
    assert (name, link_id) == ("UploadWebhook", "customer-42")


async def test_30_loads_at_two_processes(fleet, http):
    """
    Of 30 loads at once at two processes, one creates a session.
    """
    processes = [await fleet.start() for _ in range(2)]

    async def load(number):
        url = processes[number % 2].url(f"{PUBLIC}/connect")
        async with http.get(
            url, headers={"X-Customer": "customer-42"}
        ) as answer:
            return answer.status

    statuses = await asyncio.gather(*map(load, range(30)))

    assert statuses == [200] * 30
    assert fleet.sandbox.created() == 1


async def test_a_return_at_another_process(fleet, http):
    """
    A session that one process created, and whose browser returns without a
    cookie at another one, is confirmed there; the first may be dead.
    """
    first = await fleet.start()
    async with http.get(
        first.url(f"{PUBLIC}/redirect"),
        headers={"X-Customer": "customer-42"},
        allow_redirects=False,
    ) as answer:
        assert answer.status == 303
    await first.kill()
    second = await fleet.start()
    (session_id,) = fleet.sandbox.sessions
    played = await fleet.sandbox.play(session_id, "success")
    http.cookie_jar.clear()
    for _ in range(2):
        async with http.get(second.url(played.redirect)) as answer:
            assert answer.status == 200

    ((name, _, link_id),) = fleet.events
    assert (name, link_id) == ("SuccessEvent", "customer-42")
