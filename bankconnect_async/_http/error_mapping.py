"""
Maps what aiohttp raises to the errors of this package.
"""

import os

from typing import Final

import aiohttp

from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from yarl import URL

from bankconnect_async._printable import one_line
from bankconnect_async.errors import (
    CertificateError,
    ConnectError,
    ConnectionLostError,
    Delivery,
    HeadTooLargeError,
    Phase,
    ProxyAuthenticationError,
    RequestTimeoutError,
    TransportError,
)

from .bodies import RequestBody


#: The end of the message of an attempt of which nothing was sent.
NOTHING_SENT: Final = "; nothing was sent"

# Python's message when the system has no thread left.
_NO_THREAD = "can't start new thread"
# A message of aiohttp that says more than its class.
_TOO_MANY_HEADERS = "Too many headers received"
# The longest name of a host.
_LONGEST_HOST: Final = 253

# Narrow rows first: the first match counts.
ERROR_MAP: Final[
    tuple[tuple[type[BaseException], type[TransportError], str], ...]
] = (
    (
        aiohttp.ClientConnectorCertificateError,
        CertificateError,
        "the server's TLS certificate was refused",
    ),
    (
        aiohttp.ServerFingerprintMismatch,
        CertificateError,
        "the server's TLS fingerprint is not the expected one",
    ),
    (
        aiohttp.ClientSSLError,
        ConnectError,
        "the TLS handshake failed",
    ),
    (
        aiohttp.ClientProxyConnectionError,
        ConnectError,
        "the proxy could not be reached",
    ),
    (
        aiohttp.ClientHttpProxyError,
        ConnectError,
        "the proxy refused to connect",
    ),
    (
        aiohttp.ClientConnectorDNSError,
        ConnectError,
        "the server's name could not be looked up",
    ),
    (
        aiohttp.ClientConnectorError,
        ConnectError,
        "no connection could be made",
    ),
    (
        aiohttp.ConnectionTimeoutError,
        ConnectError,
        "connecting took too long",
    ),
    (
        aiohttp.ServerTimeoutError,
        RequestTimeoutError,
        "the server did not respond in time",
    ),
    (
        aiohttp.ClientResponseError,
        ConnectionLostError,
        "the response is not HTTP",
    ),
    (
        aiohttp.ClientPayloadError,
        ConnectionLostError,
        "the response broke off",
    ),
    (
        aiohttp.InvalidURL,
        ConnectError,
        "the address cannot be used",
    ),
    (
        aiohttp.NonHttpUrlClientError,
        ConnectError,
        "the address cannot be used",
    ),
    (
        aiohttp.ClientError,
        ConnectionLostError,
        "the connection was lost",
    ),
    (TimeoutError, ConnectError, "connecting took too long"),
    (OSError, ConnectionLostError, "the connection was lost"),
    (BaseException, ConnectionLostError, "the request failed unexpectedly"),
)


# The statuses of a CONNECT without the right credentials; tinyproxy sends 401
# for wrong ones.
_PROXY_REFUSALS: Final = (401, 407)


def _place(exc: BaseException) -> str | None:
    """Return the host and the port that could not be reached."""
    host = getattr(exc, "host", None)
    port = getattr(exc, "port", None)
    if not isinstance(host, str) or port is None:
        return None
    # A download's host comes from a response.
    return f"{one_line(host, _LONGEST_HOST)}:{port}"


def _detail(exc: BaseException) -> str | None:
    if isinstance(exc, aiohttp.ClientSSLError):
        # Its errno is a number of OpenSSL's.
        reason = getattr(getattr(exc, "os_error", None), "reason", None)
        return reason and str(reason).replace("_", " ").lower()
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return str(getattr(exc, "status", "no status"))
    if isinstance(exc, OSError) and exc.errno is not None and exc.errno > 0:
        return os.strerror(exc.errno)
    if isinstance(exc, aiohttp.ClientError | OSError):
        return None
    return _NO_THREAD if _lacks_thread(exc) else type(exc).__name__


def _lacks_thread(exc: BaseException) -> bool:
    # Names are looked up in threads, before anything is sent.
    return isinstance(exc, RuntimeError) and str(exc) == _NO_THREAD


