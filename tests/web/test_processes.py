"""
Several processes of a service share a store; any of them may be killed.
"""

import asyncio
import collections
import contextlib
import json
import random
import sys

from collections.abc import Callable
from pathlib import Path

import aiohttp
import attrs
import pytest

from aiohttp import web
from yarl import URL

from bankconnect_async import AsyncBankConnect
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import CallbackProtocol


SECRET = "correct horse battery staple long enough"
PUBLIC = "http://127.0.0.1:1/bank"
ROLES = "create", "return", "webhook"
#: A fifth of the webhooks is lost.
LOSS = 0.2
PROCESS = Path(__file__).with_name("service_process.py")
IMPORTS = (
    "aiohttp.web",
    "bankconnect_async.store.sqlite",
    "bankconnect_async.web.aiohttp_routes",
)


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
    forking: Callable
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
        with self.forking(*IMPORTS):
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
        """The events that the callbacks of all processes got, in order."""
        path = self.folder / "events.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(name="fleet")
async def _fleet(tmp_path, forking):
    """Return a service without processes, with a sandbox."""
    async with Sandbox("session") as sandbox:
        fleet = Fleet(sandbox, tmp_path, forking)
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


@attrs.define
class Campaign:
    """
    Journeys at a service whose processes are killed.

    Attributes:
        fleet: The service.
        http: The client of browsers and of the vendor.
        ours: The protocol of the service.
        chance: The source of chance.
        roles: The process of each role.
        lost: The webhooks that the service did not answer.
        is_lossy: Whether webhooks are lost.
        kills: The number of processes that were killed.
    """

    fleet: Fleet
    http: aiohttp.ClientSession
    ours: CallbackProtocol
    chance: random.Random
    roles: dict[str, Process] = attrs.Factory(dict)
    lost: list[bytes] = attrs.Factory(list)
    is_lossy: bool = True
    kills: int = 0
    steps: asyncio.Queue[bool] = attrs.Factory(asyncio.Queue)

    async def relay(self, request):
        """Pass a webhook on, or lose it."""
        body = await request.read()
        if self.is_lossy and self.chance.random() < LOSS:
            self.lost.append(body)
        else:
            await self.deliver(body)
        return web.Response()

    async def deliver(self, body):
        """Post a webhook once; a connection that is cut loses it."""
        url = self.roles["webhook"].url(self.ours.webhook_url)
        try:
            async with self.http.post(
                url, data=body, headers={"Content-Type": "application/json"}
            ) as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        self.lost.append(body)

    async def visit(self, role, url, **headers):
        """Open a page, and reload it as long as the process is away."""
        self.steps.put_nowait(False)
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with self.http.get(
                    self.roles[role].url(url),
                    headers=headers,
                    allow_redirects=False,
                ) as answer:
                    if answer.status != 503:
                        return answer.status, answer.headers.get("Location")
            await asyncio.sleep(0.05)

    async def play(self, number):
        """Play the journey of one customer."""
        status, journey = await self.visit(
            "create", f"{PUBLIC}/redirect", **{"X-Customer": f"c-{number}"}
        )
        assert status == 303
        played = await self.fleet.sandbox.play(
            URL(journey).query["session_id"], "success"
        )
        # The last character before the query belongs to the signature.
        path, _, query = played.redirect.partition("?")
        forged = f"{path[:-4]}AAAA?{query}"
        assert (await self.visit("return", forged))[0] == 403
        assert (await self.visit("return", played.redirect))[0] == 200

    async def kill(self, most, **settings):
        """
        Kill processes in the midst of journeys, and start others.

        Args:
            most: The largest number of steps between two kills.
            **settings: The settings of the processes.
        """
        while True:
            for _ in range(self.chance.randint(1, most)):
                if await self.steps.get():
                    return
            role = self.chance.choice(ROLES)
            await self.roles[role].kill()
            self.kills += 1
            self.roles[role] = await self.fleet.start(**settings)


@pytest.fixture(name="campaign")
def _campaign(fleet, http, ours):
    """Return a campaign, whose chance has a seed that is printed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return Campaign(fleet, http, ours, random.Random(seed))


@pytest.fixture(name="address")
def _address(request, tmp_path):
    """Return the address of an empty store."""
    if request.param == "sqlite":
        return str(tmp_path / "store.sqlite")
    server = request.getfixturevalue("postgres")
    return server.dsn(server.create_database())


@pytest.mark.long
@pytest.mark.parametrize(
    ("address", "count"), [("sqlite", 75)], indirect=["address"]
)
async def test_every_outcome_is_told(
    campaign, until, listening, address, count
):
    """
    Sessions are created at one process, browsers return at another, and
    webhooks come to a third. Each is killed at random, and every fifth
    webhook is lost. After one sweep, a table with the events' keys has one
    row for each outcome, also when the lost webhooks come after all. No
    genuine return is refused, and no forged one is taken.
    """
    fleet, http = campaign.fleet, campaign.http
    settings = {"store": address, "continues": False, "lease": 5}
    for role in ROLES:
        campaign.roles[role] = await fleet.start(**settings)
    async with listening(campaign.relay) as url:
        sandbox = fleet.sandbox
        async with AsyncBankConnect(
            sandbox.api_key,
            server_hash=sandbox.server_hash,
            base_url=sandbox.base_url,
        ) as bank:
            await bank.update_webhook(url, flow="session")
        killer = asyncio.create_task(campaign.kill(count // 2, **settings))
        limit = asyncio.Semaphore(8)

        async def play(number):
            async with limit:
                await campaign.play(number)

        async with asyncio.timeout(60 + count):
            await asyncio.gather(*map(play, range(count)))
        campaign.steps.put_nowait(True)
        await killer
        assert campaign.kills
        for process in fleet.processes:
            with contextlib.suppress(ProcessLookupError):
                await process.kill()
        # Twenty minutes later all leases are over, and an hour after that all
        # sessions are due, those too whose processing was started meanwhile.
        campaign.is_lossy = False
        for later in (1200, 4800):
            last = await fleet.start(**settings, later=later)
            campaign.roles = dict.fromkeys(ROLES, last)
            await settle(http, last)
        async with http.post(f"http://127.0.0.1:{last.port}/sweep") as answer:
            assert answer.status == 200

        def rows():
            table = {
                key: (link_id, name) for name, key, link_id in fleet.events
            }
            return collections.Counter(table.values())

        def expected(*names):
            return {
                (f"c-{number}", name)
                for number in range(count)
                for name in names
            }

        # That the uploads are complete matters no more.
        ends = expected("SuccessEvent", "EnrichmentWebhook")
        await until(lambda: rows().keys() >= ends)
        late, campaign.lost = campaign.lost, []
        for body in late:
            await campaign.deliver(body)
        everything = ends | expected("UploadWebhook")
        await until(lambda: rows().keys() == everything)
        await settle(http, last)

    assert campaign.lost == []
    assert rows() == dict.fromkeys(everything, 1)


async def settle(http, process):
    """Wait until a process has done what it began."""
    async with asyncio.timeout(60):
        while True:
            async with http.get(
                f"http://127.0.0.1:{process.port}/pending"
            ) as answer:
                if not (await answer.json())["pending"]:
                    return
            await asyncio.sleep(0.05)
