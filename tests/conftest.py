"""
Shared fixtures: samples of the contract, servers, clocks.
"""

import asyncio
import ctypes
import fcntl
import functools
import gc
import inspect
import itertools
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import attrs
import hypothesis
import pytest
import trustme

from yarl import URL

import bankconnect_async

from bankconnect_async import AsyncBankConnect, Pool, Timeouts
from bankconnect_async._http.bodies import RequestBody
from bankconnect_async._http.operation import Operation
from bankconnect_async._http.transport import Response, Transport
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.testing import FakeClock, make_client


# Debian's own name for it (invoke-rc.d(8)).
POLICY = Path("/usr/sbin/policy-rc.d")
POSTGRESQL = Path("/usr/lib/postgresql")
TESTS = Path(__file__).resolve().parent
FIXTURES = TESTS / "fixtures"
ROOT = TESTS.parent

hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    """
    Let the programs that tests start hear SIGINT, and store bytecode.

    Tests import `benchmarks` from the checkout; the package that is installed
    comes first.

    A shell that runs the suite in the background (`&`) has it ignored, and
    every child would inherit that. Without stored bytecode, most of the time
    of the suite would go into compiling the same modules in every program.

    Development mode is for the processes of pytest alone, and without its
    report of slow steps of a loop, because these are slow where a machine is
    busy. Programs that tests start would write it where output is expected.
    """
    sys.path.append(str(ROOT))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if config.getoption("dist", "no") == "no":
        # This process runs tests, rather than starts others that do.
        os.environ.pop("PYTHONDEVMODE", None)
    logging.getLogger("asyncio").addFilter(_is_no_slow_step)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if worker := getattr(config, "workerinput", None):
        number = int(worker["workerid"].removeprefix("gw"))
        _begin_elsewhere(config, number / worker["workercount"])


def _begin_elsewhere(config: pytest.Config, share: float) -> None:
    """
    Collect from another file on, a *share* of the way through all of them.

    In a new environment, most of the time of collecting goes into compiling.
    Workers that begin at different files find what others have compiled.
    """
    if [Path(arg).resolve() for arg in config.args] == [TESTS]:
        files = sorted(TESTS.rglob("test_*.py"))
        first = int(len(files) * share)
        config.args[:] = map(str, files[first:] + files[:first])


def _is_no_slow_step(record: logging.LogRecord) -> bool:
    return not record.msg.startswith("Executing %s took")


def pytest_collection_finish() -> None:
    """
    Spare the collected tests the garbage collector.

    They stay until the end, and every full collection would visit them.
    """
    gc.collect()
    gc.freeze()


# Before pytest reads the markers.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """
    Mark the tests of PostgreSQL.

    All workers have the tests in one order, wherever they began to collect.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path)
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()) or (
            "PostgreSQL" in item.name
        ):
            item.add_marker(pytest.mark.servers)


@pytest.fixture(name="until", scope="session")
def _until() -> Callable[..., Awaitable[None]]:
    """Wait until a condition holds, and fail if it never does."""

    async def until(
        condition: Callable[[], object], *, seconds: float = 20
    ) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    return until


@pytest.fixture(name="sample", scope="session")
def _sample() -> Callable[[str], bytes]:
    """Read one of the contract's samples by its file name."""
    return lambda name: (FIXTURES / name).read_bytes()


@pytest.fixture(name="fixture_names", scope="session")
def _fixture_names() -> set[str]:
    """Return the file names of all samples."""
    return {path.name for path in FIXTURES.iterdir()}


@pytest.fixture(name="sample_json", scope="session")
def _sample_json() -> Callable[[str], Any]:
    """Read one of the contract's JSON samples by its file name."""
    return lambda name: json.loads((FIXTURES / name).read_bytes())


@pytest.fixture(name="clock")
def _clock() -> FakeClock:
    """Return a clock that jumps."""
    return FakeClock()


@pytest.fixture(name="sandbox")
async def _sandbox() -> AsyncIterator[Sandbox]:
    """Run a sandbox in the default dialect."""
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(name="client_of", scope="session")
def _client_of() -> Callable[..., AsyncBankConnect]:
    """Return a function that makes a client of a sandbox."""
    return make_client


