"""
A service of three processes over one store, each of which is killed.
"""

import asyncio
import collections
import functools
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiohttp
import attrs
import pytest

from aiohttp import web
from yarl import URL

from bankconnect_async.sandbox import Sandbox


SERVICE = Path(__file__).with_name("store_service.py")
IMPORTS = (
    "aiohttp.web",
    "asyncpg",
    "bankconnect_async.store.postgres",
    "bankconnect_async.store.sqlite",
    "bankconnect_async.web.aiohttp_routes",
)
#: The kinds of the outcomes of each journey.
KINDS = ["EnrichmentWebhook", "SuccessEvent", "UploadWebhook"]
TABLE = """
CREATE TABLE outcomes (
    key TEXT PRIMARY KEY, kind TEXT, link_id TEXT, session_id TEXT
)
"""
UNDONE = "SELECT count(*) FROM {} WHERE body IS NOT NULL"
# Seconds after which every session is due for a check.
LATER = 20 * 60
PATIENCE = 240


def count_in_sqlite(path):
    """Count the items of the inbox that are not done."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(UNDONE.format("inbox")).fetchone()[0]


def count_in_postgres(postgres, name):
    """Count the items of the inbox that are not done."""
    return int(postgres.psql(UNDONE.format("bankconnect.inbox"), name))


def free_ports(count):
    """Return ports of loopback that nobody listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@attrs.define
