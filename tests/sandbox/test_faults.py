"""
Faults of the sandbox, as a caller sees them on the wire.
"""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import ssl
import sys

from email.utils import parsedate_to_datetime

import aiohttp
import attrs
import pytest
import trustme

from yarl import URL

from bankconnect_async.errors import ConfigurationError
from bankconnect_async.sandbox import Fault, Faults, Sandbox


@attrs.define
class Caller:
    """
    A caller that sees every byte.
    """

    sandbox: Sandbox
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, sandbox, **kwargs):
        url = URL(sandbox.base_url)
        streams = await asyncio.open_connection(url.host, url.port, **kwargs)
        return cls(sandbox, *streams)

    async def send(self, link_id="c"):
        """Send one request."""
        body = json.dumps(
            {"link_id": link_id, "api_key": self.sandbox.api_key}
        ).encode()
        head = (
            "POST /bank-connect/v1/session/ HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def read_answer(self):
        """Read one whole response: status and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        return int(head[9:12]), await self.reader.readexactly(length)

    async def close(self):
        self.writer.close()
        # It may have been reset.
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@pytest.fixture(name="call")
async def _call(sandbox):
    """Connect callers to the sandbox that see every byte."""
    callers = []

    async def connect(**kwargs):
        callers.append(await Caller.connect(sandbox, **kwargs))
        return callers[-1]

    yield connect
    for caller in callers:
        await caller.close()


@pytest.fixture(name="post")
def _post(sandbox, http):
    """Post one create, and return the response."""

    async def post(link_id="c"):
        body = {"link_id": link_id, "api_key": sandbox.api_key}
        return await http.post(
            f"{sandbox.base_url}/v1/session/", json=body, allow_redirects=False
        )

    return post


async def end_of(caller):
    """
    Read to the end; return the bytes, and whether the connection ended in good
    order.
    """
    try:
        return await caller.reader.read(), True
    except ConnectionResetError:
        return b"", False


class TestOnTheWire:
    """
    Each fault, as the caller sees it.
    """

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize(
        ("make", "ending"),
        [
            (Fault.reset, (b"", False)),
            (Fault.eof, (b"", True)),
            (Fault.garbage, (b"\x15\x03\x01\x00\x02\x02F\r\n\r\n", True)),
        ],
        ids=["reset", "eof", "garbage"],
    )
    async def test_endings(self, sandbox, call, make, ending, after):
        """
        Reset, end and garbage come after the request was read.
        """
        sandbox.faults.script(make(after=after))
        caller = await call()

        await caller.send("c")

        assert await end_of(caller) == ending
        assert sandbox.created("c") == after
        assert sandbox.received("c") == 1

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    async def test_truncated_head(self, sandbox, call, after):
        """
        Half a head is followed by the end.
        """
        sandbox.faults.script(Fault.truncate(within="head", after=after))
        caller = await call()
        await caller.send("c")

        said, is_good = await end_of(caller)

        assert is_good
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\n\r\n" not in said
        assert sandbox.created("c") == after

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    async def test_truncated_body(self, sandbox, call, after):
        """
        All but the last bytes of the announced length are followed by the end.
        """
        sandbox.faults.script(Fault.truncate(after=after))
        caller = await call()
        await caller.send("c")

        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await caller.read_answer()

        assert caught.value.expected - len(caught.value.partial) == 8
        assert caught.value.partial.startswith(b'{"redirect_url":')
        assert sandbox.created("c") == after

    @pytest.mark.parametrize(
        ("fault", "status", "body"),
        [
            (Fault.html(), 200, "<!doctype html>"),
            (Fault.empty(), 200, ""),
            (Fault.status(500), 500, "<!doctype html>"),
            (Fault.status(404, after=True), 404, "<!doctype html>"),
            (Fault.redirect("https://x.example/y"), 307, ""),
        ],
        ids=["html", "empty", "500", "404", "redirect"],
    )
    async def test_responses(self, sandbox, post, fault, status, body):
        """
        Other responses are complete, and leave the connection open.
        """
        sandbox.faults.script(fault)

        answer = await post("c")
        text = await answer.text()
        good = await post("c")

        assert (answer.status, text[:15]) == (status, body)
        assert good.status == 200
        assert sandbox.connections == 1
        assert sandbox.created("c") == 1 + fault.after

    async def test_redirects_say_where_to(self, sandbox, post):
        """
        A redirect names its target.
        """
        sandbox.faults.script(Fault.redirect("https://x.example/y"))

        assert (await post()).headers["Location"] == "https://x.example/y"

    async def test_retry_after(self, sandbox, post):
        """
        Retry-After comes in seconds or as an HTTP date.
        """
        sandbox.faults.script(
            Fault.status(429, retry_after=7),
            Fault.status(503, retry_after=60, as_date=True),
            Fault.status(503),
        )

        seconds, date, none = [await post() for _ in range(3)]

        assert seconds.headers["Retry-After"] == "7"
        until = parsedate_to_datetime(date.headers["Retry-After"]).timestamp()
        assert until - sandbox.clock.time() == pytest.approx(60, abs=5)
        assert "Retry-After" not in none.headers

    async def test_stall_goes_on(self, sandbox, post):
        """
        A stall of limited time ends with the good response.
        """
        sandbox.faults.script(Fault.stall(0.01), Fault.stall(0.01, after=True))

        answers = [await post("c") for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 200]
        assert sandbox.created("c") == 2

    async def test_stall_within_the_body_goes_on(self, sandbox, call):
        """
        The rest of the body is sent after the stall.
        """
        sandbox.faults.script(Fault.stall(0.01, within="body", after=True))
        caller = await call()
        await caller.send()

        status, body = await caller.read_answer()

        assert status == 200
        assert json.loads(body)["redirect_url"]

    async def test_a_stalled_request_is_processed_late(self, sandbox, call):
        """
        A stalled request is processed although the caller has given up.
        """
        sandbox.faults.script(Fault.stall(0.05))
        caller = await call()
        await caller.send("c")
        while not sandbox.received("c"):
            await asyncio.sleep(0)
        await caller.close()
        assert sandbox.created("c") == 0

        async with asyncio.timeout(5):
            while not sandbox.created("c"):
                await asyncio.sleep(0.01)

    @pytest.mark.parametrize("within", ["head", "body"])
    async def test_stall_for_ever(self, sandbox, call, within):
        """
        An endless stall sends and processes nothing, and does not delay
        closing.
        """
        sandbox.faults.script(Fault.stall(within=within))
        caller = await call()
        await caller.send("c")
        while not sandbox.received("c"):
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        started = loop.time()

        await sandbox.aclose()

        assert loop.time() - started < 0.5
        assert sandbox.created() == 0

    async def test_hang_up(self, sandbox, call):
        """
        The good response before a hang-up does not announce that the
        connection closes.
        """
        sandbox.faults.script(Fault.hang_up())
        caller = await call()
        await caller.send()

        said, is_good = await end_of(caller)

        assert is_good
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" not in said

    async def test_hang_up_waits_for_idleness(
        self, sandbox, call, monkeypatch
    ):
        """
        A connection in use is not closed, an idle one is.
        """
        sandbox.faults.script(Fault.hang_up(30), None, Fault.hang_up(30))
        loop = asyncio.get_running_loop()
        clock, ahead = loop.time, 0
        monkeypatch.setattr(loop, "time", lambda: clock() + ahead)
        caller = await call()
        for _ in range(2):
            await caller.send()
            assert (await caller.read_answer())[0] == 200
        ahead += 31
        await caller.send()
        assert (await caller.read_answer())[0] == 200
        ahead += 31

        assert await end_of(caller) == (b"", True)
        assert sandbox.connections == 1

    async def test_hang_up_answers_what_was_read(
        self, sandbox, call, monkeypatch
    ):
        """
        A request that is read when the connection is to be closed is answered.
        """
        sandbox.faults.script(Fault.hang_up(30))
        loop = asyncio.get_running_loop()
        clock, ahead = loop.time, 0
        monkeypatch.setattr(loop, "time", lambda: clock() + ahead)
        caller = await call()
        await caller.send()
        assert (await caller.read_answer())[0] == 200
        # The same round of the loop reads the request and finds the timer due.
        ahead += 31
        await caller.send()

        assert (await caller.read_answer())[0] == 200
        assert sandbox.created() == 2


class TestAtTheDoor:
    """
    Faults before a connection is accepted.
    """

    async def test_refuse(self, sandbox, call):
        """
        The connection is reset before anything is read.
        """
        sandbox.faults.script(Fault.refuse())
        caller = await call()

        assert await end_of(caller) == (b"", False)
        assert (sandbox.connections, sandbox.requests) == (1, 0)

    async def test_slow_accept(self, sandbox, call):
        """
        A connection is accepted late, and then served.
        """
        sandbox.faults.script(Fault.slow_accept(0.05))
        loop = asyncio.get_running_loop()
        started = loop.time()
        caller = await call()
        await caller.send()

        assert (await caller.read_answer())[0] == 200
        assert loop.time() - started >= 0.05

    async def test_over_an_open_connection(self, sandbox, call):
        """
        On an open connection the same faults are a reset and a late response.
        """
        sandbox.faults.script(
            None, Fault.slow_accept(0.01), Fault.refuse(), None
        )
        caller = await call()
        for _ in range(2):
            await caller.send("c")
            assert (await caller.read_answer())[0] == 200
        await caller.send("c")

        assert await end_of(caller) == (b"", False)
        assert sandbox.created("c") == 2

    async def test_outage(self, sandbox, post, call):
        """
        Nobody listens for a while; then the sandbox is back with its state.
        """
        caller = await call()
        sandbox.faults.script(Fault.stall(60))
        await caller.send("late")
        while not sandbox.received("late"):
            await asyncio.sleep(0)

        async with sandbox.outage():
            assert await end_of(caller) == (b"", False)
            with pytest.raises(aiohttp.ClientConnectorError):
                await post()

        assert (await post("c")).status == 200
        assert sandbox.created("late") == 0
        assert sandbox.created("c") == 1

    async def test_closed_during_an_outage(self):
        """
        A sandbox that is closed while it is away stays closed.
        """
        async with Sandbox() as sandbox:
            async with sandbox.outage():
                await sandbox.aclose()

            with pytest.raises(RuntimeError, match="not running"):
                _ = sandbox.base_url

    async def test_outage_needs_a_running_one(self):
        """
        A sandbox that does not run cannot have an outage.
        """
        with pytest.raises(RuntimeError, match="not running"):
            async with Sandbox().outage():
                pass

    async def test_closing_leaves_nobody_at_the_door(self):
        """
        Closing the sandbox closes connections that wait to be accepted.
        """
        async with Sandbox() as sandbox:
            sandbox.faults.script(Fault.slow_accept(60))
            caller = await Caller.connect(sandbox)
            while not sandbox.connections:
                await asyncio.sleep(0)

        await end_of(caller)
        await caller.close()
        assert sandbox.requests == 0


class TestTLS:
    """
    A sandbox of https.
    """

    @pytest.fixture(name="secure")
    async def _secure(self):
        """Run a sandbox of https; yields it with its callers' settings."""
        authority = trustme.CA()
        of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(of_server)
        of_caller = ssl.create_default_context()
        authority.configure_trust(of_caller)
        async with Sandbox(ssl=of_server) as sandbox:
            yield sandbox, of_caller

    async def test_serves_https(self, secure, http):
        """
        All addresses are https, the journey's included.
        """
        sandbox, context = secure
        body = {"link_id": "c", "api_key": sandbox.api_key}

        answer = await http.post(
            f"{sandbox.base_url}/v1/session/", json=body, ssl=context
        )

        assert sandbox.base_url.startswith("https://127.0.0.1:")
        journey = URL((await answer.json())["redirect_url"])
        assert journey.origin() == URL(sandbox.base_url).origin()

    @pytest.mark.parametrize(
        ("fault", "ending"),
        [(Fault.reset(), (b"", False)), (Fault.eof(), (b"", True))],
        ids=["reset", "eof"],
    )
    async def test_endings(self, secure, fault, ending):
        """
        A reset and an end can be distinguished through TLS.
        """
        sandbox, context = secure
        sandbox.faults.script(fault)
        caller = await Caller.connect(sandbox, ssl=context)

        await caller.send()

        assert await end_of(caller) == ending
        await caller.close()

    async def test_refuses_before_the_handshake(self, secure):
        """
        A refused connection does not begin a handshake.
        """
        sandbox, context = secure
        sandbox.faults.script(Fault.refuse())

        with pytest.raises(ConnectionResetError):
            await Caller.connect(sandbox, ssl=context)

    async def test_survives_other_protocols(self, secure, http):
        """
        A caller without TLS does not disturb the sandbox.
        """
        sandbox, context = secure
        caller = await Caller.connect(sandbox)
        await caller.send()
        await end_of(caller)
        await caller.close()

        answer = await http.get(sandbox.base_url, ssl=context)

        assert answer.status == 404

    def test_needs_a_context(self):
        """
        The error names a value that is no `SSLContext`.
        """
        with pytest.raises(ConfigurationError) as caught:
            Sandbox(ssl=True)

        assert caught.value.fields.keys() == {"ssl"}


FAILED = Fault.status(500)
GONE = Fault.eof()


def meets(faults, link_id, times):
    """Return the faults of the next requests of a link id."""
    return [faults.next_request_fault(link_id) for _ in range(times)]


class TestPlans:
    """
    Scripts, lasting faults and random faults.
    """

    def test_script(self):
        """
        A script continues where it stopped; after it all is well.
        """
        faults = Faults()
        faults.script(FAILED, None)
        faults.script(GONE)

        assert meets(faults, "c", 4) == [FAILED, None, GONE, None]

    def test_script_of_a_prefix(self):
        """
        Each link id of a prefix has its own position in the script.
        """
        faults = Faults()
        faults.script(FAILED, GONE, prefix="x-")

        assert meets(faults, "x-1", 1) == [FAILED]
        assert meets(faults, "x-2", 3) == [FAILED, GONE, None]
        assert meets(faults, "x-1", 2) == [GONE, None]
        assert meets(faults, "y-1", 1) == [None]

    def test_always(self):
        """
        A lasting fault applies until all faults are cleared.
        """
        faults = Faults()
        faults.always(FAILED)
        assert meets(faults, "c", 3) == [FAILED] * 3

        faults.clear()
        assert meets(faults, "c", 1) == [None]

    def test_precedence(self):
        """
        The script comes first, then the longest prefix with a fault.
        """
        faults = Faults()
        faults.always(FAILED)
        faults.script(None, prefix="x-")
        faults.always(GONE, prefix="x-y")
        faults.script(Fault.reset())

        assert meets(faults, "x-y", 3) == [Fault.reset(), GONE, GONE]
        assert meets(faults, "x-z", 2) == [None, FAILED]

    def test_chance_depends_on_nothing_else(self):
        """
        The faults of a link id do not depend on the order of arrival.
        """
        dice = {FAILED: 0.3, GONE: 0.2}
        one, other = Faults(), Faults()
        assert one.random(dice, seed=7) == other.random(dice, seed=7) == 7

        ids = [f"c{number}" for number in range(100)]
        straight = {id_: meets(one, id_, 3) for id_ in ids}
        rounds = [
            {id_: other.next_request_fault(id_) for id_ in ids[::-1]}
        ] + [
            {id_: other.next_request_fault(id_) for id_ in ids}
            for _ in range(2)
        ]

        for id_ in ids:
            assert straight[id_] == [each[id_] for each in rounds]

    def test_chance_is_kept(self):
        """
        Among many requests each fault has its share.
        """
        faults = Faults()
        faults.random({FAILED: 0.3, GONE: 0.1}, seed=7)

        met = meets(faults, "c", 10_000)

        assert met.count(FAILED) == pytest.approx(3000, abs=150)
        assert met.count(GONE) == pytest.approx(1000, abs=100)

    def test_seed_is_made_up(self):
        """
        Without a seed the sandbox chooses one, which reproduces the run.
        """
        faults, again = Faults(), Faults()
        seed = faults.random({FAILED: 0.5})
        again.random({FAILED: 0.5}, seed=seed)

        assert meets(faults, "c", 100) == meets(again, "c", 100)

    def test_the_door_has_its_own_dice(self):
        """
        Random faults of connections are independent of link ids.
        """
        faults, again = Faults(), Faults()
        for each in (faults, again):
            each.random({Fault.refuse(): 0.5, FAILED: 0.5}, seed=7)

        connections = [faults.next_connect_fault() for _ in range(1000)]

        assert connections == [again.next_connect_fault() for _ in range(1000)]
        assert connections.count(None) == pytest.approx(500, abs=80)
        assert set(meets(faults, "c", 100)) == {None, FAILED}

    def test_the_door_takes_its_part_of_a_script(self):
        """
        A connection takes the head of the script only if it is a fault of
        connections.
        """
        faults = Faults()
        faults.script(FAILED, Fault.refuse())

        assert faults.next_connect_fault() is None
        assert meets(faults, "c", 1) == [FAILED]
        assert faults.next_connect_fault() == Fault.refuse()
        assert faults.next_connect_fault() is None

    def test_always_holds_at_the_door_and_behind(self):
        """
        A lasting refusal applies to open connections, too.
        """
        faults = Faults()
        faults.always(Fault.refuse())

        assert faults.next_connect_fault() == Fault.refuse()
        assert meets(faults, "c", 1) == [Fault.refuse()]

        faults.always(FAILED)
        assert faults.next_connect_fault() is None

    @pytest.mark.parametrize(
        "chances", [{FAILED: -0.1}, {FAILED: 0.6, GONE: 0.5}, {GONE: 1e999}]
    )
    def test_impossible_chances(self, chances):
        """
        Impossible probabilities are refused.
        """
        with pytest.raises(ConfigurationError):
            Faults().random(chances)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Fault.status(200),
            lambda: Fault.status(600),
            lambda: Fault.stall(-1),
            lambda: Fault.slow_accept(float("nan")),
            lambda: Fault.hang_up(float("inf")),
            lambda: Fault.status(503, retry_after=-1),
        ],
    )
    def test_impossible_faults(self, make):
        """
        An impossible fault is refused when it is made.
        """
        with pytest.raises(ConfigurationError):
            make()

    async def test_the_journey_is_spared(self, sandbox, post, http):
        """
        Faults apply to the API only; a customer's page is served.
        """
        journey = (await (await post()).json())["redirect_url"]
        sandbox.faults.always(FAILED)

        page = await http.get(journey)
        lost = await http.get(f"{sandbox.base_url}/v1/nowhere/")

        assert page.status == 200
        assert lost.status == 500

    async def test_a_path_that_is_none(self, sandbox, http):
        """
        An unknown path has no fault after processing.
        """
        sandbox.faults.always(Fault.hang_up())

        lost = await http.get(f"{sandbox.base_url}/v1/nowhere/?link_id=c")

        assert lost.status == 404
        assert sandbox.received("c") == 1