@pytest.fixture(name="run_program", scope="session")
def _run_program() -> Callable[..., str]:
    """Return a function that runs a program, and returns its output."""

    def run(text: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", text, *arguments],
            # The package is there, wherever it is not installed.
            cwd=Path(bankconnect_async.__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


FORK_SERVER = Path(__file__).with_name("fork_server.py")
# Of prctl(2): this process becomes the parent of orphans among its
# descendants.
PR_SET_CHILD_SUBREAPER = 36
_execute_child: Callable[..., None] = subprocess.Popen._execute_child  # type: ignore[attr-defined]
EXECUTE_CHILD = inspect.signature(_execute_child)


class ForkServer:
    """
    A process that has imported some modules, and forks programs.
    """

    #: The one that forks the programs of the present task.
    current: ContextVar["ForkServer | None"] = ContextVar(
        "fork_server", default=None
    )

    def __init__(self, modules: Iterable[str]) -> None:
        self._connection, end = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        with end:
            self._process = subprocess.Popen(
                [sys.executable, FORK_SERVER, str(end.fileno()), *modules],
                pass_fds=[end.fileno()],
                start_new_session=True,
            )

    @contextmanager
    def forking(self) -> Iterator[None]:
        """Fork the programs that this task starts in a block."""
        token = self.current.set(self)
        try:
            yield
        finally:
            self.current.reset(token)

    def fork(self, streams: list[int], **request: Any) -> int:
        """Fork a child of this process, and return its id."""
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            data = json.dumps(request).encode()
            socket.send_fds(self._connection, [data], streams)
            return int(self._connection.recv(20))
        finally:
            prctl(PR_SET_CHILD_SUBREAPER, 0)

    def stop(self) -> None:
        """End it; what it forked goes on."""
        self._connection.close()
        self._process.wait(60)


def execute_child(process: Any, *args: Any) -> None:
    """Start the program of a `subprocess.Popen`, by a fork server if set."""
    server = ForkServer.current.get()
    if server is None:
        _execute_child(process, *args)
        return
    given = EXECUTE_CHILD.bind(process, *args).arguments
    names = "p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"
    pipes = [given[name] for name in names]
    env = given["env"]
    process.pid = server.fork(
        [
            number if fd == -1 else fd
            for number, fd in enumerate((pipes[0], pipes[3], pipes[5]))
        ],
        words=[os.fspath(word) for word in given["args"][1:]],
        cwd=given["cwd"] and os.fspath(given["cwd"]),
        env=dict(os.environ if env is None else env),
        start_new_session=given["start_new_session"],
    )
    process._child_created = True
    process._close_pipe_fds(*pipes)


@pytest.fixture(name="forking", scope="session")
def _forking() -> Iterator[Callable[..., AbstractContextManager[None]]]:
    """
    Fork the Python programs that a block starts, as their start is cheap.

    ``with forking("a module that they import"):`` at the head of it. What
    `/proc` shows of them, the command line and the environment, is that of
    the process that forks them.
    """
    servers: dict[object, ForkServer] = {}

    def fork(*modules: str) -> AbstractContextManager[None]:
        if sys.platform != "linux":
            return nullcontext()
        # An interpreter reads these only when it starts.
        variables = sorted(
            item for item in os.environ.items() if "PYTHON" in item[0]
        )
        key = modules, *variables
        if key not in servers:
            servers[key] = ForkServer(modules)
        return servers[key].forking()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "_execute_child", execute_child)
        yield fork
    for server in servers.values():
        server.stop()


class SendingTransport(Transport):
    """
    A transport that makes the operations that it sends.
    """

    async def send_to(
        self,
        url: URL,
        body: RequestBody | None = None,
        *,
        method: str = "POST",
        time_left: float = 5.0,
    ) -> Response:
        """Send *body* to *url*, once."""
        operation = Operation(
            name=f"{method} test",
            template="test",
            url=url,
            method=method,
            decode=len,
        )
        return await self.send(operation, body, time_left=time_left)


@pytest.fixture(name="make_transport", scope="session")
def _make_transport() -> Callable[..., SendingTransport]:
    """Make a transport with short limits, as a client does."""

    def make(**settings: Any) -> SendingTransport:
        return SendingTransport(
            **{
                "headers": {"x-api-key": "k"},
                "timeouts": Timeouts(connect=2, read=2, pool=2),
                "pool": Pool(),
                "tls": None,
                "proxy": None,
                "proxy_credentials": None,
                "borrowed": None,
                **settings,
            }
        )

    return make


@attrs.frozen
class Debian:
    """
    Programs of packages of Debian, which root gets installed.

    Attributes:
        which: Finds a command.
        is_root: Whether packages can be installed.
        run: Runs a command, and tells whether it went well.
    """

    which: Callable[[str], str | None]
    is_root: bool
    run: Callable[[tuple[str, ...]], bool]

    def find(self, *commands: str, package: str) -> str | None:
        """
        Return the path of the first of *commands* that there is.

        If there is none, *package* is installed, where that is possible.
        """
        found = self._find(commands)
        if found is None and self.is_root and self.which("apt-get"):
            # Several processes run the tests, and dpkg serves one at a time.
            with _one_at_a_time():
                found = self._find(commands)
                if found is None:
                    self._install(package)
                    found = self._find(commands)
        return found

    def _find(self, commands: Iterable[str]) -> str | None:
        return next(filter(None, map(self.which, commands)), None)

    def _install(self, package: str) -> None:
        # Servers are not to be started where they are installed.
        with _no_services():
            _ = self.run(("apt-get", "update")) and self.run(
                (
                    *("apt-get", "install", "-y", "--no-install-recommends"),
                    package,
                )
            )


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    lock = Path(tempfile.gettempdir()) / "bankconnect-async-apt.lock"
    with open(lock, "w", opener=_open_no_link) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@contextmanager
def _no_services() -> Iterator[None]:
    # What Debian's packages ask before they start something.
    if POLICY.exists() or not os.access(POLICY.parent, os.W_OK):
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


@pytest.fixture(name="announce", scope="session")
def _announce(pytestconfig) -> Callable[[str], None]:
    """Print a line on stderr while pytest captures it."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def announce(text: str) -> None:
        with capture.global_and_fixture_disabled():
            sys.stderr.write(f"\n{text}\n")

    return announce


@pytest.fixture(name="run_aloud", scope="session")
def _run_aloud(announce) -> Callable[[tuple[str, ...]], bool]:
    """Run a long command, announce it, and return whether it succeeded."""

    def run(command: tuple[str, ...]) -> bool:
        announce(f"tests: + {' '.join(command)}")
        done = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
        return done.returncode == 0

    return run


@pytest.fixture(name="debian_class", scope="session")
def _debian_class() -> type[Debian]:
    """Return the class that finds programs, for its own tests."""
    return Debian


@pytest.fixture(name="debian", scope="session")
def _debian(run_aloud) -> Debian:
    """Return the programs of this machine."""

    def which(command: str) -> str | None:
        # Debian keeps servers where only root looks, and those of PostgreSQL
        # in a folder of each version.
        folders = [
            *(os.environ.get("PATH", ""), "/usr/sbin"),
            *sorted(map(str, POSTGRESQL.glob("*/bin")), reverse=True),
        ]
        return shutil.which(command, path=os.pathsep.join(folders))

    return Debian(
        which=which,
        is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        run=run_aloud,
    )


@pytest.fixture(name="find_program", scope="session")
def _find_program(debian) -> Callable[..., str]:
    """Return the path of a program, or fail the test in one clear line."""

    def find(command: str, *, package: str | None = None) -> str:
        package = package or command
        path: str | None = debian.find(command, package=package)
        if path is None:
            pytest.fail(
                f"this test needs {command}: install the package {package}"
                f" (Debian: apt-get install {package})",
                pytrace=False,
            )
        return path

    return find


# Has the characters that have to be escaped in a URL, and that none occurs
# in an error by chance.
PG_PASSWORD = "canary:p@ss/w%rd"
PG_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "ssl": "on",
    # The tests kill processes, not the machine.
    "fsync": "off",
}


@attrs.define
class PostgresServer:
    """
    A PostgreSQL server of the tests.

    Attributes:
        home: The folder of its files and of its socket.
        port: The port on loopback, also of the socket.
    """

    home: Path
    port: int
    _find: Callable[..., str]
    # The server refuses to run as root.
    _user: str | None
    _process: subprocess.Popen[bytes] | None = None
    _names: Iterator[int] = attrs.field(factory=itertools.count)

    def run(self, *command: str) -> str:
        """Run one of PostgreSQL's programs, and return what it prints."""
        program = self._find(command[0], package="postgresql")
        done = subprocess.run(
            [program, *command[1:]],
            cwd=self.home,
            user=self._user,
            text=True,
            check=False,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self) -> None:
        """Create its files."""
        password = self.home / "password"
        password.write_text(f"{PG_PASSWORD}\n")
        if self._user is not None:
            shutil.chown(self.home, self._user)
            shutil.chown(password, self._user)
        self._create_certificates()
        self.run(
            *("initdb", "--pgdata=data", "--username=postgres", "--no-sync"),
            *("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"),
            "--pwfile=password",
        )

    def _create_certificates(self) -> None:
        authority = trustme.CA()
        key = self.home / "server.pem"
        authority.issue_cert(
            "127.0.0.1"
        ).private_key_and_cert_chain_pem.write_to_path(str(key))
        key.chmod(0o600)
        if self._user is not None:
            shutil.chown(key, self._user)
        for name, one in ("authority", authority), ("other", trustme.CA()):
            one.cert_pem.write_to_path(str(self.home / f"{name}.pem"))

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        settings = PG_SETTINGS | {
            "unix_socket_directories": str(self.home),
            "ssl_cert_file": str(self.home / "server.pem"),
            "ssl_key_file": str(self.home / "server.pem"),
        }
        with (self.home / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._find("postgres", package="postgresql"),
                    *("-D", "data", "-p", str(self.port)),
                    *(f"--{name}={value}" for name, value in settings.items()),
                ],
                cwd=self.home,
                user=self._user,
                stdout=log,
                stderr=log,
            )
        ends_at = time.monotonic() + 60
        while not self._accepts():
            output = (self.home / "output.log").read_text()
            assert self._process.poll() is None, output
            assert time.monotonic() < ends_at, output
            time.sleep(0.02)

    def _accepts(self) -> bool:
        try:
            self.run(
                "pg_isready", f"--host={self.home}", f"--port={self.port}"
            )
        except AssertionError:
            return False
        return True

    def stop(self) -> None:
        """Disconnect everybody, and end it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def psql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement, and return what it answers."""
        return self.run(
            *("psql", f"--dbname={self.dsn(database)}", "--no-psqlrc"),
            *("--tuples-only", "--no-align", f"--command={statement}"),
        )

    def dsn(self, database: str, *, port: int | None = None) -> str:
        """Return the address of a database, with the password."""
        password = quote(PG_PASSWORD, safe="")
        return (
            f"postgresql://postgres:{password}@127.0.0.1:{port or self.port}"
            f"/{database}"
        )

    def create_database(self) -> str:
        """Create an empty database, and return its name."""
        name = f"test{next(self._names)}"
        self.psql(f"CREATE DATABASE {name}")
        return name


