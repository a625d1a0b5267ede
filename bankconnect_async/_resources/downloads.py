"""
Files behind pre-signed links.

A link is a credential for somebody else's server: that server gets no header
of ours, and the link gets into no message and no traceback.
"""

import asyncio
import os
import re
import zlib

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
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
from bankconnect_async._http.retrying import RetryState, retry
from bankconnect_async._threads import finish_in_thread, run_in_thread
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
from bankconnect_async.retry import parse_retry_after

from .base import ApiClient
from .files import PartFile


Ts = TypeVarTuple("Ts")

_PIECE: Final = 256 * 1024
_OK: Final = 200
_PARTIAL: Final = 206
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5
# What servers of files say to a link that has run out.
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
    Do what `AsyncBankConnect.download` says.
    """
    _check_limits(max_bytes, deadline)
    url = _read_link(link, api)
    if isinstance(url, str):
        raise InvalidRequestError(fields={"link": (url,)})
    part = PartFile(_read_path(to))
    fetch = _Fetch(api=api, url=url, part=part, max_bytes=max_bytes)
    # A traceback with locals would show it.
    del url
    loop = asyncio.get_running_loop()
    with api.executor.track():
        try:
            await run_in_thread(part.create)
            await fetch.run(deadline)
            await run_in_thread(part.commit)
        except BaseException as exc:
            if isinstance(exc, GeneratorExit) or loop.is_closed():
                # Nobody can be waited for any more.
                part.unlink()
            else:
                await finish_in_thread(part.discard)
            raise
    return fetch.got


def _check_limits(max_bytes: int, deadline: float) -> None:
    fields = {}
    if type(max_bytes) is not int or max_bytes < 1:
        fields["max_bytes"] = ("must be a whole number, 1 or more",)
    if (
        not isinstance(deadline, int | float)
        or isinstance(deadline, bool)
        or not 0 < deadline < float("inf")
    ):
        fields["deadline"] = ("must be a number of seconds above 0",)
    if fields:
        raise ConfigurationError(fields=fields)


def _read_path(to: str | os.PathLike[str]) -> Path:
    try:
        path = Path(to)
    except TypeError:
        raise InvalidRequestError(fields={"to": ("is no path",)}) from None
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
    # Left is http on this machine. A production client has no business there.
    return url if is_loopback(api.base_url.host) else "is not an https URL"


class _Inflater:
    """
    Undoes gzip or deflate, a bounded piece at a time.
    """

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._rest = b""

    @property
    def is_over(self) -> bool:
        """Whether what was fed is whole."""
        return self._stream.eof and not self._rest

    def feed(self, content: bytes) -> None:
        """Go on with *content*."""
        self._rest += content

    def take(self) -> bytes:
        """
        Return the next piece; none if more has to be fed first.

        Raises:
            zlib.error: If it was not compressed in a known way.
        """
        while True:
            if self._stream.eof:
                # As gzip(1): members follow one another, zeros pad.
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
    A file on its way, and how much of it is there.

    Attributes:
        got: Bytes that are there.
        total: Bytes of all of it, if that was said.
        version: Tells this file from a later one under the same link, in
            `If-Range`; without it, nothing can be added to what is there.
    """

    api: ApiClient = attrs.field(repr=False)
    url: URL = attrs.field(repr=False)
    part: PartFile
    max_bytes: int
    got: int = 0
    total: int | None = None
    version: str | None = None
    inflater: _Inflater | None = None
    # Bytes that were inflated, which may have been for nothing.
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
            policy=attrs.evolve(executor.retry, delivery="at-least-once"),
            budget=executor.budget,
            clock=clock,
            deadline=deadline_at,
        )
        await retry(attempt, state)

    async def _once(self, over_at: float) -> None:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        cancelling = task.cancelling()
        failure: BaseException | None
        limit = asyncio.timeout_at(over_at)
        try:
            async with limit:
                failure = await self._visit()
        except (aiohttp.InvalidURL, UnicodeError):
            failure = DownloadError("the address of the file cannot be used")
        except (aiohttp.ClientError, OSError) as exc:
            failure = _late() if limit.expired() else map_error(exc, None)
        except BankConnectError as exc:
            failure = exc.with_traceback(None)
        except asyncio.CancelledError as exc:
            failure = exc.with_traceback(None)
            if task.cancelling() <= cancelling:
                # A name lookup that was shared with others was cancelled.
                failure = _broken_off()
        # Outside of `except`, and not in a frame with a response: reprs of
        # aiohttp's hold the link.
        if failure is not None:
            raise failure

    async def _visit(self) -> Exception | None:
        url, redirects = self.url, 0
        while True:
            async with self.api.executor.transport.get_external(
                url, self._headers()
            ) as response:
                if self._is_redirect(response):
                    redirects += 1
                    found = self._next(url, response, redirects)
                    if not isinstance(found, URL):
                        return found
                    url = found
                elif self._must_start_over(response):
                    # Without it the whole file is asked for.
                    self.version = None
                else:
                    return await self._take(response)

    def _headers(self) -> dict[str, str]:
        if not self.got or self.version is None:
            return {}
        return {"Range": f"bytes={self.got}-", "If-Range": self.version}

    @staticmethod
    def _is_redirect(response: aiohttp.ClientResponse) -> bool:
        return response.status in _REDIRECTS and "Location" in response.headers

    def _next(
        self, url: URL, response: aiohttp.ClientResponse, redirects: int
    ) -> URL | DownloadError:
        if redirects > _MAX_REDIRECTS:
            return DownloadError(
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
        return DownloadError(f"the link was redirected to what {found}")

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

    async def _take(
        self, response: aiohttp.ClientResponse
    ) -> Exception | None:
        if response.status == _OK:
            failure = await self._start_over(response.headers)
            if failure is not None:
                return failure
            if self.inflater is None:
                self.total = response.content_length
        elif response.status != _PARTIAL:
            return self._refusal(response)
        elif not self._headers():
            return DownloadError("a part of the file came, not all of it")
        if failure := self._too_long(self.total or 0):
            return failure
        async for piece in response.content.iter_chunked(_PIECE):
            if failure := await self._add(piece):
                return failure
        return self._verdict()

    async def _start_over(
        self, headers: Mapping[str, str]
    ) -> Exception | None:
        encoding = _encoding(headers)
        if encoding and encoding not in _COMPRESSIONS:
            return DownloadError("the file is compressed in an unknown way")
        if _is_multipart(headers):
            return DownloadError("parts of the file came, not the file")
        self.got, self.fed, self.total = 0, 0, None
        # The server counts in bytes that are not ours.
        self.inflater = _Inflater() if encoding else None
        self.version = None if encoding else _version(headers)
        return await self._write(self.part.restart)

    async def _add(self, piece: bytes) -> Exception | None:
        if self.inflater is None:
            return await self._append(piece)
        self.fed += len(piece)
        if too_long := self._too_long(self.fed - _overhead(self.max_bytes)):
            return too_long
        self.inflater.feed(piece)
        try:
            while content := await run_in_thread(self.inflater.take):
                if failure := await self._append(content):
                    return failure
        except zlib.error:
            return DownloadError("the file is not compressed as it says")
        return None

    async def _append(self, content: bytes) -> Exception | None:
        if too_long := self._too_long(self.got + len(content)):
            return too_long
        failure = await self._write(self.part.append, content)
        self.got += len(content)
        return failure

    @staticmethod
    async def _write(
        work: Callable[[*Ts], None], *args: *Ts
    ) -> OSError | None:
        # What the system says about the file is not taken for the network's.
        try:
            await run_in_thread(work, *args)
        except OSError as exc:
            return exc.with_traceback(None)
        return None

    def _verdict(self) -> Exception | None:
        if self.inflater is not None:
            return None if self.inflater.is_over else _broken_off()
        if self.total is None or self.got == self.total:
            return None
        if self.got > self.total:
            # Then nothing that came can be relied upon.
            self.version = None
        return _broken_off()

    def _too_long(self, length: int) -> DownloadError | None:
        if length <= self.max_bytes:
            return None
        return DownloadError(f"the file is longer than {self.max_bytes} bytes")

    def _refusal(self, response: aiohttp.ClientResponse) -> BankConnectError:
        # Not its words: servers of files explain with parts of the link.
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
    # What gzip adds to a file of this length that cannot be compressed, and
    # some members more. Only an attack has more bytes packed than unpacked.
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
    try:
        changed = parsedate_to_datetime(headers["Last-Modified"])
        now = parsedate_to_datetime(headers["Date"])
        age = (now - changed).total_seconds()
    except (KeyError, ValueError, TypeError):
        return None
    return headers["Last-Modified"] if age >= _SETTLED else None
