"""
Files behind pre-signed links.

A link is a credential for somebody else's server: that server gets no header
of ours, and the link gets into no message and no traceback.
"""

import asyncio
import os
import re
import secrets

from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import aiohttp
import attrs

from yarl import URL

from ._api import Api
from ._repeating import repeat
from ._translation import translate
from .errors import (
    BankConnectError,
    ConfigurationError,
    ConnectionLostError,
    Delivery,
    DownloadError,
    InvalidRequestError,
    NotFoundError,
    Phase,
    RateLimitedError,
    RejectedError,
    ServerFaultError,
)
from .retry import parse_retry_after
from .wire import url_problem


_PIECE: Final = 256 * 1024
# What servers of files say to a link that has run out.
_GONE: Final = frozenset({401, 403, 404, 410})
_TOO_MANY: Final = 429
_FAULTS: Final = 500
_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")


async def download(
    api: Api,
    link: str,
    to: str | os.PathLike[str],
    *,
    max_bytes: int,
    deadline: float,
) -> int:
    """
    Do what `AsyncBankConnect.download` says.
    """
    if type(max_bytes) is not int or max_bytes < 1:
        raise ConfigurationError(
            fields={"max_bytes": ("must be a whole number, 1 or more",)}
        )
    if problem := url_problem(link, allow_http=api.allow_http):
        raise InvalidRequestError(fields={"link": (problem,)})
    target = Path(to)
    if not target.name or await asyncio.to_thread(target.is_dir):
        raise InvalidRequestError(fields={"to": ("is a folder",)})
    # Beside the target, so that it can be moved there in one step.
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    with api.calls.under_way():
        file = _create(draft)
        try:
            with file:
                fetch = _Fetch(
                    api=api,
                    url=URL(link, encoded=True),
                    file=file,
                    max_bytes=max_bytes,
                )
                await fetch.run(deadline)
                await asyncio.to_thread(_settle, file)
            await asyncio.to_thread(draft.replace, target)
        finally:
            with suppress(FileNotFoundError):
                draft.unlink()
    return fetch.got


def _create(path: Path) -> IO[bytes]:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _settle(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


@attrs.define(kw_only=True)
class _Fetch:
    """
    A file on its way, and how much of it is there.
    """

    api: Api = attrs.field(repr=False)
    url: URL = attrs.field(repr=False)
    file: IO[bytes]
    max_bytes: int
    got: int = 0
    total: int | None = None
    # Tells one version of the file from the next (RFC 9110, 13.1.5).
    version: str | None = None

    async def run(self, deadline: float) -> None:
        calls, clock = self.api.calls, self.api.clock
        give_up_at = clock.monotonic() + deadline
        try:
            await self._once()
        except BankConnectError as error:
            first = error
        else:
            return
        await repeat(
            self._once,
            after=first,
            policy=attrs.evolve(calls.retry, delivery="at-least-once"),
            budget=calls.budget,
            clock=clock,
            give_up_at=give_up_at,
        )

    async def _once(self) -> None:
        failure: BankConnectError | None
        try:
            failure = await self._visit()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as exc:
            failure = translate(exc, None)
        # Outside of `except`, and not in a frame with a response: reprs of
        # aiohttp's hold the link.
        if failure is not None:
            raise failure

    async def _visit(self) -> BankConnectError | None:
        headers = {}
        if self.got and self.version:
            headers = {
                "Range": f"bytes={self.got}-",
                "If-Range": self.version,
            }
        async with self.api.calls.transport.visit(
            self.url, headers
        ) as response:
            failure = await self._begin(response)
            return failure or await self._take(response)

    async def _begin(
        self, response: aiohttp.ClientResponse
    ) -> BankConnectError | None:
        match response.status:
            case 200:
                await asyncio.to_thread(self._start_over)
                self.version = _version(response)
                self.total = response.content_length
            case 206 if not self._fits(response):
                return DownloadError("the rest of the file does not fit")
            case 206:
                pass
            case _:
                return self._refusal(response)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            return DownloadError("the file was compressed on the way")
        return self._too_long(self.total or 0)

    def _start_over(self) -> None:
        self.got = 0
        self.file.seek(0)
        self.file.truncate()

    def _fits(self, response: aiohttp.ClientResponse) -> bool:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != self.got:
            return False
        if self.total is None:
            self.total = int(match[2])
        return self.total == int(match[2])

    async def _take(
        self, response: aiohttp.ClientResponse
    ) -> BankConnectError | None:
        async for piece in response.content.iter_chunked(_PIECE):
            if failure := self._too_long(self.got + len(piece)):
                return failure
            await asyncio.to_thread(self.file.write, piece)
            self.got += len(piece)
        if self.total is not None and self.got != self.total:
            return ConnectionLostError(
                "the file broke off",
                delivery=Delivery.AMBIGUOUS,
                phase=Phase.ANSWERED,
            )
        return None

    def _too_long(self, length: int) -> DownloadError | None:
        if length <= self.max_bytes:
            return None
        return DownloadError(f"the file is longer than {self.max_bytes} bytes")

    def _refusal(
        self, response: aiohttp.ClientResponse
    ) -> BankConnectError | None:
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
            return RateLimitedError(
                said, status=status, retry_after=retry_after
            )
        if status >= _FAULTS:
            return ServerFaultError(
                said,
                status=status,
                retry_after=retry_after,
                delivery=Delivery.AMBIGUOUS,
            )
        return RejectedError(said, status=status)


def _version(response: aiohttp.ClientResponse) -> str | None:
    tag = response.headers.get("ETag")
    if tag is None:
        return response.headers.get("Last-Modified")
    # A weak one does not promise the same bytes.
    return None if tag.startswith("W/") else tag
