"""
Stored files behind pre-signed links, on the sandbox's own host.
"""

import collections
import hashlib
import hmac
import re
import secrets

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import attrs

from aiohttp import web

from bankconnect_async.sandbox.data_api.statements import UploadedStatement


#: Where stored files are.
FILES: Final = "/files/"
#: How long a link is good, in seconds (contract, rest-api section 2).
LINK_LIFETIME: Final = 3600

# Uploads stay until so many bytes of newer ones have come.
_CAPACITY: Final = 64 * 2**20
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_VENDOR_HEADERS: Final = ("x-api-key", "server-hash")
_TYPES: Final = {
    "pdf": "application/pdf",
    "xlsx": "application/vnd.openxmlformats-officedocument."
    "spreadsheetml.sheet",
    "xml": "application/xml",
}


@attrs.define(eq=False, kw_only=True)
class Storage:
    """
    Uploaded files, and links to those and to made-up ones.

    Attributes:
        origin: Where the server is found.
        now: Seconds since the epoch.
        find: Makes up the file of a path; `None` if there is none.
    """

    origin: Callable[[], str]
    now: Callable[[], float]
    find: Callable[[str], bytes | None]
    _secret: bytes = attrs.field(
        init=False, factory=lambda: secrets.token_bytes(32), repr=False
    )
    _uploads: collections.OrderedDict[str, bytes] = attrs.field(
        init=False, factory=collections.OrderedDict, repr=False
    )
    _size: int = attrs.field(init=False, default=0)

    def _keep(self, path: str, content: bytes) -> None:
        """
        Store an upload; the oldest ones go if there are too many bytes.
        """
        self._uploads[path] = content
        self._size += len(content)
        while self._size > _CAPACITY:
            _, oldest = self._uploads.popitem(last=False)
            self._size -= len(oldest)

    def store_upload(
        self, owner: str, statement: UploadedStatement, content: bytes | None
    ) -> None:
        """
        Store the file of a statement, if it came as one.
        """
        if content is not None:
            self._keep(f"{owner}/{statement.statement_id}.pdf", content)

    def presigned_url(self, path: str) -> str:
        """
        Return a link to *path*, good for an hour.
        """
        expires = int(self.now()) + LINK_LIFETIME
        query = {
            "expires": expires,
            "signature": self._signature(path, str(expires)),
        }
        return f"{self.origin()}{FILES}{path}?{urlencode(query)}"

    def owns(self, url: str) -> bool:
        """
        Tell whether *url* leads to this server.
        """
        parts, own = urlsplit(url), urlsplit(self.origin())
        return (parts.scheme, parts.netloc) == (own.scheme, own.netloc)

    def read(self, url: str) -> bytes | None:
        """
        Return what one of our own links leads to, without a request.
        """
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        path = parts.path.removeprefix(FILES)
        if self._refusal(path, query) is not None:
            return None
        return self._content(path)

    async def serve(self, request: web.Request) -> web.Response:
        """
        Answer for a file, or a part of it, as object storage does.
        """
        path = request.match_info["path"]
        refusal = self._refusal(path, request.query)
        if any(name in request.headers for name in _VENDOR_HEADERS):
            # Storage takes one way to authenticate, not two. Whoever sends
            # our secrets to it leaks them.
            refusal = (HTTPStatus.BAD_REQUEST, "InvalidArgument")
        if refusal is not None:
            return _refused(*refusal)
        content = self._content(path)
        if content is None:
            return _refused(HTTPStatus.NOT_FOUND, "NoSuchKey")
        return _answer(request, path, content)

    def _content(self, path: str) -> bytes | None:
        # What is stored of a deleted session is not to be had any more.
        fake = self.find(path)
        return None if fake is None else self._uploads.get(path, fake)

    def _refusal(
        self, path: str, query: Mapping[str, str]
    ) -> tuple[HTTPStatus, str] | None:
        expires = query.get("expires", "")
        given = query.get("signature", "").encode(errors="replace")
        expected = self._signature(path, expires).encode()
        if not hmac.compare_digest(given, expected):
            return HTTPStatus.FORBIDDEN, "SignatureDoesNotMatch"
        if self.now() >= int(expires):
            return HTTPStatus.FORBIDDEN, "AccessDenied"
        return None

    def _signature(self, path: str, expires: str) -> str:
        signed = f"{path}\n{expires}".encode(errors="replace")
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()


def _refused(status: HTTPStatus, code: str) -> web.Response:
    body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code></Error>\n'
    return web.Response(
        status=status, text=body, content_type="application/xml"
    )


def _answer(request: web.Request, path: str, content: bytes) -> web.Response:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes"}
    content_type = _TYPES[path.rpartition(".")[2]]
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    if request.headers.get("If-Match", tag) != tag:
        return _refused(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
    part = _part(request.headers.get("Range", ""), len(content))
    # A range of what has changed meanwhile is no use: the whole, then.
    if part is None or request.headers.get("If-Range", tag) != tag:
        return web.Response(
            body=content, content_type=content_type, headers=headers
        )
    if not part:
        headers["Content-Range"] = f"bytes */{len(content)}"
        return web.Response(
            status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers
        )
    headers["Content-Range"] = (
        f"bytes {part.start}-{part.stop - 1}/{len(content)}"
    )
    return web.Response(
        status=HTTPStatus.PARTIAL_CONTENT,
        body=content[part.start : part.stop],
        content_type=content_type,
        headers=headers,
    )


def _part(header: str, size: int) -> range | None:
    match = _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    stop = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None
    return range(int(first), stop)