@pytest.fixture(name="postgres", scope="session")
def _postgres(find_program) -> Iterator[PostgresServer]:
    """Run a PostgreSQL server."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as home:
        server = PostgresServer(
            home=Path(home),
            port=free_port(),
            find=find_program,
            user="postgres" if is_root else None,
        )
        server.create()
        try:
            server.start()
            yield server
        finally:
            server.stop()


PGBOUNCER = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = 3
auth_type = plain
auth_file = {home}/users
"""


@pytest.fixture(name="pgbouncer")
def _pgbouncer(postgres, find_program) -> Iterator[int]:
    """Run PgBouncer in transaction mode, and return its port."""
    port = free_port()
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        (home / "users").write_text(f'"postgres" "{PG_PASSWORD}"\n')
        config = home / "pgbouncer.ini"
        config.write_text(
            PGBOUNCER.format(home=home, port=port, server=postgres.port)
        )
        with (home / "output.log").open("wb") as log:
            process = subprocess.Popen(
                [find_program("pgbouncer"), config],
                user="postgres" if is_root else None,
                stdout=log,
                stderr=log,
            )
        try:
            ends_at = time.monotonic() + 60
            while b"process up" not in (home / "output.log").read_bytes():
                assert time.monotonic() < ends_at
                assert process.poll() is None
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(name="postgres_dsn")
def _postgres_dsn(postgres) -> str:
    """Return the address of an empty database."""
    return postgres.dsn(postgres.create_database())


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RawServer:
    """
    A server that a test scripts connection by connection, byte by byte.

    Attributes:
        base_url: What a client takes as its base URL.
        connections: How many were accepted.
        requests: The bodies of all complete requests, in order.
    """

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}/bank-connect"
        self.connections = 0
        self.requests: list[bytes] = []

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request, head and body, and return its head."""
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                self.requests.append(await reader.readexactly(int(value)))
        return head


Script = Callable[
    [RawServer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]
]


@pytest.fixture(name="raw_server", scope="session")
def _raw_server() -> Callable[
    [Script], AbstractAsyncContextManager[RawServer]
]:
    """Serve a script: ``async with raw_server(script) as server``."""

    @asynccontextmanager
    async def serve(script: Script) -> AsyncIterator[RawServer]:
        handlers: set[asyncio.Task[None]] = set()

        async def handle(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            task = asyncio.current_task()
            assert task is not None
            handlers.add(task)
            server.connections += 1
            try:
                await script(server, reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the client went away, which scripts provoke
            except asyncio.CancelledError:
                pass  # at the end; Python 3.11 logs cancelled handlers
            finally:
                handlers.discard(task)
                writer.close()

        listener = await asyncio.start_server(handle, "127.0.0.1", 0)
        server = RawServer(listener.sockets[0].getsockname()[1])
        try:
            yield server
        finally:
            listener.close()
            for task in handlers:
                task.cancel()
            await asyncio.gather(*handlers, return_exceptions=True)
            await listener.wait_closed()

    return serve


def answer(
    body: bytes = b"{}", *, status: str = "200 OK", headers: str = ""
) -> bytes:
    """Write an HTTP answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@pytest.fixture(name="answer", scope="session")
