"""
File storage behind pre-signed links, on the sandbox's own host.
"""

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


#: The path of stored files.
FILES: Final = "/files/"
#: The lifetime of a link, in seconds (contract, rest-api section 2).
LINK_LIFETIME: Final = 3600

# At least one of the two numbers is there.
_RANGE: Final = re.compile(r"bytes=(?=.*[0-9])([0-9]*)-([0-9]*)")
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
    Uploaded files and fake ones, with links to both.

    Attributes:
        origin: Returns the origin of the server.
        now: Returns the seconds since the epoch.
        find: Returns the fake file of a path; `None` if there is none.
        capacity: The number of bytes of uploads to keep; the oldest go first.
    """

    origin: Callable[[], str]
    now: Callable[[], float]
    find: Callable[[str], bytes | None]
    capacity: int = 64 * 2**20
    _secret: bytes = attrs.field(
        init=False, factory=lambda: secrets.token_bytes(32), repr=False
    )
    _uploads: dict[str, bytes] = attrs.field(
        init=False, factory=dict, repr=False
    )
    _size: int = attrs.field(init=False, default=0)

    def store_upload(
        self, owner: str, statement: UploadedStatement, content: bytes | None
    ) -> None:
        """
        Store the file of a statement, if it came as one.
        """
        if content is not None:
            self._uploads[f"{owner}/{statement.statement_id}.pdf"] = content
            self._size += len(content)
            while self._size > self.capacity:
                oldest = next(iter(self._uploads))
                self._size -= len(self._uploads.pop(oldest))

    def presigned_url(self, path: str) -> str:
        """
        Return a link to *path* that works for an hour.
        """
        expires = str(int(self.now()) + LINK_LIFETIME)
        query = {"expires": expires, "signature": self._sign(path, expires)}
        return f"{self.origin()}{FILES}{path}?{urlencode(query)}"

    def owns(self, url: str) -> bool:
        """
        Tell whether *url* points to this server.
        """
        parts, own = urlsplit(url), urlsplit(self.origin())
        return (parts.scheme, parts.netloc) == (own.scheme, own.netloc)

    def read(self, url: str) -> bytes | None:
        """
        Return the file of one of its own links, without a request.
        """
        parts = urlsplit(url)
        path = parts.path.removeprefix(FILES)
        query = dict(parse_qsl(parts.query))
        return None if self._check_link(path, query) else self._content(path)

    async def serve(self, request: web.Request) -> web.Response:
        """
        Serve a file, or a part of it, as object storage does.
        """
        path = request.match_info["path"]
        if any(name in request.headers for name in _VENDOR_HEADERS):
            # Object storage refuses a second way to authenticate. A caller
            # that sends the vendor's secrets here leaks them.
            return _error(HTTPStatus.BAD_REQUEST, "InvalidArgument")
        if code := self._check_link(path, request.query):
            return _error(HTTPStatus.FORBIDDEN, code)
        content = self._content(path)
        if content is None:
            return _error(HTTPStatus.NOT_FOUND, "NoSuchKey")
        return _file_response(request, path, content)

    def _content(self, path: str) -> bytes | None:
        # Uploads of a deleted session have no fake file any more.
        fake = self.find(path)
        return None if fake is None else self._uploads.get(path, fake)

    def _check_link(self, path: str, query: Mapping[str, str]) -> str | None:
        expires = query.get("expires", "")
        given = query.get("signature", "").encode(errors="replace")
        if not hmac.compare_digest(given, self._sign(path, expires).encode()):
            return "SignatureDoesNotMatch"
        return "AccessDenied" if self.now() >= int(expires) else None

    def _sign(self, path: str, expires: str) -> str:
        signed = f"{path}\n{expires}".encode(errors="replace")
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()


def _error(status: HTTPStatus, code: str) -> web.Response:
    body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code></Error>\n'
    return web.Response(
        status=status, text=body, content_type="application/xml"
    )


def _file_response(
    request: web.Request, path: str, content: bytes
) -> web.Response:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes"}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    if request.headers.get("If-Match", tag) != tag:
        return _error(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
    status = HTTPStatus.OK
    part = _parse_range(request.headers.get("Range", ""), len(content))
    # A range of an older version gets the whole file.
    if part is not None and request.headers.get("If-Range", tag) == tag:
        if not part:
            headers["Content-Range"] = f"bytes */{len(content)}"
            return web.Response(
                status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                headers=headers,
            )
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {part[0]}-{part[-1]}/{len(content)}"
        content = content[part.start : part.stop]
    return web.Response(
        status=status,
        body=content,
        content_type=_TYPES[path.rpartition(".")[2]],
        headers=headers,
    )


def _parse_range(header: str, size: int) -> range | None:
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)