class Process:
    """
    A process of the service.

    Attributes:
        settings: The arguments of `store_service.serve`.
        forking: The fixture of this name.
        kills: The number of times that it was killed.
    """

    settings: dict
    forking: Callable
    kills: int = 0
    _process: subprocess.Popen | None = None

    @property
    def origin(self):
        """The address of this process."""
        return f"http://127.0.0.1:{self.settings['port']}"

    async def start(self):
        """Start it, and wait until it listens."""
        with self.forking(*IMPORTS):
            self._process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, str(SERVICE), json.dumps(self.settings)]
            )
        async with asyncio.timeout(PATIENCE):
            while not await self._listens():
                assert self._process.poll() is None
                await asyncio.sleep(0.02)

    async def _listens(self):
        try:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", self.settings["port"]
            )
        except OSError:
            return False
        writer.close()
        return True

    def kill(self):
        """Kill it with SIGKILL."""
        self.kills += 1
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@attrs.define
class Scene:
    """
    Three processes, their sandbox, and the way of webhooks to them.

    Attributes:
        chance: The source of chance.
        sandbox: The sandbox.
        creating, returning, notified: The processes, by their part.
        outcomes: The path of the service's own database.
        shift: The path of the seconds by which all clocks are ahead.
        count_undone: Counts the items of the inbox that are not done.
        lost: The bodies of webhooks that never arrived.
        refused: The statuses of genuine requests that were refused.
        taken: The statuses of forged returns that were not refused.
    """

    chance: random.Random
    sandbox: Sandbox
    creating: Process
    returning: Process
    notified: Process
    outcomes: Path
    shift: Path
    count_undone: Callable[[], int]
    http: aiohttp.ClientSession
    lost: list = attrs.Factory(list)
    refused: list = attrs.Factory(list)
    taken: list = attrs.Factory(list)
    webhook_path: str = ""

    @property
    def processes(self):
        """All processes."""
        return self.creating, self.returning, self.notified

    async def reload(self, http, method, url, **settings):
        """
        Send a request until it is answered, as a customer does who reloads
        a page that does not come.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    async with http.request(
                        method, url, allow_redirects=False, **settings
                    ) as response:
                        await response.read()
                        return response
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    async def play(self, link_id):
        """Play the journey of a customer, who returns from it."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            response = await self.reload(
                browser,
                "POST",
                f"{self.creating.origin}/bank/redirect",
                headers={
                    "X-Customer": link_id,
                    "Origin": self.returning.origin,
                },
            )
            if response.status != 303:
                self.refused.append(response.status)
                return
            session_id = URL(response.headers["Location"]).query["session_id"]
            played = await self.sandbox.play(session_id, "success")
            await self.forge(
                browser, link_id, URL(played.redirect, encoded=True)
            )
            response = await self.reload(
                browser, "GET", URL(played.redirect, encoded=True)
            )
            if response.status != 200:
                self.refused.append(response.status)

    async def forge(self, browser, link_id, url):
        """Return with a state that is changed, and with a foreign session."""
        if self.chance.random() > 0.1:
            return
        letter = self.chance.choice("abcdef")
        path = url.raw_path[:-8] + letter + url.raw_path[-7:]
        forged = [url.with_path(path, encoded=True, keep_query=True)]
        forged += [
            url.update_query(session_id=session_id)
            for session_id, session in self.sandbox.sessions.items()
            if session.link_id != link_id
        ][-1:]
        for one in forged:
            response = await self.reload(browser, "GET", one)
            if response.status != 403 and one != url:
                self.taken.append(response.status)

    async def relay(self, request):
        """
        Hand a webhook on, once or twice; lose one of five, and those for a
        process that is dead.
        """
        body = await request.read()
        fate = self.chance.random()
        if fate < 0.2:
            self.lost.append(body)
            return web.Response(status=502)
        try:
            for _ in range(2 if fate > 0.9 else 1):
                await self.notify(body)
        except aiohttp.ClientError:
            self.lost.append(body)
            return web.Response(status=502)
        return web.Response()

    async def notify(self, body):
        """Post a webhook to its process."""
        async with self.http.post(
            f"{self.notified.origin}{self.webhook_path}",
            data=body,
            headers={"Content-Type": "application/json"},
        ) as response:
            if response.status != 200:
                self.refused.append(response.status)

    async def kill_each(self, is_over, longest):
        """
        Kill each process, once or more often, at random moments of its life,
        which lasts *longest* seconds at most.
        """
        while True:
            for process in self.chance.sample(self.processes, 3):
                await asyncio.sleep(self.chance.uniform(0, longest))
                process.kill()
                await process.start()
            if is_over():
                return

    async def sweep(self):
        """Let every clock go on, and sweep in one of the processes."""
        self.shift.write_text(str(LATER))
        process = self.chance.choice(self.processes)
        async with self.http.post(f"{process.origin}/sweep") as response:
            assert response.status == 200, await response.text()

    async def until(self, condition):
        """Wait until a condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.2)

    def completed(self):
        """Return the customers whose session has its final outcomes."""
        return {
            link_id
            for link_id, kinds in self.rows().items()
            if {"EnrichmentWebhook", "SuccessEvent"} <= set(kinds)
        }

    def rows(self):
        """Return the kinds of the outcomes of each customer."""
        with closing(sqlite3.connect(self.outcomes)) as database:
            found = database.execute("SELECT link_id, kind FROM outcomes")
            kinds = collections.defaultdict(list)
            for link_id, kind in found:
                kinds[link_id].append(kind)
        return {link_id: sorted(found) for link_id, found in kinds.items()}


@pytest.fixture(name="scene")
async def _scene(request, tmp_path, seed, forking):
    """Run three processes over the store of the parameter."""
    if request.param == "SQLite":
        path = tmp_path / "sessions.db"
        address = f"sqlite:///{path}"
        count_undone = functools.partial(count_in_sqlite, path)
    else:
        postgres = request.getfixturevalue("postgres")
        name = postgres.create_database()
        address = postgres.dsn(name)
        count_undone = functools.partial(count_in_postgres, postgres, name)
    outcomes = tmp_path / "outcomes.db"
    with closing(sqlite3.connect(outcomes)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(TABLE)
    shift = tmp_path / "shift"
    shift.write_text("0")
    *ports, relay = free_ports(4)
    base = f"http://127.0.0.1:{ports[1]}/bank"
    app = web.Application()
    async with (
        Sandbox(
            "session",
            webhook_url=f"http://127.0.0.1:{relay}/webhook",
            processing_time=0.1,
        ) as sandbox,
        aiohttp.ClientSession() as http,
    ):
        processes = [
            Process(
                {
                    "port": port,
                    "base": base,
                    "bank": {
                        "api_key": sandbox.api_key,
                        "server_hash": sandbox.server_hash,
                        "base_url": str(sandbox.base_url),
                    },
                    "store": address,
                    "keys": ["k" * 32],
                    "outcomes": str(outcomes),
                    "shift": str(shift),
                },
                forking,
            )
            for port in ports
        ]
        scene = Scene(
            random.Random(seed),
            sandbox,
            *processes,
            outcomes,
            shift,
            count_undone,
            http,
        )
        app.router.add_post("/webhook", scene.relay)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", relay).start()
        try:
            await asyncio.gather(*(process.start() for process in processes))
            async with http.get(f"{processes[0].origin}/webhook-url") as found:
                scene.webhook_path = URL(await found.text()).raw_path
            yield scene
        finally:
            for process in processes:
                process.kill()
            await runner.cleanup()


def expected(journeys):
    """Return the customers, and the kinds of their outcomes."""
    return {f"customer-{number}": KINDS for number in range(journeys)}


async def run(scene, journeys, longest):
    """
    Play journeys while processes are killed, sweep, and let the lost
    webhooks arrive at last; return the kinds of each customer's outcomes.
    """
    link_ids = list(expected(journeys))
    waiting = iter(link_ids)

    async def play():
        for link_id in waiting:
            await scene.play(link_id)

    async with asyncio.TaskGroup() as group:
        players = [group.create_task(play()) for _ in range(8)]
        await scene.kill_each(
            lambda: all(player.done() for player in players), longest
        )
    # A process starts the processing of each session, and the last webhook
    # of each is on its way, or lost.
    ended = 0
    async with asyncio.timeout(PATIENCE):
        while ended < journeys:
            sent = await scene.sandbox.webhooks_sent()
            names = [one.body.get("event_name") for one in sent]
            ended = names.count("ENRICHMENT_NOTIFICATION")
            await asyncio.sleep(0.05)
    await scene.until(lambda: scene.count_undone() == 0)
    await scene.sweep()
    await scene.until(lambda: scene.completed() == set(link_ids))
    for body in scene.lost:
        await scene.notify(body)
    await scene.until(lambda: scene.count_undone() == 0)
    return scene.rows()


BOTH = pytest.mark.parametrize(
    "scene", ["SQLite", "PostgreSQL"], indirect=True
)


@pytest.mark.long
@pytest.mark.parametrize("scene", ["SQLite"], indirect=True)
async def test_thirty_journeys(scene):
    """
    Each outcome is inserted once, whichever process is killed.
    """
    outcomes = await run(scene, 30, longest=0.3)

    assert outcomes == expected(30)
    assert scene.refused == scene.taken == []
    assert scene.lost
    assert all(process.kills for process in scene.processes)


@BOTH
@pytest.mark.long
async def test_campaign(scene):
    """
    Each outcome of a campaign is inserted once.
    """
    outcomes = await run(scene, 150, longest=1)

    assert outcomes == expected(150)
    assert scene.refused == scene.taken == []
    assert scene.lost
    assert all(process.kills for process in scene.processes)
