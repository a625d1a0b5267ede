"""
``bankconnect doctor``, in front of good and of broken servers.
"""

import asyncio
import contextlib
import datetime
import email.utils
import json
import sqlite3
import ssl
import threading

from collections.abc import Iterator

import attrs
import pytest
import trustme

from bankconnect_async.sandbox import Sandbox
from bankconnect_async.store import open_store


CHECKS = [
    *(
        "settings",
        "store",
        "name",
        "port",
        "certificate",
        "clock",
        "path",
        "dialect",
    ),
    *("key", "server hash", "webhook"),
]
DENIED = b'{"detail": "Method GET not allowed."}'
PASSWORD = b"Proxy-Authorization: Basic "
# Answers to paths of a server that is nearly the vendor's.
ANSWERS = {
    "/late/bank-connect/v1/session/": (405, {"Date": 3600.0}, DENIED),
    "/timeless/bank-connect/v1/session/": (
        405,
        {"Date": f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"},
        DENIED,
    ),
    "/moved/bank-connect/v1/session/": (
        301,
        {"Location": "https://api.example/bank-connect/v1/session/"},
        b"",
    ),
    "/lost/bank-connect/v1/session/": (301, {"Location": "//[]@"}, b""),
    "/old/bank-connect/v1/session/": (405, {}, DENIED),
    "/down/bank-connect/v1/session/": (503, {}, b"<html>"),
    "/portal/bank-connect/v1/session/": (200, {}, b"<html>"),
}


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    head = await reader.read(2**16)
    # The beginning of a TLS handshake is not HTTP.
    method, path, *_ = [*head.decode(errors="replace").split(" "), ""]
    if method == "CONNECT" and PASSWORD in head:
        await tunnel(path, reader, writer)
        return
    if path.startswith("http://"):
        # A request without TLS to a proxy names the server, too.
        path = f"/{path.split('/', 3)[3]}" if PASSWORD in head else ""
    status, given, body = ANSWERS.get(path, (404, {}, b"<html>"))
    headers = {"Content-Length": len(body), "Connection": "close", **given}
    if method == "CONNECT":
        status = 407
    if isinstance(headers.get("Date"), float):
        now = datetime.datetime.now(datetime.UTC)
        later = now + datetime.timedelta(seconds=headers["Date"])
        headers["Date"] = email.utils.format_datetime(later, usegmt=True)
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    writer.write(f"HTTP/1.1 {status} X\r\n{''.join(lines)}\r\n".encode())
    writer.write(body)
    await writer.drain()
    writer.close()


async def tunnel(place, reader, writer) -> None:
    """Connect a client to the server at *place*."""
    host, _, port = place.partition(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

    async def pump(source, sink) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await source.read(2**16):
                sink.write(part)
        sink.close()

    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


@attrs.frozen
class Servers:
    """
    The servers of the tests.

    Attributes:
        good: The base URL of a sandbox with a certificate that is trusted.
        expired, self_signed: Those of sandboxes with other certificates.
        odd: The URL of the server of `ANSWERS`.
        authority: The file of the trusted authority.
    """

    good: str
    expired: str
    self_signed: str
    odd: str
    authority: str


@pytest.fixture(name="servers", scope="module")
def _servers(tmp_path_factory) -> Iterator[Servers]:
    """Run all servers in one thread."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    good, expired, self_signed = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(3)
    )
    authority.issue_cert("127.0.0.1").configure_cert(good)
    authority.issue_cert("127.0.0.1", not_after=past).configure_cert(expired)
    with (
        authority.private_key_pem.tempfile() as key,
        authority.cert_pem.tempfile() as cert,
    ):
        self_signed.load_cert_chain(cert, key)
    sandboxes = [Sandbox(ssl=each) for each in (good, expired, self_signed)]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    for sandbox in sandboxes:
        run(sandbox.start())
    odd = run(asyncio.start_server(answer, "127.0.0.1", 0))
    host, port = odd.sockets[0].getsockname()
    yield Servers(
        *(sandbox.base_url for sandbox in sandboxes),
        f"http://{host}:{port}",
        str(path),
    )
    for sandbox in sandboxes:
        run(sandbox.aclose())
    odd.close()
    run(odd.wait_closed())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(name="doctor")
def _doctor(bankconnect, servers, monkeypatch, tmp_path):
    """
    Run the command with settings of the good server, and others instead.
    """

    def run(*args, **settings):
        environment = {
            "BASE_URL": servers.good,
            "API_KEY": "sandbox-api-key",
            "SERVER_HASH": "sandbox-server-hash",
            "CA_FILE": servers.authority,
            "STORE": f"{tmp_path}/new.db",
            "STORE_KEYS": "k" * 32,
            **settings,
        }
        for name, value in environment.items():
            monkeypatch.setenv(f"BANKCONNECT_{name}", value)
        args = args or ("--webhook-url", f"{servers.good}/v1/session/")
        result = bankconnect("doctor", "--json", *args)
        assert result.err == ""
        facts = json.loads(result.out)
        assert facts["ok"] == (result.code == 0)
        return result.code, facts["checks"]

    return run


def failures(checks):
    return {
        each["check"]: f"{each['found']} -> {each['advice']}"
        for each in checks
        if each["status"] == "failed"
    }


def test_a_good_setup_passes(doctor, tmp_path):
    """
    Every check of a good setup passes, and the command exits with 0.
    """
    code, checks = doctor()

    assert code == 0
    assert [each["check"] for each in checks] == CHECKS
    assert {each["status"] for each in checks} == {"ok"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "args", "check", "words"),
    [
        pytest.param(
            {"BASE_URL": "https://mistyped.invalid/bank-connect"},
            *((), "name"),
            ["mistyped.invalid", "correct BANKCONNECT_BASE_URL"],
            id="name",
        ),
        pytest.param(
            {"BASE_URL": "https://127.0.0.1:{closed}/bank-connect"},
            *((), "port"),
            ["127.0.0.1:{closed}", "refused", "BANKCONNECT_BASE_URL"],
            id="port",
        ),
        pytest.param(
            {"BASE_URL": "{expired}"},
            *((), "certificate"),
            ["expired", "renew it"],
            id="expired",
        ),
        pytest.param(
            {"BASE_URL": "{self_signed}", "CA_FILE": ""},
            *((), "certificate"),
            ["self-signed certificate", "set BANKCONNECT_CA_FILE"],
            id="self-signed",
        ),
        pytest.param(
            {"BASE_URL": "{tls}//{odd_host}/bank-connect"},
            *((), "certificate"),
            ["does not speak TLS", "http://"],
            id="no TLS",
        ),
        pytest.param(
            {"PROXY": "http://127.0.0.1:{closed}"},
            *((), "proxy"),
            ["127.0.0.1:{closed}", "correct BANKCONNECT_PROXY"],
            id="proxy",
        ),
        pytest.param(
            {"PROXY": "{odd}"},
            *((), "proxy"),
            ["answers 407", "another user and password"],
            id="proxy's user",
        ),
        pytest.param(
            {},
            *(("--proxy", "http://127.0.0.1:{closed}"), "proxy"),
            ["correct --proxy"],
            id="--proxy",
        ),
        pytest.param(
            {"BASE_URL": "{odd}/late/bank-connect"},
            *((), "clock"),
            ["3600 s behind", "by NTP"],
            id="clock",
        ),
        pytest.param(
            {"API_KEY": "wrong"},
            *((), "key"),
            ["401: BANKCONNECT_API_KEY is refused", "FinBox gave you"],
            id="key",
        ),
        pytest.param(
            {"API_KEY": ""},
            *((), "key"),
            ["BANKCONNECT_API_KEY is not set", "FinBox gave you"],
            id="no key",
        ),
        pytest.param(
            {"SERVER_HASH": "wrong"},
            *((), "server hash"),
            ["403: BANKCONNECT_SERVER_HASH is refused", "FinBox gave you"],
            id="hash",
        ),
        pytest.param(
            {"BASE_URL": "{root}"},
            *((), "path"),
            ["answers 404", "set BANKCONNECT_BASE_URL to {good}"],
            id="path",
        ),
        pytest.param(
            {"BASE_URL": "{odd}/nowhere/bank-connect"},
            *((), "path"),
            ["no Session API", "correct the path"],
            id="another server",
        ),
        pytest.param(
            {"BASE_URL": "{odd}/portal/bank-connect"},
            *((), "path"),
            ["answers 200, which is not the API's", "firewall"],
            id="portal",
        ),
        pytest.param(
            {"BASE_URL": "{odd}/down/bank-connect"},
            *((), "path"),
            ["answers 503", "wait"],
            id="outage",
        ),
        pytest.param(
            {"BASE_URL": "http://api.example/bank-connect"},
            *((), "settings"),
            ["BANKCONNECT_BASE_URL: uses plain http", "use https"],
            id="http",
        ),
        pytest.param(
            {"BASE_URL": "{odd}/moved/bank-connect"},
            *((), "path"),
            ["redirects to https://api.example", "write https://"],
            id="http that redirects",
        ),
        pytest.param(
            {"BASE_URL": "{odd}/lost/bank-connect"},
            *((), "path"),
            ["redirects to an invalid URL", "correct BANKCONNECT_BASE_URL"],
            id="invalid redirect",
        ),
        pytest.param(
            {"BASE_URL": "{odd}/old/bank-connect", "API_VERSION": "v2"},
            *((), "dialect"),
            ["has v1, and no v2", "set BANKCONNECT_API_VERSION to v1"],
            id="dialect",
        ),
        pytest.param(
            {},
            *(("--webhook-url", "https://127.0.0.1:{closed}/w"), "webhook"),
            ["cannot be reached", "start the service"],
            id="webhook's port",
        ),
        pytest.param(
            {},
            *(("--webhook-url", "{odd}/w-secret"), "webhook"),
            ["answers GET with 404", "correct the path in --webhook-url"],
            id="webhook's path",
        ),
        pytest.param(
            {"CALLBACK_URL": "{odd}/bank", "SIGNING_KEY": "short"},
            *(("--allow-http",), "webhook"),
            ["BANKCONNECT_SIGNING_KEY", "32"],
            id="signing key",
        ),
        pytest.param(
            {"CALLBACK_URL": "{odd}/bank", "SERVER_HASH": ""},
            *((), "server hash"),
            ["BANKCONNECT_SERVER_HASH is not set", "confirm outcomes"],
            id="a service without a hash",
        ),
    ],
)
def test_a_broken_setup_is_named(  # noqa: PLR0913, PLR0917
    doctor, servers, unused_tcp_port, settings, args, check, words
):
    """
    The first check that fails is that of the cause: it says what it found
    and what to do, and the command exits with 1.
    """
    places = attrs.asdict(servers) | {
        "closed": unused_tcp_port,
        "root": servers.good.removesuffix("/bank-connect"),
        "odd_host": servers.odd.removeprefix("http://"),
        "tls": "https:",
    }
    code, checks = doctor(
        *(each.format(**places) for each in args),
        **{name: each.format(**places) for name, each in settings.items()},
    )

    found = failures(checks)
    assert code == 1
    assert next(iter(found)) == check
    for each in words:
        assert each.format(**places) in found[check]
    text = json.dumps(checks)
    assert "w-secret" not in text
    assert "sandbox-api-key" not in text


def test_missing_secrets_are_named_without_a_network(doctor):
    """
    A secret that is not set is named, even if no server can be asked.
    """
    _, checks = doctor(
        BASE_URL="https://mistyped.invalid/bank-connect",
        API_KEY="",
        SERVER_HASH="",
    )

    found = {each["check"]: each for each in checks}
    assert len(found) == len(checks)
    assert found["key"]["found"] == "BANKCONNECT_API_KEY is not set"
    assert found["key"]["status"] == "failed"
    assert found["server hash"]["found"] == (
        "BANKCONNECT_SERVER_HASH is not set"
    )
    assert found["server hash"]["status"] == "skipped"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://192.168.1.5/w", "FinBox cannot reach 192.168.1.5"),
        ("http://lender.example/w", "is http"),
        ("lender.example", "not an absolute https URL"),
        ("https://[]@/", "not an absolute https URL"),
    ],
)
def test_webhooks_from_outside_need_a_public_url(doctor, url, words):
    """
    For an API that is not on this machine, a URL of webhooks that FinBox
    cannot use fails, even if it answers here.
    """
    code, checks = doctor(
        *("--webhook-url", url),
        BASE_URL="https://mistyped.invalid/bank-connect",
    )

    assert code == 1
    assert words in failures(checks)["webhook"]


@pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
def test_it_leaves_no_trace(bankconnect, monkeypatch, service_loop, dialect):
    """
    In every dialect a good setup passes in lines, with GET requests alone.
    """
    sandbox = Sandbox(dialect)
    asyncio.run_coroutine_threadsafe(sandbox.start(), service_loop).result()
    monkeypatch.setenv("BANKCONNECT_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("BANKCONNECT_API_KEY", sandbox.api_key)
    monkeypatch.setenv("BANKCONNECT_SERVER_HASH", sandbox.server_hash)
    result = bankconnect("doctor")
    methods = {request.method for request in sandbox.request_log}
    asyncio.run_coroutine_threadsafe(sandbox.aclose(), service_loop).result()

    assert (result.code, result.err) == (0, "")
    assert [line.split()[0] for line in result.out.splitlines()] == [
        *("ok", "skipped", *["ok"] * 8, "skipped")
    ]
    assert methods == {"GET"}
    assert sandbox.created() == 0


@pytest.mark.parametrize(
    ("settings", "status", "words"),
    [
        (
            {"STORE": "", "STORE_KEYS": ""},
            "skipped",
            ["in memory", "set BANKCONNECT_STORE"],
        ),
        (
            {"STORE_KEYS": ""},
            "warning",
            ["new.db is new", "set BANKCONNECT_STORE_KEYS"],
        ),
        ({"STORE": "{tmp}/kept.db"}, "ok", ["kept.db opens"]),
        (
            {"STORE": "{tmp}/text.db"},
            "failed",
            ["text.db: file is not", "correct BANKCONNECT_STORE or"],
        ),
        (
            {"STORE": "{tmp}/none/store.db"},
            "failed",
            ["none: there is no such folder", "make the folder"],
        ),
        (
            {"STORE": "postgresql://127.0.0.1:1/none"},
            "failed",
            ["PostgreSQL: ", "correct BANKCONNECT_STORE or"],
        ),
    ],
)
def test_the_store_is_opened(doctor, tmp_path, settings, status, words):
    """
    A store is opened, and a service is told if it has none, or no keys.
    """
    asyncio.run(open_and_close(open_store(f"{tmp_path}/kept.db", "k" * 32)))
    (tmp_path / "text.db").write_text("not a database, but a text" * 99)
    values = {
        name: value.format(tmp=tmp_path) for name, value in settings.items()
    }
    code, checks = doctor(**values)

    (found,) = [each for each in checks if each["check"] == "store"]
    assert (found["status"], code) == (status, int(status == "failed"))
    text = f"{found['found']} -> {found['advice']}"
    assert [word for word in words if word not in text] == []
    assert text.count("PostgreSQL: ") + text.count(".db: ") <= 1


def test_a_look_at_the_store_changes_nothing(doctor, tmp_path):
    """
    The database of another program stays as it is, with its permissions.
    """
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (name)")
    connection.close()
    path.chmod(0o664)
    before = path.read_bytes(), path.stat().st_mode
    _, checks = doctor(STORE=str(path))

    (found,) = [each for each in checks if each["check"] == "store"]
    assert (found["status"], "another program" in found["found"]) == (
        *("failed", True),
    )
    assert (path.read_bytes(), path.stat().st_mode) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_mistyped_address_does_not_show_its_password(doctor):
    """
    What looks like the address of a database is not taken for a file.
    """
    code, checks = doctor(STORE="jdbc:postgresql://u:pa55word@h/db")

    assert code == 1
    assert "pa55word" not in str(checks)


async def open_and_close(store) -> None:
    await store.open()
    await store.aclose()


def test_a_mistyped_variable_is_a_warning(doctor):
    """
    A variable that nothing reads is a warning with the similar name, and its
    value does not show.
    """
    code, checks = doctor(SERVERHASH="canary")

    found = [each for each in checks if each["status"] == "warning"]
    assert code == 0
    assert [each["advice"] for each in found] == [
        "rename it if you mean BANKCONNECT_SERVER_HASH"
    ]
    assert "canary" not in json.dumps(checks)


def test_a_date_that_cannot_be_read_is_a_warning(doctor, servers):
    """
    If the server's date is of no use, another clock has to do.
    """
    _, checks = doctor(BASE_URL=f"{servers.odd}/timeless/bank-connect")

    (found,) = (each for each in checks if each["check"] == "clock")
    assert found["status"] == "warning"
    assert found["advice"] == "compare this machine's clock with another"


def test_a_good_proxy_passes(doctor, servers):
    """
    Through a proxy with a password, every check passes; the proxy looks the
    name up, and the password does not show.
    """
    proxy = servers.odd.replace("://", "://lender:canary@")
    code, checks = doctor(PROXY=proxy)

    assert code == 0
    assert [each["check"] for each in checks] == [
        *("settings", "store", "proxy", *CHECKS[4:]),
    ]
    assert {each["status"] for each in checks} == {"ok"}
    assert "canary" not in json.dumps(checks)


def test_a_proxy_gets_its_password_without_tls(doctor, servers):
    """
    An API without TLS is asked through a proxy with a password, too.
    """
    proxy = servers.odd.replace("://", "://lender:canary@")
    _, checks = doctor(
        "--allow-http",
        BASE_URL="http://api.example/old/bank-connect",
        PROXY=proxy,
    )

    statuses = {each["check"]: each["status"] for each in checks}
    assert (statuses["proxy"], statuses["path"]) == ("ok", "ok")


def test_a_bad_proxy_is_named_by_its_variable(doctor, monkeypatch):
    """
    The variable that holds a bad proxy is named, and no other.
    """
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example")
    _, checks = doctor()

    found = failures(checks)["settings"]
    assert found.startswith("HTTPS_PROXY: must be an absolute http")


def test_https_proxy_is_tried(doctor, monkeypatch, servers):
    """
    Without BANKCONNECT_PROXY the doctor takes that of other programs, unless
    NO_PROXY names the host.
    """
    monkeypatch.setenv("HTTPS_PROXY", servers.odd)
    _, refused = doctor()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    code, _ = doctor()

    assert "of HTTPS_PROXY" in failures(refused)["proxy"]
    assert code == 0
