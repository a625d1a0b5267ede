"""
Shared fixtures of tests behind real servers: the servers, proxies and a
client.
"""

import asyncio
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme

from bankconnect_async import AsyncBankConnect, BankConnectError, RetryPolicy


# Of any server: how long it may take to start, or to close a connection.
PATIENCE = 20.0
BODY = '{"redirect_url": "https://journey.example/?session_id=1d"}'
USER, PASSWORD = "lender", "correct-horse"
# Of "correct-horse", as `openssl passwd -apr1` writes it.
DIGEST = "$apr1$abcdefgh$abBiv57EcZGzKVkp2B9os1"

NGINX = """
daemon off;
pid {home}/pid;
error_log {home}/error.log;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log {home}/access.log;
  default_type application/json;
  keepalive_timeout {keepalive};
  keepalive_requests 1000000;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  ssl_certificate {home}/server.pem;
  ssl_certificate_key {home}/server.pem;
  server {{
    listen 127.0.0.1:{port} {ssl};
    location / {{ return 200 '{body}'; }}
  }}
}}
"""
HAPROXY = """
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout http-request 5s
  timeout http-keep-alive {keepalive}
frontend api
  bind 127.0.0.1:{port}
  http-request return status 200 content-type application/json \
string '{body}'
"""
TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 300
LogLevel Error
{auth}
"""
SQUID = """
http_port 127.0.0.1:{port}
pid_filename none
cache deny all
cache_log {home}/cache.log
cache_store_log none
access_log none
coredump_dir {home}
shutdown_lifetime 0 seconds
max_filedescriptors 1024
icon_directory {home}
{auth}
http_access {allow}
http_access deny all
"""
SQUID_AUTH = """
auth_param basic program {helper} {home}/passwords
auth_param basic children 1 startup=1
acl known proxy_auth REQUIRED
"""
WSGI = f"""
def app(environ, start_response):
    environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", [("Content-Length", "{len(BODY)}")])
    return [{BODY.encode()!r}]
"""
ASGI = f"""
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    length = (b"content-length", b"{len(BODY)}")
    await send(
        {{"type": "http.response.start", "status": 200, "headers": [length]}}
    )
    await send({{"type": "http.response.body", "body": {BODY.encode()!r}}})
"""


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Block until *condition* holds, and fail if it never does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


@attrs.define
class Server:
    """
    A server in a process of its own.

    Attributes:
        command: How it is started.
        home: The folder of its files.
        port: The port it listens on.
        tls: Whether it speaks TLS.
        ends_by: The signal that ends it.
    """

    command: list[str]
    home: Path
    port: int
    tls: bool = False
    ends_by: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> str:
        """Its address."""
        return f"http{'s' * self.tls}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.home / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=self.home
            )
        wait_until(self._listens, f"{self.command[0]} does not listen")

    def _listens(self) -> bool:
        assert self._process is not None
        log = self.home / "output.log"
        assert self._process.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Stop it by its handle."""
        if self._process is not None:
            self._process.send_signal(self.ends_by)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """Make nginx or squid read its configuration again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)


@pytest.fixture(name="authority", scope="session")
def _authority() -> trustme.CA:
    """Return the certificate authority of the servers."""
    return trustme.CA()


@pytest.fixture(name="trusting", scope="session")
def _trusting(authority) -> ssl.SSLContext:
    """Return the TLS settings of a client that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


Serve = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(name="serve", scope="session")
def _serve(authority, find_program) -> Serve:
    """
    Run a server: ``with serve("nginx", keepalive="1s") as server``.
    """

    def nginx(home: Path, port: int, *, tls: bool, keepalive: str):
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(
            str(home / "server.pem")
        )
        config = home / "nginx.conf"
        config.write_text(
            NGINX.format(
                home=home,
                port=port,
                keepalive=keepalive,
                body=BODY,
                ssl="ssl" if tls else "",
            )
        )
        program = find_program("nginx", package="nginx-light")
        return [program, "-p", home, "-c", config, "-e", home / "error.log"]

    def haproxy(home: Path, port: int, *, keepalive: str):
        config = home / "haproxy.cfg"
        config.write_text(
            HAPROXY.format(port=port, keepalive=keepalive, body=BODY)
        )
        return [find_program("haproxy"), "-db", "-f", config]

    def tinyproxy(home: Path, port: int, *, auth: bool):
        config = home / "tinyproxy.conf"
        line = f"BasicAuth {USER} {PASSWORD}" if auth else ""
        config.write_text(TINYPROXY.format(port=port, auth=line))
        return [find_program("tinyproxy"), "-d", "-c", config]

    def squid(home: Path, port: int, *, auth: bool):
        program = find_program("squid")
        (home / "passwords").write_text(f"{USER}:{DIGEST}\n")
        lines = SQUID_AUTH.format(
            helper="/usr/lib/squid/basic_ncsa_auth", home=home
        )
        config = home / "squid.conf"
        config.write_text(
            SQUID.format(
                home=home,
                port=port,
                auth=lines if auth else "",
                allow="allow known" if auth else "allow all",
            )
        )
        return [program, "-N", "-f", config]

    def gunicorn(home: Path, port: int, *, keepalive: str):
        (home / "service.py").write_text(WSGI)
        return [
            *(sys.executable, "-m", "gunicorn", "service:app"),
            *("--worker-class", "gthread", "--threads", "8"),
            *("--bind", f"127.0.0.1:{port}", "--keep-alive", keepalive),
        ]

    def uvicorn(home: Path, port: int, *, keepalive: str):
        (home / "service.py").write_text(ASGI)
        return [
            *(sys.executable, "-m", "uvicorn", "service:app"),
            *("--port", str(port), "--timeout-keep-alive", keepalive),
        ]

    programs: dict[str, Callable[..., list[Any]]] = {
        "nginx": nginx,
        "haproxy": haproxy,
        "tinyproxy": tinyproxy,
        "squid": squid,
        "gunicorn": gunicorn,
        "uvicorn": uvicorn,
    }

    @contextmanager
    def serve(name: str, **settings: Any) -> Iterator[Server]:
        with tempfile.TemporaryDirectory() as folder:
            home, port = Path(folder), free_port()
            # Root's squid serves as somebody else.
            home.chmod(0o777)
            command = programs[name](home, port, **settings)
            server = Server(
                [str(word) for word in command],
                home,
                port,
                tls=settings.get("tls", False),
                # Squid, alone in its process, takes seconds over others.
                ends_by=signal.SIGKILL if name == "squid" else signal.SIGTERM,
            )
            try:
                server.start()
                yield server
            finally:
                server.stop()

    return serve


