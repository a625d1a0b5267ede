"""
Request bodies that record how far their sending came.

The delivery class of a failed request decides whether it may be sent again,
and exception types do not tell it: a reset before the server read anything
and one after it processed everything look the same. The body itself knows
when its write began, and whether that write failed before a byte was handed
to the connection.
"""

from collections.abc import Callable
from typing import Protocol

import aiohttp

from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from .sockets import refuse_closed


# aiohttp hands over a body of this size in one piece; only a part of a
# larger one can have left when the write fails.
_ONE_PIECE = 64 * 1024


class RequestBody(Protocol):
    """
    A request body that records how far its sending came.

    Attributes:
        begun: Whether the write of this attempt began.
        unsent: Whether that write failed before anything was handed over.
        checks_connection: Whether the write first checks that the peer has
            not closed the connection; for connections that nothing else
            checks.
        on_progress: The function to call when the write begins, and again
            whenever it proceeds.
    """

    begun: bool
    unsent: bool
    checks_connection: bool
    on_progress: Callable[[], object] | None

    @property
    def content_type(self) -> str:
        """The value of the Content-Type header."""
        ...


class BytesBody(aiohttp.Payload):
    """
    A small request body.

    Its bytes show in no repr: they hold the API key.

    Args:
        content: The bytes to send.
        content_type: The value of the Content-Type header.

    Attributes:
        begun: Whether the write of this attempt began.
        unsent: Whether that write failed before anything was handed over.
        checks_connection: Whether to check the connection first.
        on_progress: The function to call when the write begins.
        length: The number of bytes.
        media_type: The value of the Content-Type header.
    """

    begun = unsent = checks_connection = False
    on_progress: Callable[[], object] | None = None

    # The base's own initializer prepares for files and names, which costs
    # 1.5 us a request.
    def __init__(self, content: bytes, *, content_type: str) -> None:
        self._content = content
        self.length = len(content)
        self.media_type = content_type

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.length

    @property
    def headers(self) -> "CIMultiDict[str]":
        """The headers of the body, which aiohttp copies to the request."""
        return CIMultiDict({hdrs.CONTENT_TYPE: self.media_type})

    @property
    def content_type(self) -> str:
        """The value of the Content-Type header."""
        return self.media_type

    @property
    def filename(self) -> None:
        """No name: the body is not a file."""
        return

    @property
    def encoding(self) -> None:
        """No encoding: the body is bytes."""
        return

    @property
    def autoclose(self) -> bool:
        """Whether there is nothing to close."""
        return True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the bytes as a text."""
        return self._content.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body, and record how far that came."""
        await self.write_with_length(writer, None)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,
    ) -> None:
        """Write the body, and record how far that came."""
        self.begun = True
        if self.on_progress is not None:
            self.on_progress()
        try:
            if self.checks_connection:
                refuse_closed(writer)
            await writer.write(self._content[:content_length])
        except Exception:
            self.unsent = self.length <= _ONE_PIECE
            raise
