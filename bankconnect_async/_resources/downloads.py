"""
Downloads of files behind pre-signed links.

A link is a credential for another server: that server gets none of our
headers, and the link is in no message and no traceback.
"""

import asyncio
import os
import re
import zlib

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVarTuple, cast
from urllib.parse import urljoin

import aiohttp
import attrs

from yarl import URL

from bankconnect_async._codec.session_requests import (
    is_loopback,
    read_url,
    url_problem,
)
from bankconnect_async._http.error_mapping import map_error
from bankconnect_async._http.retrying import RetryState
from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async._tracebacks import without_frames
from bankconnect_async.config import count_problem, seconds_problem
from bankconnect_async.errors import (
    BadRequestError,
    BankConnectError,
    ConfigurationError,
    ConnectionLostError,
    Delivery,
    DownloadError,
    InvalidRequestError,
    NotFoundError,
    Phase,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from bankconnect_async.retry import parse_http_date, parse_retry_after

from .base import ApiClient
from .files import PartFile


Ts = TypeVarTuple("Ts")

_PIECE: Final = 256 * 1024
_OK: Final = 200
_PARTIAL: Final = 206
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5
# The statuses of file servers for an expired link.
_GONE: Final = frozenset({401, 403, 404, 410})
_NO_SUCH_RANGE: Final = 416
_TOO_MANY: Final = 429
_FAULTS: Final = 500
_RANGE: Final = re.compile(
    r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE
)
_COMPRESSIONS: Final = frozenset({"gzip", "x-gzip", "deflate"})
# A date tells two versions apart only if the file had time to change
# without getting a new one (RFC 9110, 8.8.2.2).
_SETTLED: Final = 1.0


async def download(
    api: ApiClient,
    link: str,
    to: str | os.PathLike[str],
    *,
    max_bytes: int,
    deadline: float,
) -> int:
    """
    Implement `AsyncBankConnect.download`.
    """
    _check_limits(max_bytes, deadline)
    url = _read_link(link, api)
    if isinstance(url, str):
        raise InvalidRequestError(fields={"link": (url,)})
    part = PartFile(_read_path(to))
    fetch = _Fetch(api=api, url=url, part=part, max_bytes=max_bytes)
    # A traceback with locals would print the link.
    del url
    loop = asyncio.get_running_loop()
    with api.executor.track():
        try:
            await run_in_thread(part.create)
            await fetch.run(deadline)
            await run_in_thread(part.commit)
        except BaseException as exc:
            if isinstance(exc, GeneratorExit) or loop.is_closed():
                # Nothing can be awaited any more.
                part.unlink()
            else:
                await finish_in_thread(part.discard)
            raise
    return fetch.got


def _check_limits(max_bytes: int, deadline: float) -> None:
    problems = {
        "max_bytes": count_problem(max_bytes),
        "deadline": seconds_problem(deadline),
    }
    fields = {name: (text,) for name, text in problems.items() if text}
    if fields:
        raise ConfigurationError(fields=fields)


def _read_path(to: str | os.PathLike[str]) -> Path:
    try:
        path = Path(to)
    except TypeError:
        raise InvalidRequestError(fields={"to": ("is not a path",)}) from None
    if not path.name:
        raise InvalidRequestError(fields={"to": ("is a folder",)})
    return path


def _read_link(text: str, api: ApiClient) -> URL | str:
    """Return the URL of a link that may be followed, or the problem."""
    url = read_url(text)
    if problem := url_problem(text, allow_http=api.allow_http):
        return problem
    if url is None or url.host is None:
        return "is not an absolute https URL"
    if url.scheme == "https" or api.allow_http:
        return url
    # The rest is http on this machine, which a production client never uses.
    return url if is_loopback(api.base_url.host) else "is not an https URL"


class _WriteError(Exception):
    """
    The file cannot be written; not an error of the network.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


class _Inflater:
    """
    Undoes gzip or deflate, a bounded piece at a time.
    """

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._rest = b""

    @property
    def is_over(self) -> bool:
        """Whether the compressed data is complete."""
        return self._stream.eof and not self._rest

    def feed(self, content: bytes) -> None:
        """Add *content*."""
        self._rest += content

    def take(self) -> bytes:
        """
        Return the next piece; empty if more data has to be fed first.

        Raises:
            zlib.error: If the data is not compressed in a known way.
        """
        while True:
            if self._stream.eof:
                # As for gzip(1), members follow one another, and zeros pad.
                self._rest = self._rest.lstrip(b"\0")
                if not self._rest:
                    return b""
                self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
            stream = self._stream
            content = stream.decompress(self._rest, _PIECE)
            self._rest = stream.unused_data or stream.unconsumed_tail
            if content or not stream.eof:
                return content


@attrs.define(kw_only=True)
class _Fetch:
    """
    A download in progress.

    Attributes:
        api: The API, with its clock and retry policy.
        url: The link.
        part: The file.
        max_bytes: The greatest length of the file.
        got: The number of bytes written.
        total: The length of the file, if the server sent it.
        version: The value of `If-Range`, which tells this file from a later
            one under the same link; without it, no range can be requested.
        inflater: The decompressor, if the file is compressed.
        fed: The number of compressed bytes, in this attempt.
    """

    api: ApiClient = attrs.field(repr=False)
    url: URL = attrs.field(repr=False)
    part: PartFile
    max_bytes: int
    got: int = 0
    total: int | None = None
    version: str | None = None
    inflater: _Inflater | None = None
    fed: int = 0

    async def run(self, deadline: float) -> None:
        executor, clock = self.api.executor, self.api.clock
        deadline_at = clock.monotonic() + deadline
        over_at = asyncio.get_running_loop().time() + deadline

        async def attempt() -> None:
            await self._once(over_at)

        try:
            await attempt()
        except BankConnectError as error:
            first = error
        else:
            return
        state = RetryState(
            error=first,
            policy=attrs.evolve(self.api.retry, delivery="at-least-once"),
            budget=executor.budget,
            clock=clock,
            deadline=deadline_at,
        )
        await state.run(attempt)

    async def _once(self, over_at: float) -> None:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        cancelling = task.cancelling()
        failure: BaseException
        limit = asyncio.timeout_at(over_at)
        try:
            async with limit:
                await self._fetch()
        except _WriteError as exc:
            failure = exc.error
        except (aiohttp.InvalidURL, UnicodeError):
            failure = DownloadError("the address of the file cannot be used")
        except (aiohttp.ClientError, OSError) as exc:
            failure = _late() if limit.expired() else map_error(exc, None)
        except BankConnectError as exc:
            failure = exc
        except asyncio.CancelledError as exc:
            failure = exc
            if task.cancelling() <= cancelling:
                # A name lookup that was shared with others was cancelled.
                failure = _broken_off()
        else:
            return
        # The frames hold responses of aiohttp, whose reprs show the link.
        raise without_frames(failure)

    async def _fetch(self) -> None:
        url, redirects = self.url, 0
        while True:
            async with self.api.executor.transport.get_external(
                url, self._headers()
            ) as response:
                if self._is_redirect(response):
                    redirects += 1
                    url = self._next(url, response, redirects)
                elif self._must_start_over(response):
                    # Without it, the whole file is requested.
                    self.version = None
                else:
                    await self._read(response)
                    return

    def _headers(self) -> dict[str, str]:
        if not self.got or self.version is None:
            return {}
        return {"Range": f"bytes={self.got}-", "If-Range": self.version}

    @staticmethod
    def _is_redirect(response: aiohttp.ClientResponse) -> bool:
        return response.status in _REDIRECTS and "Location" in response.headers

    def _next(
        self, url: URL, response: aiohttp.ClientResponse, redirects: int
    ) -> URL:
        if redirects > _MAX_REDIRECTS:
            raise DownloadError(
                f"the link was redirected more than {_MAX_REDIRECTS} times"
            )
        try:
            # yarl's own `join` undoes escapes.
            target = urljoin(str(url), response.headers["Location"])
        except ValueError:
            target = ""
        found = _read_link(target, self.api)
        if isinstance(found, URL):
            return found
        raise DownloadError(f"the link was redirected to what {found}")

    def _must_start_over(self, response: aiohttp.ClientResponse) -> bool:
        if not self._headers():
            return False
        if response.status == _NO_SUCH_RANGE:
            return True
        return response.status == _PARTIAL and not self._continues(response)

    def _continues(self, response: aiohttp.ClientResponse) -> bool:
        headers = response.headers
        found = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if found is None or _is_multipart(headers) or _encoding(headers):
            return False
        first, last, total = map(int, found.groups())
        if first != self.got or not first <= last < total:
            return False
        if self.total not in {None, total}:
            return False
        if not self._is_same_version(headers):
            return False
        self.total = total
        return True

    def _is_same_version(self, headers: Mapping[str, str]) -> bool:
        # A part comes with its tag, but need not repeat the date that it
        # was asked by (RFC 9110, 15.3.7).
        if _is_strong(self.version):
            return headers.get("ETag") == self.version
        return headers.get("Last-Modified", self.version) == self.version

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        if response.status == _OK:
            await self._start_over(response.headers)
            if self.inflater is None:
                self.total = response.content_length
        elif response.status != _PARTIAL:
            raise self._error(response)
        elif not self._headers():
            raise DownloadError("a part of the file came, not all of it")
        self._check_length(self.total or 0)
        async for piece in response.content.iter_chunked(_PIECE):
            await self._add(piece)
        self._check_complete()

    async def _start_over(self, headers: Mapping[str, str]) -> None:
        encoding = _encoding(headers)
        if encoding and encoding not in _COMPRESSIONS:
            raise DownloadError("the file is compressed in an unknown way")
        if _is_multipart(headers):
            raise DownloadError("parts of the file came, not the file")
        self.got, self.fed, self.total = 0, 0, None
        # The server counts compressed bytes, so no range can be requested.
        self.inflater = _Inflater() if encoding else None
        self.version = None if encoding else _version(headers)
        await self._write(self.part.restart)

    async def _add(self, piece: bytes) -> None:
        if self.inflater is None:
            await self._append(piece)
            return
        self.fed += len(piece)
        self._check_length(self.fed - _overhead(self.max_bytes))
        self.inflater.feed(piece)
        try:
            while content := await run_in_thread(self.inflater.take):
                await self._append(content)
        except zlib.error:
            raise DownloadError(
                "the file is not compressed as it says"
            ) from None

    async def _append(self, content: bytes) -> None:
        self._check_length(self.got + len(content))
        await self._write(self.part.append, content)
        self.got += len(content)

    @staticmethod
    async def _write(work: Callable[[*Ts], None], *args: *Ts) -> None:
        try:
            await run_in_thread(work, *args)
        except OSError as exc:
            raise _WriteError(exc) from None

    def _check_complete(self) -> None:
        if self.inflater is not None:
            if self.inflater.is_over:
                return
        elif self.total is None or self.got == self.total:
            return
        elif self.got > self.total:
            # Then none of it is reliable.
            self.version = None
        raise _broken_off()

    def _check_length(self, length: int) -> None:
        if length > self.max_bytes:
            raise DownloadError(
                f"the file is longer than {self.max_bytes} bytes"
            )

    def _error(self, response: aiohttp.ClientResponse) -> BankConnectError:
        # The body is left out: file servers quote parts of the link.
        status = response.status
        said = f"the server of the link answered {status}"
        if status in _GONE:
            return NotFoundError(
                f"{said}: it has expired, or the file is gone", status=status
            )
        retry_after = parse_retry_after(
            response.headers.get("Retry-After"), now=self.api.clock.time()
        )
        if status == _TOO_MANY:
            return RateLimitError(said, status=status, retry_after=retry_after)
        if status >= _FAULTS:
            return ServerError(
                said,
                status=status,
                retry_after=retry_after,
                delivery=Delivery.AMBIGUOUS,
            )
        return BadRequestError(said, status=status)


def _overhead(length: int) -> int:
    # gzip adds this to a file of this length that cannot be compressed, plus
    # some members. Only an attack has more compressed bytes.
    return length // 100 + 64 * 1024


def _late() -> RequestTimeoutError:
    return RequestTimeoutError(
        "the file was not complete in time",
        delivery=Delivery.AMBIGUOUS,
        phase=Phase.RESPONDED,
    )


def _broken_off() -> ConnectionLostError:
    return ConnectionLostError(
        "the file broke off",
        delivery=Delivery.AMBIGUOUS,
        phase=Phase.RESPONDED,
    )


def _encoding(headers: Mapping[str, str]) -> str | None:
    encoding = headers.get("Content-Encoding", "").strip().lower()
    return None if encoding == "identity" else encoding or None


def _is_multipart(headers: Mapping[str, str]) -> bool:
    kind = headers.get("Content-Type", "").lower()
    return kind.startswith("multipart/byteranges")


def _is_strong(tag: str | None) -> bool:
    # A weak one, `W/"…"`, does not promise the same bytes.
    return tag is not None and tag.startswith('"')


def _version(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("ETag")
    if tag is not None:
        return tag if _is_strong(tag) else None
    changed = parse_http_date(headers.get("Last-Modified", ""))
    now = parse_http_date(headers.get("Date", ""))
    if changed is None or now is None or now - changed < _SETTLED:
        return None
    return headers["Last-Modified"]