@attrs.frozen
class Way:
    """
    A server, perhaps behind a proxy, and how its idle connections end.

    Attributes:
        server: The name of the origin, with its settings.
        proxy: The name of the proxy, if any.
        ends: The method of server or proxy that ends connections; `None` if
            time does.
        at_proxy: Whether that is the proxy's.
    """

    server: str
    settings: dict[str, Any]
    proxy: str | None = None
    ends: str | None = None
    at_proxy: bool = False


PLAIN = {"tls": False, "keepalive": "60s"}
TLS = {"tls": True, "keepalive": "60s"}

#: By the name that is part of a test's id.
WAYS = {
    "nginx-reload": Way("nginx", PLAIN, ends="reload"),
    "nginx-restart": Way("nginx", PLAIN, ends="restart"),
    "nginx-keepalive": Way("nginx", {"tls": False, "keepalive": "1s"}),
    "nginx-tls-reload": Way("nginx", TLS, ends="reload"),
    "nginx-tls-keepalive": Way("nginx", {"tls": True, "keepalive": "1s"}),
    "haproxy-keepalive": Way("haproxy", {"keepalive": "100ms"}),
    "haproxy-restart": Way("haproxy", {"keepalive": "60s"}, ends="restart"),
    "gunicorn-keepalive": Way("gunicorn", {"keepalive": "1"}),
    "uvicorn-keepalive": Way("uvicorn", {"keepalive": "1"}),
    "tinyproxy": Way("nginx", PLAIN, proxy="tinyproxy"),
    "tinyproxy-tls": Way("nginx", TLS, proxy="tinyproxy", ends="reload"),
    "squid-restart": Way(
        "nginx", PLAIN, proxy="squid", ends="restart", at_proxy=True
    ),
    "squid-tls": Way("nginx", TLS, proxy="squid", ends="reload"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    folder = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(folder):
            item.add_marker(pytest.mark.servers)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test in each *way*, or in those that end at once."""
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", WAYS.values(), ids=WAYS)
    if "quick_way" in metafunc.fixturenames:
        quick = {name: way for name, way in WAYS.items() if way.ends}
        metafunc.parametrize("quick_way", quick.values(), ids=quick)


@attrs.frozen
class Place:
    """
    A running server, and a proxy if there is one.

    Attributes:
        settings: What a client needs to get there.
        end_connections: End those that are idle.
    """

    settings: dict[str, Any]
    end_connections: Callable[[], None]


@pytest.fixture(name="go", scope="session")
def _go(serve, trusting) -> Callable[[Way], AbstractContextManager[Place]]:
    """Run the server and the proxy of a route: ``with go(way) as place``."""

    @contextmanager
    def go(way: Way) -> Iterator[Place]:
        with ExitStack() as stack:
            server = stack.enter_context(serve(way.server, **way.settings))
            settings: dict[str, Any] = {
                "base_url": f"{server.origin}/bank-connect"
            }
            if server.tls:
                settings["tls"] = trusting
            ending = server
            if way.proxy is not None:
                proxy = stack.enter_context(serve(way.proxy, auth=False))
                settings["proxy"] = proxy.origin
                ending = proxy if way.at_proxy else server
            yield Place(
                settings,
                getattr(ending, way.ends) if way.ends else lambda: None,
            )

    return go


#: What may have arrived is not sent again, and neither is anything else.
ONCE = RetryPolicy(attempts=1, delivery="at-most-once")


@pytest.fixture(name="connect", scope="session")
def _connect() -> Callable[..., AsyncBankConnect]:
    """Make a client that sends nothing twice."""

    def connect(**settings: Any) -> AsyncBankConnect:
        return AsyncBankConnect(
            "key", **{"redirect_url": None, "retry": ONCE, **settings}
        )

    return connect


@pytest.fixture(name="create_all", scope="session")
def _create_all() -> Callable[..., Any]:
    """Create sessions at the same time, and return the errors."""

    async def create_all(
        bank: AsyncBankConnect, count: int
    ) -> list[BankConnectError]:
        outcomes = await asyncio.gather(
            *(bank.create_session(f"c{number}") for number in range(count)),
            return_exceptions=True,
        )
        errors = [each for each in outcomes if isinstance(each, Exception)]
        assert all(isinstance(each, BankConnectError) for each in errors)
        return errors

    return create_all


@pytest.fixture(name="stand_still", scope="session")
def _stand_still() -> Callable[[Any], None]:
    """
    Block the event loop until the other side has closed every idle
    connection of a connector.
    """

    def stand_still(connector: Any) -> None:
        idle = [
            connection.transport.get_extra_info("socket").fileno()
            for connections in connector._conns.values()
            for connection, _ in connections
            if connection.transport is not None
        ]
        for number in idle:
            poll = select.poll()
            poll.register(number, select.POLLRDHUP)
            assert poll.poll(PATIENCE * 1000), "it was not closed"

    return stand_still
