"""
Bodies of responses: read up to a limit, and decompressed.
"""

import zlib

from collections.abc import Callable

import aiohttp

from bankconnect_async._threads import run_in_thread

from .operation import MAX_RESPONSE, OK


async def read_body(
    response: aiohttp.ClientResponse,
    limit: int,
    on_progress: Callable[[], object],
) -> bytes:
    """
    Read the body of a response.

    Args:
        response: The response.
        limit: The largest accepted body of a 2xx response, in bytes.
        on_progress: The function to call whenever a part of a large body
            arrived.

    Raises:
        aiohttp.ClientPayloadError: If the body is longer, or broke off.
    """
    length = response.content_length
    if length is not None and length <= MAX_RESPONSE:
        return await response.read()
    if limit <= MAX_RESPONSE or response.status not in OK:
        return await _read_bounded(response, MAX_RESPONSE)
    # The read timeout of a large body starts again whenever bytes arrive.
    return await _read_bounded(response, limit, on_progress)


class _Content(bytearray):
    """
    Bytes that show in no traceback with locals.
    """

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


async def _read_bounded(
    response: aiohttp.ClientResponse,
    limit: int,
    on_progress: Callable[[], object] | None = None,
) -> bytes:
    content = _Content()
    while not response.content.at_eof():
        content += await response.content.readany()
        if len(content) > limit:
            response.close()
            raise aiohttp.ClientPayloadError("response too long")
        if on_progress is not None:
            on_progress()
    return bytes(content)


async def decompress(content: bytes, encoding: str, limit: int) -> bytes:
    """
    Decompress a body; no compression is asked for, but some proxies do it.

    Args:
        content: The body.
        encoding: The value of the Content-Encoding header.
        limit: The largest accepted result, in bytes.

    Raises:
        aiohttp.ClientPayloadError: If the body is damaged or too long.
    """
    if encoding.lower() not in {"gzip", "x-gzip", "deflate"}:
        return content
    if limit > MAX_RESPONSE:
        return await run_in_thread(_inflate, content, limit)
    return _inflate(content, limit)


def _inflate(content: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        content = inflater.decompress(content, limit + 1)
    except zlib.error as exc:
        raise aiohttp.ClientPayloadError("bad compression") from exc
    if not inflater.eof or len(content) > limit:
        raise aiohttp.ClientPayloadError("cut off, or too long")
    return content
