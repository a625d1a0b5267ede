"""
A request's body, as the witness of what became of the request.

What became of it decides whether it may be repeated, and exception types do
not tell: a reset before the server read anything and one after it processed
everything look the same. The payload itself knows when its write began, and
whether that write failed before a byte was handed to the connection.
"""

import functools

from collections.abc import Callable
from typing import Protocol

import aiohttp

from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from .connections import refuse_closed


# aiohttp hands a body of this size over in one piece; only of a larger one
# can a part have left when the write fails.
_ONE_PIECE = 64 * 1024


class RequestBody(Protocol):
    """
    What an exchange needs to know about the body it sends.

    Attributes:
        begun: Whether its write was begun.
        unsent: Whether that write failed before anything was handed on.
        checks_connection: Whether the write first checks that the peer has
            not closed the connection; for connections that nobody else
            checks.
    """

    begun: bool
    unsent: bool
    checks_connection: bool

    @property
    def content_type(self) -> str:
        """Value of the header."""
        ...

    def reset(self, on_progress: Callable[[], None], /) -> None:
        """
        Get ready for another attempt.

        Args:
            on_progress: Called when the write begins, and again as it
                proceeds.
        """
        ...


class BytesBody(aiohttp.Payload):
    """
    A request body that notes how far its sending came.

    Its bytes show in no repr: they hold the API key.

    Args:
        content: What to send.
        content_type: What it is.

    Attributes:
        begun: Whether its write was begun.
        unsent: Whether that write failed before anything was handed on.
        checks_connection: Whether to check the connection first.
        length: Bytes to send.
    """

    begun = unsent = checks_connection = False
    _on_begun: Callable[[], None] | None = None

    # The base's own initializer prepares for files and names, which costs
    # 1.5 us a request; all that it prepares is answered below.
    def __init__(self, content: bytes, *, content_type: str) -> None:
        self._content = content
        self.length = len(content)
        self._own_headers = _headers(content_type)

    @property
    def size(self) -> int:
        """Bytes to send."""
        return self.length

    @property
    def headers(self) -> "CIMultiDict[str]":
        """Of this body; aiohttp copies them into the request's."""
        return self._own_headers

    @property
    def content_type(self) -> str:
        """What the bytes are."""
        return self._own_headers[hdrs.CONTENT_TYPE]

    @property
    def filename(self) -> None:
        """It is no file."""
        return

    @property
    def encoding(self) -> None:
        """It is bytes already."""
        return

    @property
    def autoclose(self) -> bool:
        """There is nothing to close."""
        return True

    def reset(self, on_begun: Callable[[], None]) -> None:
        """Get ready for another attempt; *on_begun* is called in it."""
        self.begun = self.unsent = False
        self._on_begun = on_begun

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the bytes as a text."""
        return self._content.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body, taking notes."""
        await self.write_with_length(writer, None)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,
    ) -> None:
        """Write the body, taking notes."""
        self.begun = True
        if self._on_begun is not None:
            self._on_begun()
        try:
            if self.checks_connection:
                refuse_closed(writer)
            await writer.write(self._content[:content_length])
        except Exception as exc:  # noqa: BLE001 - it is raised below
            self.unsent = len(self._content) <= _ONE_PIECE
            failure = exc.with_traceback(None)
        else:
            return
        # The frames in between hold headers and body as locals, which a
        # traceback with locals would print.
        raise failure


@functools.cache
def _headers(content_type: str) -> "CIMultiDict[str]":
    return CIMultiDict({hdrs.CONTENT_TYPE: content_type})