class TestSpecs:
    """
    Faults in the syntax of the command line.
    """

    @pytest.mark.parametrize(
        ("spec", "fault"),
        [
            ("refuse", Fault.refuse()),
            ("slow-accept:0.5", Fault.slow_accept(0.5)),
            ("reset", Fault.reset()),
            ("reset:after", Fault.reset(after=True)),
            ("eof", Fault.eof()),
            ("stall", Fault.stall()),
            ("stall:2:body", Fault.stall(2, within="body")),
            ("stall:after:2", Fault.stall(2, after=True)),
            ("truncate", Fault.truncate()),
            ("truncate:head", Fault.truncate(within="head")),
            ("garbage", Fault.garbage()),
            ("html:after", Fault.html(after=True)),
            ("empty", Fault.empty()),
            ("redirect", Fault.redirect()),
            ("hang-up", Fault.hang_up()),
            ("hang-up:3", Fault.hang_up(3)),
            ("500", Fault.status(500)),
            ("429:retry-after=7", Fault.status(429, retry_after=7)),
            (
                "503:after:retry-after=7:date",
                Fault.status(503, retry_after=7, as_date=True, after=True),
            ),
        ],
    )
    def test_one(self, spec, fault):
        """
        Every fault can be written as a spec, and takes effect.
        """
        faults = Faults()

        assert faults.load([spec]) is None
        assert meets(faults, "c", 2) == [fault, fault]

    def test_several(self):
        """
        Scripts, prefixes and probabilities can be combined.
        """
        faults = Faults()

        seed = faults.load(
            ["500,ok", "x-*=eof", "y-*=eof,ok,500", "reset@0.5", "html@0.5"],
            seed=7,
        )

        assert seed == 7
        assert meets(faults, "c", 2) == [FAILED, None]
        assert meets(faults, "x-1", 2) == [GONE, GONE]
        assert meets(faults, "y-1", 3) == [GONE, None, FAILED]
        assert set(meets(faults, "y-1", 50)) == {Fault.reset(), Fault.html()}

    @pytest.mark.parametrize(
        "spec",
        [
            "",
            "earthquake",
            "reset:body",
            "reset:soon",
            "503:date:date",
            "503@often",
            "503@2",
            "503,reset@0.1",
            "ok@0.1",
            "200",
            "stall:-1",
        ],
    )
    def test_nonsense(self, spec):
        """
        A bad spec is refused.
        """
        with pytest.raises(ConfigurationError):
            Faults().load([spec])

    async def test_command_line(self, http):
        """
        ``bankconnect sandbox --fault`` applies the given faults.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bankconnect_async.cli", "sandbox"),
            *("--port", "0", "--fault", "bad-*=502", "--fault", "eof@0"),
            *("--fault-seed", "7"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        lines = [await process.stdout.readline() for _ in range(4)]
        _, _, url = shlex.split(lines[1].decode())[1].partition("=")
        statuses = [
            (
                await http.post(
                    f"{url}/v1/session/",
                    json={"link_id": link_id, "api_key": "sandbox-api-key"},
                )
            ).status
            for link_id in ("bad-1", "good-1")
        ]
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()

        assert statuses == [502, 200]
        assert b"--fault-seed 7" in said
        assert process.returncode == 0