def _answer() -> Callable[..., bytes]:
    """Write an HTTP answer of a body, a status line and header lines."""
    return answer


CREATED = (
    b'{"redirect_url": "https://bankconnectclient.finbox.in/?session_id=1d"}'
)


@pytest.fixture(name="created_answer", scope="session")
def _created_answer() -> bytes:
    """A good answer of the Session API."""
    return answer(CREATED)


class CancelledAt(Awaitable[Any]):
    """
    Another awaitable, whose task is cancelled at one of its steps.

    Args:
        work: The other awaitable.
        step: How often it suspends before.
        turns: Turns of the loop that it goes on from there.
    """

    def __init__(self, work: Awaitable[Any], step: int, turns: int) -> None:
        self._work = work
        self._step = step
        self._turns = turns

    def __await__(self) -> Generator[Any, Any, Any]:
        work = cast("Generator[Any, Any, Any]", self._work.__await__())
        send: Callable[[], Any] = functools.partial(next, work)
        for step in itertools.count():
            try:
                future = send()
            except StopIteration as stop:
                return stop.value
            if step == self._step:
                task = asyncio.current_task()
                assert task is not None
                self._cancel(task, self._turns)
            try:
                sent = yield future
            except BaseException as exc:  # noqa: BLE001 - it is handed on
                send = functools.partial(work.throw, exc)
            else:
                send = functools.partial(work.send, sent)
        return None

    def _cancel(self, task: asyncio.Task[Any], turns: int) -> None:
        if turns:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._cancel, task, turns - 1)
        else:
            task.cancel()


