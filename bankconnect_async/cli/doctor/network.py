"""
Checks of the network: name, port, proxy and certificate.
"""

import asyncio
import functools
import os
import socket
import ssl
import time

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import attrs

from yarl import URL

from bankconnect_async._codec.session_requests import is_loopback
from bankconnect_async._printable import one_line

from .findings import CheckError, Findings
from .settings import Route


_TIMEOUT: Final = 10.0
_DAY: Final = 86_400
# Days; certificates that are renewed automatically are renewed earlier.
_SOON: Final = 14
_PRIVATE_CA: Final = (
    "if its authority is a private one, or a proxy's that decrypts TLS, set "
    "BANKCONNECT_CA_FILE to the authority's PEM file"
)
_OTHER_NAME: Final = "correct the host: it is none of those it is for"
# What to do, by X509_verify_cert's code (OpenSSL).
_VERIFY_ADVICE: Final[Mapping[int, str]] = {
    9: "set the clock of this machine, which is before the certificate's time",
    10: "have the server's operator renew it, if the clock of this machine is "
    "right",
    18: _PRIVATE_CA,
    19: _PRIVATE_CA,
    20: _PRIVATE_CA,
    21: _PRIVATE_CA,
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
# What a proxy's answer can raise.
_PROXY_ERRORS: Final = (
    OSError,
    EOFError,
    ValueError,
    IndexError,
    asyncio.LimitOverrunError,
)
# OpenSSL's reasons for bytes that are not TLS.
_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}
)


@attrs.frozen
class ServerAddress:
    """
    A server to connect to.

    Attributes:
        url: The URL.
        setting: The variable that holds the URL.
    """

    url: URL
    setting: str

    @property
    def host(self) -> str:
        """The host."""
        return self.url.host or ""

    @property
    def port(self) -> int:
        """The port."""
        return self.url.port or 0

    @property
    def place(self) -> str:
        """The host and the port."""
        return f"{self.host}:{self.port}"


async def check_network(
    findings: Findings, target: ServerAddress, route: Route
) -> bool:
    """
    Connect to a server step by step.

    Returns:
        Whether a request can be sent.
    """
    connection = _Connection(target, route)
    steps: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("name", connection.look_up),
        ("port", connection.connect),
        ("certificate", connection.start_tls),
    ]
    if route.proxy is not None:
        # The proxy looks the name up.
        by_proxy = functools.partial(connection.use_proxy, route.proxy)
        steps[:2] = [("proxy", by_proxy)]
    try:
        for name, step in steps:
            if not await findings.run(name, step()):
                return False
    finally:
        await connection.close()
    return True