def proxy_refusal(
    proxy: URL | None, status: int, *, delivery: Delivery, phase: Phase
) -> ProxyAuthenticationError:
    """
    Return the error of a proxy that did not accept our credentials.

    Args:
        proxy: The proxy's address without credentials, if it is configured.
        status: The status of its response, 407 or 401.
        delivery: The delivery class.
        phase: The phase in which the proxy refused.
    """
    name = "" if proxy is None else f" {proxy.host_port_subcomponent}"
    return ProxyAuthenticationError(
        f"the proxy{name} accepts no request without another user and "
        f"password (it answered {status}): set them in proxy= or "
        f"BANKCONNECT_PROXY; nothing reached the server",
        status=status,
        delivery=delivery,
        phase=phase,
    )


def map_error(
    exc: BaseException, body: RequestBody | None, proxy: URL | None = None
) -> TransportError:
    """
    Return the error for what aiohttp raised.

    Args:
        exc: The exception.
        body: The request's body, which knows how far its write came; `None`
            for a request without one, which is known not to be sent only if
            connecting failed.
        proxy: The address of the proxy, if known.
    """
    status = getattr(exc, "status", None)
    if (
        isinstance(exc, aiohttp.ClientHttpProxyError)
        and status in _PROXY_REFUSALS
    ):
        return proxy_refusal(
            proxy,
            status,
            delivery=Delivery.NOT_SENT,
            phase=Phase.CONNECTING,
        )
    cls, text = next(
        (cls, text)
        for foreign, cls, text in ERROR_MAP
        if isinstance(exc, foreign)
    )
    if _lacks_thread(exc):
        cls, text = ConnectError, "no connection could be made"
    details = [each for each in (_place(exc), _detail(exc)) if each]
    if details:
        text = f"{text} ({', '.join(details)})"
    if body is None:
        begun = sent = not issubclass(cls, ConnectError)
    else:
        begun, sent = body.begun, body.begun and not body.unsent
    error: TransportError
    if sent:
        if _is_head_too_large(exc):
            cls, text = (
                HeadTooLargeError,
                "the head of the response is too large",
            )
        elif not issubclass(cls, RequestTimeoutError):
            cls = ConnectionLostError
        error = cls(
            f"{text} after the request was sent",
            delivery=Delivery.AMBIGUOUS,
            phase=Phase.SENT,
        )
    else:
        error = cls(
            f"{text}{NOTHING_SENT}",
            delivery=Delivery.NOT_SENT,
            phase=Phase.SENT if begun else Phase.CONNECTING,
        )
    # A `ClientResponseError` quotes what a server or a proxy sent.
    if not isinstance(exc, aiohttp.ClientResponseError):
        error.__cause__ = _without_frames(_without_head(exc))
    return error


def cut_off_error(
    body: RequestBody | None, *, timed_out: bool, is_total: bool, url: URL
) -> TransportError:
    """
    Return the error for a request that was cut off before its response.

    Args:
        body: The request's body, which knows whether its write began; `None`
            for a request without one, which may have been sent.
        timed_out: Whether time ran out. Otherwise the pool was closed, which
            cancels a name lookup.
        is_total: Whether the time for all of the operation ran out, and not
            just that for connecting.
        url: The address that was connected to.
    """
    cls: type[TransportError] = RequestTimeoutError
    text, delivery, phase = "time ran out", Delivery.AMBIGUOUS, Phase.SENT
    suffix = "; the request was sent and may have been processed"
    if body is not None and not body.begun:
        suffix, delivery = NOTHING_SENT, Delivery.NOT_SENT
        phase = Phase.CONNECTING
        if not is_total:
            cls = ConnectError
            text = f"connecting took too long ({url.host}:{url.port})"
    if not timed_out:
        cls, text = ConnectionLostError, "the pool of connections was closed"
    return cls(f"{text}{suffix}", delivery=delivery, phase=phase)


def _is_head_too_large(exc: BaseException) -> bool:
    each: BaseException | None = exc
    while each is not None:
        if isinstance(each, LineTooLong) or (
            isinstance(each, BadHttpMessage)
            and each.message == _TOO_MANY_HEADERS
        ):
            return True
        each = each.__cause__
    return False


def _without_head(exc: BaseException) -> BaseException:
    # The error may hold a part of a response. Tools that pickle causes, such
    # as Dask with tblib, would fail on it or send it elsewhere.
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        exc.message = "Server disconnected"
        exc.args = (exc.message,)
    return exc


def _without_frames(exc: BaseException) -> BaseException:
    # Frames of a failed write hold the whole request as a local, which a
    # traceback with locals would print, and so may those of its causes.
    each: BaseException | None = exc
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return exc