async def cancel_at_every_step(
    work: Callable[[], Awaitable[Any]],
    check: Callable[[], Awaitable[None]],
    *,
    turns: Iterable[int] = (*range(8), 12, 16, 24, 32, 48, 64, 128),
) -> int:
    """
    Cancel *work* wherever it suspends, and some *turns* of the loop later.

    Args:
        work: Begins it again.
        check: Awaited after each time.
        turns: How many of the loop, each in a run of its own.

    Returns:
        How often it was cancelled.
    """
    cancelled = 0
    for step in itertools.count():
        before = cancelled
        for count in turns:

            async def run(count: int = count, step: int = step) -> None:
                await CancelledAt(work(), step, count)

            try:
                await asyncio.create_task(run())
            except asyncio.CancelledError:
                cancelled += 1
                await check()
            else:
                # It was over by then.
                await check()
                break
        if cancelled == before:
            return cancelled
    raise AssertionError


@pytest.fixture(name="cancel_at_every_step", scope="session")
def _cancel_at_every_step() -> Callable[..., Awaitable[int]]:
    """Cancel a coroutine at every one of its steps; gives how often."""
    return cancel_at_every_step


@pytest.fixture(name="unprivileged", scope="session")
def _unprivileged() -> Callable[[], AbstractContextManager[None]]:
    """Be somebody whom permissions stop: root, whom they do not, is nobody."""

    @contextmanager
    def be_nobody() -> Iterator[None]:
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(before)

    return be_nobody