@attrs.define
class _Connection:
    """
    A connection that each step takes further.
    """

    target: ServerAddress
    route: Route
    # They are set by the first step that connects.
    _reader: Any = None
    _writer: Any = None

    async def look_up(self) -> str:
        host, setting = self.target.host, self.target.setting
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_TIMEOUT):
                found = await loop.getaddrinfo(
                    host, self.target.port, type=socket.SOCK_STREAM
                )
        except (OSError, UnicodeError) as exc:
            raise CheckError(
                f"{host} cannot be looked up ({_reason(exc)})",
                f"correct {setting}; if this network has a proxy, set "
                f"BANKCONNECT_PROXY",
            ) from None
        addresses = dict.fromkeys(str(each[4][0]) for each in found)
        return f"{host} is {', '.join(addresses)}"

    async def connect(self) -> str:
        place, setting = self.target.place, self.target.setting
        try:
            await self._open(self.target.host, self.target.port)
        except OSError as exc:
            raise CheckError(
                f"{place} accepts no connection ({_reason(exc)})",
                f"correct {setting}; if a firewall is in the way, have it "
                f"opened or set BANKCONNECT_PROXY",
            ) from None
        return f"{place} accepts connections"

    async def use_proxy(self, proxy: URL) -> str:
        source = self.route.source
        name = f"{proxy} of {source}"
        try:
            await self._open(
                proxy.host or "",
                proxy.port or 0,
                tls=self.route.tls if proxy.scheme == "https" else None,
            )
            if self.target.url.scheme == "http":
                return f"{name} accepts connections"
            async with asyncio.timeout(_TIMEOUT):
                status = await self._tunnel()
        except _PROXY_ERRORS as exc:
            raise CheckError(
                f"{name} cannot be used ({_reason(exc)})",
                f"correct {source}, or have {self.target.place} allowed there",
            ) from None
        if status != HTTPStatus.OK:
            needs_user = status in {
                HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
                HTTPStatus.UNAUTHORIZED,
            }
            raise CheckError(
                f"{name} does not connect to {self.target.place}: it answers "
                f"{status}",
                f"put another user and password into {source}"
                if needs_user
                else f"have its operator allow {self.target.place}, or "
                f"correct {source}",
            )
        return f"{name} connects to {self.target.place}"

    async def _open(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None
    ) -> None:
        async with asyncio.timeout(_TIMEOUT):
            self._reader, self._writer = await asyncio.open_connection(
                host, port, ssl=tls
            )

    async def _tunnel(self) -> int:
        place = self.target.url.host_port_subcomponent or ""
        if self.target.url.is_default_port():
            place = f"{place}:{self.target.port}"
        headers = {"Host": place, **self.route.proxy_headers()}
        lines = [
            f"CONNECT {place} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._writer.write(
            "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        # The line is "HTTP/1.1 200 Connected".
        return int(head.split(None, 2)[1])

    async def start_tls(self) -> str:
        place, setting = self.target.place, self.target.setting
        if self.target.url.scheme == "http":
            if is_loopback(self.target.host):
                return f"none: {setting} is http on this machine"
            raise CheckError(
                f"none: {setting} is http, which shows the API key to the "
                f"network",
                "use https, unless the network is private",
                status="warning",
            )
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._writer.start_tls(
                    self.route.tls, server_hostname=self.target.host
                )
        except ssl.SSLCertVerificationError as exc:
            reason = one_line(exc.verify_message)
            raise CheckError(
                f"that of {place} is refused ({reason})",
                _VERIFY_ADVICE.get(exc.verify_code, _PRIVATE_CA),
            ) from None
        except OSError as exc:
            if getattr(exc, "reason", None) in _NOT_TLS:
                raise CheckError(
                    f"{place} does not speak TLS",
                    f"correct the port in {setting}, or begin it with http:// "
                    f"if it is a sandbox",
                ) from None
            raise CheckError(
                f"the TLS handshake with {place} failed ({_reason(exc)})",
                f"correct {setting}; if a firewall or proxy is in the way, "
                f"have it opened",
            ) from None
        return self._describe(self._writer.get_extra_info("ssl_object"))

    def _describe(self, tls: ssl.SSLObject) -> str:
        certificate: Any = tls.getpeercert() or {}
        issuer = {
            name: value
            for part in certificate.get("issuer", ())
            for name, value in part
        }
        authority = one_line(
            issuer.get("organizationName") or issuer.get("commonName") or "",
            60,
        )
        end = str(certificate.get("notAfter"))
        days = int(ssl.cert_time_to_seconds(end) - time.time()) // _DAY
        found = f"by {authority}, valid for {days} days, {tls.version()}"
        if days < _SOON:
            raise CheckError(
                found,
                f"have the operator of {self.target.host} renew it",
                status="warning",
            )
        return found

    async def close(self) -> None:
        """Close the connection at once."""
        if self._writer is not None:
            self._writer.transport.abort()
            # The loop closes the socket in its next turn.
            await asyncio.sleep(0)


def _reason(exc: BaseException) -> str:
    match exc:
        case TimeoutError():
            return f"no answer within {_TIMEOUT:.0f} s"
        case ssl.SSLError():
            return str(exc.reason or "TLS failed").replace("_", " ").lower()
        case socket.gaierror():
            return str(exc.strerror)
        case OSError() if exc.errno:
            return os.strerror(exc.errno)
        case OSError():
            # Several addresses were tried.
            return "no address accepts one"
        case _:
            return "its answer is not HTTP"
