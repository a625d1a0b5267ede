"""
Files behind pre-signed links: complete, once, and private.
"""

import asyncio
import gzip
import itertools
import os
import resource
import socket
import ssl
import stat
import subprocess
import sys
import traceback
import zlib

from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import ClassVar

import aiohttp
import attrs
import pytest
import trustme

from aiohttp import web
from yarl import URL

from bankconnect_async import (
    TLS,
    AsyncBankConnect,
    BadRequestError,
    BankConnectError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    Delivery,
    DownloadError,
    InvalidRequestError,
    NotFoundError,
    ProxyAuthenticationError,
    RateLimitError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    Timeouts,
)
from bankconnect_async._resources.files import PartFile


CONTENT = bytes(range(256)) * 4096
LINK = "/x.pdf?X-Signature=canary%2Fcanary&b=%7E"


class Store:
    """
    A file server that can break off.

    Attributes:
        requests: Headers of all that came, names in lower case.
        paths: What they asked for, as they wrote it.
        cuts: After how many bytes each answer breaks off.
        etag: Of the file; `None` for none.
        ranges: Whether it can give a part.
    """

    def __init__(self, folder, until):
        self._folder = folder
        self._until = until
        self.requests = []
        self.paths = []
        self.cuts = []
        self.etag = '"v1"'
        self.headers = {}
        self.content = CONTENT
        self.ranges = True
        self.answer = None

    async def serve(self, request):
        self.requests.append(
            {name.lower(): text for name, text in request.headers.items()}
        )
        self.paths.append(request.raw_path)
        if self.answer is not None:
            return await self.answer(request)
        start, status, headers = 0, 200, dict(self.headers)
        if self.etag is not None:
            headers["ETag"] = self.etag
        wanted = request.headers.get("Range")
        same = request.headers.get("If-Range") == self.etag
        if wanted and self.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            status = 206
            total = len(self.content)
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        rest = self.content[start:]
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(rest)
        await response.prepare(request)
        cut = self.cuts.pop(0) if self.cuts else None
        await response.write(rest[:cut])
        if cut is not None:
            await self.break_off(request, start)
        return response

    async def break_off(self, request, start=0):
        """Close the connection when a part has more than *start* bytes."""

        def is_read():
            parts = self._folder.glob(".bankconnect-*.part")
            return any(part.stat().st_size > start for part in parts)

        # What was not read yet would be lost with the connection.
        await self._until(is_read)
        request.transport.close()


def names(folder):
    """List the files of a folder, hidden ones included."""
    return [each.name for each in folder.iterdir()]


@pytest.fixture(name="store")
async def _store(serve, tmp_path, until):
    """The file server; `origin` is its address."""
    store = Store(tmp_path, until)
    async with serve(store.serve) as origin:
        store.origin = origin
        yield store


async def test_gets_a_file(store, bank, tmp_path):
    """
    The file is complete, private, and its length is returned.
    """
    path = tmp_path / "x.pdf"
    path.write_bytes(b"old")

    length = await bank.download(store.origin + LINK, to=path)

    assert length == len(CONTENT)
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["x.pdf"]


async def test_takes_large_heads(store, bank, tmp_path):
    """
    A header of 9,000 bytes does not stop a download.
    """
    store.headers["X-Trace"] = "x" * 9_000

    await bank.download(store.origin + LINK, to=tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == CONTENT


async def test_without_a_thread_for_the_lookup(bank, tmp_path, monkeypatch):
    """
    A failed name lookup is NOT_SENT, and its error hides the link.
    """

    def start(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", start)
    with pytest.raises(ConnectError) as caught:
        await bank.download(
            "https://files.example/x?sig=canary", to=tmp_path / "x"
        )

    assert caught.value.delivery is Delivery.NOT_SENT
    assert "can't start new thread" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert names(tmp_path) == []


async def test_takes_nothing_of_ours_along(store, bank, tmp_path):
    """
    The other server gets no key, and the link is unchanged.
    """
    await bank.download(store.origin + LINK, to=str(tmp_path / "x"))

    (headers,) = store.requests
    assert headers.keys() <= {
        "host",
        "accept",
        "accept-encoding",
        "user-agent",
    }
    assert headers["accept-encoding"] == "identity"
    assert store.paths == [LINK]


async def test_through_a_proxy_that_refuses(raw_server, answer, tmp_path):
    """
    The error names a proxy that wants other credentials.
    """

    async def script(server, reader, writer):
        await server.read_request(reader)
        writer.write(answer(status="407 Proxy Authentication Required"))

    async with raw_server(script) as proxy:
        origin = URL(proxy.base_url).origin()
        async with AsyncBankConnect(
            "key",
            base_url="http://127.0.0.1:9/bank-connect",
            proxy=origin.with_user("u").with_password("canary"),
        ) as bank:
            with pytest.raises(ProxyAuthenticationError) as caught:
                await bank.download(
                    "http://127.0.0.1:9/x.pdf", to=tmp_path / "x.pdf"
                )

    assert origin.authority in str(caught.value)
    assert "canary" not in str(caught.value)
    assert proxy.connections == 1
    assert not list(tmp_path.iterdir())


async def test_over_a_borrowed_session(store, vendor, tmp_path):
    """
    The other server gets no headers or cookies of a borrowed session.
    """
    async with (
        aiohttp.ClientSession(
            headers={"Authorization": "canary"}, cookies={"a": "canary"}
        ) as session,
        AsyncBankConnect(
            "key", base_url=vendor.base_url, client_session=session
        ) as bank,
    ):
        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert not session.closed
    assert "canary" not in str(store.requests)


async def test_keeps_a_client_certificate_at_home(tls_server, tmp_path):
    """
    The other server never gets our client certificate.
    """
    shown = []

    async def answer(request):
        shown.append(request.transport.get_extra_info("peercert"))
        return web.Response(body=CONTENT)

    certificate = trustme.CA().issue_cert("us@lender.example")
    pem = tmp_path / "client.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    async with tls_server(answer) as (link, tls):
        ours = attrs.evolve(tls, cert_file=pem)
        async with AsyncBankConnect("key", tls=ours) as bank:
            for _ in range(2):
                await bank.download(link, to=tmp_path / "x")

    # A certificate of an unknown authority would even be refused.
    assert [bool(each) for each in shown] == [False, False]


class TestBreaks:
    """
    Downloads that break off
    """

    async def test_go_on_where_they_were(self, store, bank, tmp_path):
        """
        A resumed download fetches only the rest of the same file.
        """
        store.cuts = [400_000, 300_000]

        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == CONTENT
        _, second, third = store.requests
        assert second["if-range"] == third["if-range"] == '"v1"'
        starts = [
            int(each["range"].removeprefix("bytes=").removesuffix("-"))
            for each in (second, third)
        ]
        assert 0 < starts[0] <= 400_000
        assert starts[0] < starts[1] <= 700_000

    @pytest.mark.parametrize("etag", [None, 'W/"weak"'])
    async def test_begin_again_without_a_version(
        self, store, bank, tmp_path, etag
    ):
        """
        A download never joins halves of two versions.
        """
        store.cuts, store.etag = [400_000], etag

        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == CONTENT
        assert "range" not in store.requests[1]

    async def test_go_by_the_date_of_the_file(self, store, bank, tmp_path):
        """
        Without an ETag the date is the version.
        """
        store.cuts, store.etag = [400_000], None
        store.headers["Last-Modified"] = "Wed, 01 Apr 2026 06:48:44 GMT"

        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert store.requests[1]["if-range"].startswith("Wed")
        assert (tmp_path / "x").read_bytes() == CONTENT

    async def test_begin_again_if_the_file_changed(
        self, store, bank, tmp_path
    ):
        """
        A server with another version sends the whole file.
        """
        store.cuts = [400_000]

        async def change(request):
            if len(store.requests) > 1:
                store.etag, store.content = '"v2"', b"new"
            store.answer = None
            answer = await store.serve(request)
            store.answer = change
            store.requests.pop()
            return answer

        store.answer = change
        length = await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (length, (tmp_path / "x").read_bytes()) == (3, b"new")

    MISFITS: ClassVar = {
        "earlier": {"Content-Range": "bytes 0-9/{total}"},
        "later": {"Content-Range": "bytes 500000-500009/{total}"},
        "unknown total": {"Content-Range": "bytes {start}-{last}/*"},
        "another total": {"Content-Range": "bytes {start}-{last}/9999999"},
        "backwards": {"Content-Range": "bytes {start}-9/{total}"},
        "behind the end": {"Content-Range": "bytes {start}-9999999/{total}"},
        "another unit": {"Content-Range": "lines {start}-{last}/{total}"},
        "no range": {},
        "another tag": {"ETag": '"v2"'},
        "no tag": {"ETag": None},
        "weak tag": {"ETag": 'W/"v1"'},
        "compressed": {"Content-Encoding": "gzip"},
        "multipart": {"Content-Type": "multipart/byteranges; boundary=x"},
    }

    @pytest.mark.parametrize("kind", [*MISFITS, "416"])
    async def test_start_over_with_a_part_that_does_not_fit(
        self, store, bank, tmp_path, kind
    ):
        """
        A part of something else is not put in: the whole file is fetched,
        in the same attempt.
        """
        store.cuts = [400_000]

        async def misfit(request):
            wanted = request.headers.get("Range")
            if wanted is None:
                store.answer = None
                response = await store.serve(request)
                store.answer = misfit
                store.requests.pop()
                return response
            if kind == "416":
                return web.Response(status=416)
            start = int(wanted[6:-1])
            headers = {
                "Content-Range": "bytes {start}-{last}/{total}",
                "ETag": '"v1"',
                **self.MISFITS[kind],
            }
            if kind == "no range":
                del headers["Content-Range"]
            last, total = start + 9, len(CONTENT)
            return web.Response(
                status=206,
                body=b"x" * 10,
                headers={
                    name: text.format(start=start, last=last, total=total)
                    for name, text in headers.items()
                    if text is not None
                },
            )

        store.answer = misfit
        length = await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert length == len(CONTENT)
        assert (tmp_path / "x").read_bytes() == CONTENT
        assert ["range" in each for each in store.requests] == [
            False,
            True,
            False,
        ]

    async def test_start_over_with_a_part_of_another_date(
        self, store, bank, tmp_path
    ):
        """
        Without an ETag the date distinguishes versions.
        """
        store.cuts, store.etag = [400_000], None
        store.headers["Last-Modified"] = "Wed, 01 Apr 2026 06:48:44 GMT"

        async def misfit(request):
            wanted = request.headers.get("Range")
            if wanted is not None:
                total = len(CONTENT)
                return web.Response(
                    status=206,
                    body=b"x" * (total - int(wanted[6:-1])),
                    headers={
                        "Content-Range": (
                            f"bytes {wanted[6:]}{total - 1}/{total}"
                        ),
                        "Last-Modified": "Thu, 02 Apr 2026 06:48:44 GMT",
                    },
                )
            store.answer = None
            response = await store.serve(request)
            store.answer = misfit
            store.requests.pop()
            return response

        store.answer = misfit
        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == CONTENT

    @pytest.mark.parametrize("year", ["2026", "9" * 20])
    async def test_start_over_if_the_date_is_too_fresh(
        self, store, bank, tmp_path, year
    ):
        """
        A date of the same second does not identify a version, nor does one
        that cannot be read.
        """
        store.cuts, store.etag = [400_000], None
        store.headers |= dict.fromkeys(
            ("Last-Modified", "Date"), f"Wed, 01 Apr {year} 06:48:44 GMT"
        )

        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == CONTENT
        assert "range" not in store.requests[1]

    async def test_start_over_after_more_than_there_is(
        self, store, bank, tmp_path
    ):
        """
        A part longer than announced fails the download.
        """
        store.cuts = [400_000]

        async def generous(request):
            wanted = request.headers.get("Range")
            if wanted is not None:
                total = len(CONTENT)
                return web.Response(
                    status=206,
                    body=CONTENT,
                    headers={
                        "Content-Range": (
                            f"bytes {wanted[6:]}{total - 1}/{total}"
                        ),
                        "ETag": store.etag,
                    },
                )
            store.answer = None
            response = await store.serve(request)
            store.answer = generous
            store.requests.pop()
            return response

        store.answer = generous
        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == CONTENT

    @pytest.mark.parametrize("kind", ["part", "parts", "parts as a whole"])
    async def test_refuse_parts_that_were_not_asked_for(
        self, store, bank, tmp_path, kind
    ):
        """
        An unrequested part is refused.
        """
        parts = {"Content-Type": "multipart/byteranges; boundary=x"}

        async def misfit(_):
            return web.Response(
                status=200 if kind == "parts as a whole" else 206,
                body=b"xx",
                headers=parts
                if "parts" in kind
                else {"Content-Range": "bytes 0-1/2"},
            )

        store.answer = misfit
        with pytest.raises(DownloadError, match="part"):
            await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert names(tmp_path) == []

    async def test_are_measured(self, store, bank, tmp_path):
        """
        A part shorter than announced does not complete the file.
        """

        async def stingy(request):
            start = int(request.headers.get("Range", "bytes=0-")[6:-1])
            if not start:
                store.answer, store.cuts = None, [400_000]
                answer = await store.serve(request)
                store.answer = stingy
                store.requests.pop()
                return answer
            last, total = len(CONTENT) - 1, len(CONTENT)
            return web.Response(
                status=206,
                body=CONTENT[start : start + 500_000],
                headers={
                    "Content-Range": f"bytes {start}-{last}/{total}",
                    "ETag": store.etag,
                },
            )

        store.answer = stingy
        length = await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert length == len(CONTENT)
        assert (tmp_path / "x").read_bytes() == CONTENT

    async def test_give_up(self, store, bank, tmp_path):
        """
        A failed download leaves no partial file behind.
        """
        store.cuts = [10, 10, 10, 10]
        (tmp_path / "x").write_bytes(b"old")

        with pytest.raises(ConnectionLostError) as caught:
            await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert len(caught.value.attempts) == len(store.requests) == 3
        assert (tmp_path / "x").read_bytes() == b"old"
        assert names(tmp_path) == ["x"]

    async def test_the_policy_of_a_view(self, store, bank, tmp_path):
        """
        A download by a view of a client has the retry policy of the view.
        """
        store.cuts = [10, 10]
        view = bank.with_options(retry=RetryPolicy(attempts=1))

        with pytest.raises(ConnectionLostError) as caught:
            await view.download(store.origin + LINK, to=tmp_path / "x")

        assert len(caught.value.attempts) == len(store.requests) == 1

    async def test_without_a_length(self, store, bank, tmp_path):
        """
        A chunked response is complete with its last chunk.
        """

        async def chunked(request):
            if "Range" in request.headers:
                return web.Response(
                    status=206,
                    body=b"way",
                    headers={
                        "Content-Range": "bytes 4-6/7",
                        "ETag": '"v1"',
                    },
                )
            response = web.StreamResponse(headers={"ETag": '"v1"'})
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(b"half")
            await store.break_off(request)
            return response

        store.answer = chunked
        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == b"halfway"

    async def test_cancelled_leave_nothing(self, store, bank, tmp_path):
        """
        A cancelled download removes its partial file.
        """
        begun = asyncio.Event()

        async def stall(request):
            response = web.StreamResponse()
            response.content_length = 100
            await response.prepare(request)
            await response.write(b"x")
            begun.set()
            await asyncio.sleep(30)
            return response

        store.answer = stall
        going = asyncio.create_task(
            bank.download(store.origin + LINK, to=tmp_path / "x")
        )
        await begun.wait()
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going

        assert names(tmp_path) == []


class TestPlaces:
    """
    Where a file can appear
    """

    @pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "link"])
    async def test_is_no_place_of_something_else(
        self, store, bank, tmp_path, kind
    ):
        """
        A target that is not a regular file is refused.
        """
        path = tmp_path / "x"
        match kind:
            case "FIFO":
                os.mkfifo(path)
            case "socket":
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(str(path))
            case "device":
                path = Path("/dev/null")
            case "link":
                path.symlink_to("/dev/null")
        before = path.lstat()

        with pytest.raises(InvalidRequestError, match="to: is a ") as caught:
            await bank.download(store.origin + LINK, to=path)

        assert list(caught.value.fields) == ["to"]
        assert os.path.samestat(before, path.lstat())
        assert store.requests == []

    async def test_is_looked_at_once_more(self, store, bank, tmp_path):
        """
        A target that appeared during the download is not replaced.
        """
        path = tmp_path / "x"

        async def take(request):
            os.mkfifo(path)
            store.answer = None
            return await store.serve(request)

        store.answer = take
        with pytest.raises(InvalidRequestError, match="is a FIFO"):
            await bank.download(store.origin + LINK, to=path)

        assert path.is_fifo()
        assert names(tmp_path) == ["x"]

    async def test_may_have_the_longest_of_names(self, store, bank, tmp_path):
        """
        The partial file's name is not longer than the file's.
        """
        path = tmp_path / ("x" * 255)

        await bank.download(store.origin + LINK, to=path)

        assert path.read_bytes() == CONTENT

    async def test_that_vanishes_is_told(self, store, bank, tmp_path):
        """
        A folder removed during the download fails it.
        """
        folder = tmp_path / "folder"
        folder.mkdir()

        async def remove(request):
            for each in folder.iterdir():
                each.unlink()
            folder.rmdir()
            store.answer = None
            return await store.serve(request)

        store.answer = remove
        with pytest.raises(FileNotFoundError):
            await bank.download(store.origin + LINK, to=folder / "x")

        assert names(tmp_path) == []

    @pytest.mark.parametrize("place", ["a\0b", 7, None])
    async def test_that_is_no_path_is_named(self, bank, place):
        """
        The error names an impossible file name.
        """
        with pytest.raises(InvalidRequestError) as caught:
            await bank.download("https://files.example/", to=place)

        assert caught.value.fields == {"to": ("is not a path",)}


class TestRedirects:
    """
    Redirects to another server
    """

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_are_followed(self, store, bank, tmp_path, status):
        """
        The other server gets the exact address and none of our headers.
        """
        target = "/other%2Fx?X-Signature=canary%2Fcanary&b=%7E"

        async def redirect(_):
            store.answer = None
            return web.Response(
                status=status,
                headers={"Location": target, "Set-Cookie": "a=canary"},
            )

        store.answer = redirect
        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == CONTENT
        assert store.paths == [LINK, target]
        assert store.requests[1].keys() <= {
            "host",
            "accept",
            "accept-encoding",
            "user-agent",
        }

    @pytest.mark.parametrize("count", [5, 6])
    async def test_are_followed_five_times(self, store, bank, tmp_path, count):
        """
        Five redirects are followed; six fail without a retry.
        """

        async def redirect(_):
            if len(store.requests) == count:
                store.answer = None
            return web.Response(status=302, headers={"Location": "?canary"})

        store.answer = redirect
        if count == 5:
            await bank.download(store.origin + LINK, to=tmp_path / "x")
        else:
            with pytest.raises(DownloadError, match="more than 5 times"):
                await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert len(store.requests) == 6

    async def test_are_not_read(self, store, bank, tmp_path):
        """
        The body of a redirect may be endless.
        """
        over = asyncio.Event()

        async def redirect(request):
            store.answer = None
            response = web.StreamResponse(
                status=302, headers={"Location": "/other"}
            )
            await response.prepare(request)
            with suppress(ConnectionError):
                while not over.is_set():
                    await response.write(bytes(100_000))
            return response

        store.answer = redirect
        try:
            await asyncio.wait_for(
                bank.download(store.origin + LINK, to=tmp_path / "x"), 10
            )
        finally:
            over.set()

        assert (tmp_path / "x").read_bytes() == CONTENT

    async def test_are_followed_again_to_the_rest(self, store, bank, tmp_path):
        """
        A download behind a redirect resumes through the redirect.
        """
        store.cuts = [400_000]

        async def redirect(request):
            if request.path == "/other":
                store.answer = None
                response = await store.serve(request)
                store.answer = redirect
                store.requests.pop()
                return response
            return web.Response(status=302, headers={"Location": "/other"})

        store.answer = redirect
        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == CONTENT
        assert len(store.requests) == 4
        assert "range" in store.requests[3]

    @pytest.mark.parametrize(
        "target",
        [
            "http://files.example/canary",
            "ftp://files.example/canary",
            "file:///etc/passwd?canary",
            "https://user:canary@files.example/",
            "https://[::::]/canary",
            "https://[canary/",
            "https://xn--0.example/canary",
            "//files.example:0x50/canary",
            f"https://{'canary' * 20}.example/",
        ],
    )
    async def test_lead_to_https_only(self, store, bank, tmp_path, target):
        """
        Redirects to other schemes are neither followed nor shown.
        """

        async def redirect(_):
            return web.Response(status=302, headers={"Location": target})

        store.answer = redirect
        error = await attempt(
            bank, store, tmp_path / "x", 10**9, DownloadError
        )

        assert "redirected" in str(error) or "address" in str(error)
        assert "canary" not in with_locals(error)
        assert len(store.requests) == 1
        assert names(tmp_path) == []

    async def test_lead_not_from_elsewhere_to_this_machine(
        self, store, tls_server, tmp_path
    ):
        """
        A production client asks no plain server of its own machine for
        anything, not even where a link elsewhere leads there.
        """

        async def redirect(_):
            return web.Response(
                status=302, headers={"Location": store.origin + LINK}
            )

        async with (
            tls_server(redirect) as (link, tls),
            AsyncBankConnect("key", tls=tls) as bank,
        ):
            with pytest.raises(DownloadError, match="not an https"):
                await bank.download(link, to=tmp_path / "x")
            with pytest.raises(InvalidRequestError) as caught:
                await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert caught.value.fields == {"link": ("is not an https URL",)}
        assert store.requests == []


@pytest.fixture(name="tls_server")
def _tls_server(tmp_path_factory):
    """Serve a handler over TLS; gives a link, and what trusts the server."""
    authority = trustme.CA()
    folder = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))

    @asynccontextmanager
    async def serve(handler):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        # It asks for a certificate, and does without.
        context.verify_mode = ssl.CERT_OPTIONAL
        authority.configure_trust(context)
        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        try:
            yield (
                f"https://localhost:{port}/x?canary",
                TLS(ca_file=folder / "ca.pem"),
            )
        finally:
            await runner.cleanup()

    return serve


class TestCompression:
    """
    Files that are stored and sent compressed
    """

    TEXT: ClassVar = b"date,amount\n" * 100_000

    @pytest.mark.parametrize(
        ("encoding", "compress"),
        [
            ("gzip", gzip.compress),
            ("X-GZIP", gzip.compress),
            ("deflate", zlib.compress),
            ("gzip", lambda text: gzip.compress(text) + bytes(100)),
            (
                "gzip",
                lambda text: gzip.compress(text[:9]) + gzip.compress(text[9:]),
            ),
        ],
    )
    async def test_is_undone(self, store, bank, tmp_path, encoding, compress):
        """
        The downloaded file is decompressed.
        """
        store.headers["Content-Encoding"] = encoding
        store.content = compress(self.TEXT)

        length = await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert length == len(self.TEXT)
        assert (tmp_path / "x").read_bytes() == self.TEXT

    async def test_is_fetched_from_its_beginning(self, store, bank, tmp_path):
        """
        An interrupted compressed download starts over.
        """
        store.headers["Content-Encoding"] = "gzip"
        store.content = gzip.compress(os.urandom(1_000_000))
        store.cuts = [400_000]

        length = await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert length == 1_000_000
        assert len(store.requests) == 2
        assert "range" not in store.requests[1]

    async def test_is_bounded(self, store, bank, tmp_path):
        """
        A decompression bomb stops at the size limit.
        """
        store.headers["Content-Encoding"] = "gzip"
        store.content = gzip.compress(bytes(10_000_000))

        with pytest.raises(DownloadError, match="longer than 1000000 bytes"):
            await bank.download(
                store.origin + LINK, to=tmp_path / "x", max_bytes=1_000_000
            )

        assert names(tmp_path) == []

    async def test_is_bounded_while_nothing_comes_of_it(
        self, store, bank, tmp_path
    ):
        """
        An endless series of empty gzip members ends at the limit.
        """
        over = asyncio.Event()

        async def endless(request):
            response = web.StreamResponse(headers={"Content-Encoding": "gzip"})
            await response.prepare(request)
            while not over.is_set():
                await response.write(gzip.compress(b"") * 5000)
            return response

        store.answer = endless
        try:
            with pytest.raises(DownloadError, match="longer than 1000 bytes"):
                await asyncio.wait_for(
                    bank.download(
                        store.origin + LINK, to=tmp_path / "x", max_bytes=1000
                    ),
                    10,
                )
        finally:
            over.set()

    async def test_may_be_longer_than_the_file(self, store, bank, tmp_path):
        """
        Incompressible data may be a little longer, up to the limit.
        """
        content = os.urandom(300_000)
        store.headers["Content-Encoding"] = "gzip"
        store.content = gzip.compress(content)
        assert len(store.content) > len(content)

        await bank.download(
            store.origin + LINK, to=tmp_path / "x", max_bytes=len(content)
        )

        assert (tmp_path / "x").read_bytes() == content

    @pytest.mark.parametrize("keep", [-1, 10, 0])
    async def test_that_is_cut_is_not_whole(self, store, bank, tmp_path, keep):
        """
        A missing end is noticed even if the length is right.
        """
        store.headers["Content-Encoding"] = "gzip"
        store.content = gzip.compress(self.TEXT)[:keep]

        with pytest.raises(ConnectionLostError, match="broke off"):
            await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert len(store.requests) == 3
        assert names(tmp_path) == []

    @pytest.mark.parametrize(
        ("encoding", "content"),
        [
            ("gzip", b"not compressed"),
            ("gzip", gzip.compress(b"x") + b"behind it"),
            ("br", b"compressed"),
            ("gzip, gzip", gzip.compress(gzip.compress(b"x"))),
        ],
        # A compressed text holds the time at which it was made.
        ids=["not gzip", "bytes behind", "br", "twice"],
    )
    async def test_that_is_unknown_is_refused(
        self, store, bank, tmp_path, encoding, content
    ):
        """
        A file in an unknown encoding is refused.
        """
        store.headers["Content-Encoding"] = encoding
        store.content = content

        with pytest.raises(DownloadError, match="compressed"):
            await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert len(store.requests) == 1
        assert names(tmp_path) == []


class TestRefusals:
    """
    Downloads that the server or the client refuses
    """

    STATUSES: ClassVar = {
        403: (NotFoundError, 1),
        404: (NotFoundError, 1),
        410: (NotFoundError, 1),
        400: (BadRequestError, 1),
        300: (BadRequestError, 1),
        304: (BadRequestError, 1),
        204: (BadRequestError, 1),
        416: (BadRequestError, 1),
        429: (RateLimitError, 3),
        500: (ServerError, 3),
        503: (ServerError, 3),
    }

    @pytest.mark.parametrize("status", STATUSES)
    async def test_of_each_status(self, store, bank, tmp_path, status):
        """
        Temporary failures are retried, and no body is quoted.
        """

        async def refuse(_):
            return web.Response(
                status=status,
                text="canary" if status not in {204, 304} else None,
                headers={"Location": f"{store.origin}/elsewhere"},
            )

        store.answer = refuse
        cls, sent = self.STATUSES[status]
        with pytest.raises(cls) as caught:
            await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert caught.value.status == status
        assert store.paths == [LINK] * sent
        assert "canary" not in f"{caught.value!r} {vars(caught.value)}"
        assert names(tmp_path) == []

    @pytest.mark.parametrize("known", [True, False])
    async def test_of_what_is_too_long(self, store, bank, tmp_path, known):
        """
        A file above the limit is not kept, announced or not.
        """

        async def chunked(request):
            response = web.StreamResponse()
            if known:
                response.content_length = len(CONTENT)
            await response.prepare(request)
            await response.write(CONTENT)
            return response

        store.answer = chunked
        with pytest.raises(DownloadError, match="longer than 1000 bytes"):
            await bank.download(
                store.origin + LINK, to=tmp_path / "x", max_bytes=1000
            )

        assert len(store.requests) == 1
        assert names(tmp_path) == []

    @pytest.mark.parametrize(
        "link",
        [
            "http://files.example/x?canary",
            "ftp://files.example/canary",
            "file:///etc/passwd?canary",
            "/x?canary",
            "",
            "https://user:canary@files.example/x",
            "https://files.example\\@evil.example/canary",
        ],
    )
    async def test_of_other_schemes(self, bank, tmp_path, link):
        """
        A link must be https or on loopback.
        """
        with pytest.raises(InvalidRequestError) as caught:
            await bank.download(link, to=tmp_path / "x")

        assert list(caught.value.fields) == ["link"]
        assert "canary" not in str(caught.value)
        assert names(tmp_path) == []

    @pytest.mark.parametrize("host", ["[...]", "xn--", "[1:2]"])
    async def test_of_hosts_that_are_none(self, bank, tmp_path, host):
        """
        An unparsable link is refused without being shown.
        """
        with pytest.raises(InvalidRequestError) as caught:
            await bank.download(
                f"https://{host}/x?sig=canary", to=tmp_path / "x"
            )

        shown = traceback.TracebackException.from_exception(
            caught.value.with_traceback(caught.tb.tb_next),
            capture_locals=True,
        )
        assert list(caught.value.fields) == ["link"]
        assert "canary" not in "".join(shown.format())
        assert names(tmp_path) == []

    @pytest.mark.parametrize("bound", [0, -1, 1.5, "1", True])
    async def test_of_bounds_that_are_none(self, bank, tmp_path, bound):
        """
        `max_bytes` must be a whole number.
        """
        with pytest.raises(ConfigurationError):
            await bank.download(
                "https://files.example/", to=tmp_path / "x", max_bytes=bound
            )

    @pytest.mark.parametrize("place", [".", "..", "/", ""])
    async def test_of_folders(self, store, bank, tmp_path, place):
        """
        A folder as target is refused before the request.
        """
        with pytest.raises(InvalidRequestError) as caught:
            await bank.download(store.origin + LINK, to=place or tmp_path)

        assert list(caught.value.fields) == ["to"]
        assert store.requests == []

    async def test_of_a_place_that_is_none(self, store, bank, tmp_path):
        """
        An unwritable target is refused before the request.
        """
        with pytest.raises(FileNotFoundError):
            await bank.download(
                store.origin + LINK, to=tmp_path / "nowhere" / "x"
            )

        assert store.requests == []


@pytest.fixture(name="break_disk")
def _break_disk(monkeypatch):
    """Make a step of writing the file fail."""

    def break_disk(step, number):
        def fail(*_):
            raise OSError(number, "Disk trouble")

        monkeypatch.setattr(PartFile, step, fail)

    return break_disk


@pytest.mark.parametrize(
    "trouble",
    [*itertools.product(["append", "restart", "commit"], [28, 104])],
)
async def test_a_full_disk_is_told(store, bank, tmp_path, break_disk, trouble):
    """
    The system's errors about the file are not taken for the network's, even
    where a disk far away uses the network's words.
    """
    break_disk(*trouble)

    error = await attempt(bank, store, tmp_path / "x", 10**9, OSError)

    assert error.errno == trouble[1]
    assert not isinstance(error, BankConnectError)
    assert len(store.requests) == 1
    assert names(tmp_path) == []
    assert "canary" not in with_locals(error)


async def test_a_file_above_the_limit_of_the_system_is_told(
    store, bank, tmp_path
):
    """
    A write error in the middle leaves no part of the file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            await bank.download(store.origin + LINK, to=tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert names(tmp_path) == []


def with_locals(error):
    """Format a traceback as tools for errors do, with all locals."""
    return "".join(
        traceback.TracebackException.from_exception(
            error, capture_locals=True
        ).format()
    )


@pytest.mark.parametrize("way", ["status", "cut", "long"])
async def test_links_show_nowhere(store, bank, tmp_path, way):
    """
    No error shows the link, even in a traceback with locals.
    """
    if way == "status":

        async def refuse(_):
            return web.Response(status=500)

        store.answer = refuse
    if way == "cut":
        store.cuts = [10] * 3
    error = await attempt(
        bank, store, tmp_path / "x", 1000 if way == "long" else 10**9
    )

    shown = with_locals(error)
    assert "_once" in shown
    assert "canary" not in shown


async def attempt(bank, store, path, max_bytes, cls=BankConnectError):
    """Download outside every frame that holds the link."""
    try:
        await bank.download(store.origin + LINK, to=path, max_bytes=max_bytes)
    except cls as error:
        return error
    raise AssertionError("it went well")


async def test_a_closed_client(store, vendor, tmp_path):
    """
    A closed client refuses downloads, and closing ends running ones.
    """
    begun = asyncio.Event()

    async def stall(request):
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(request)
        await response.write(b"x")
        begun.set()
        await asyncio.sleep(30)
        return response

    store.answer = stall
    bank = AsyncBankConnect("key", base_url=vendor.base_url)
    going = asyncio.create_task(
        bank.download(store.origin + LINK, to=tmp_path / "x")
    )
    await begun.wait()
    await bank.aclose()

    with pytest.raises(BankConnectError):
        await going
    with pytest.raises(ClientClosedError):
        await bank.download(store.origin + LINK, to=tmp_path / "x")
    assert names(tmp_path) == []


async def test_links_show_not_even_in_a_cancel(store, bank, tmp_path):
    """
    The caller's timeout has the cancelled download as its cause.
    """
    over = asyncio.Event()

    async def stall(request):
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(request)
        await response.write(b"x")
        await over.wait()
        return response

    async def limited():
        async with asyncio.timeout(0.1):
            await bank.download(store.origin + LINK, to=tmp_path / "x")

    store.answer = stall
    with pytest.raises(TimeoutError) as caught:
        await limited()
    over.set()

    shown = with_locals(caught.value)
    assert "CancelledError" in shown
    assert "canary" not in shown


ABANDON = """
import asyncio, gc, sys
from pathlib import Path
from bankconnect_async import AsyncBankConnect

async def begin(origin, path):
    bank = AsyncBankConnect("key", base_url=f"{origin}/bank-connect")
    task = asyncio.create_task(bank.download(f"{origin}/x", to=path))
    while not list(path.parent.iterdir()):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    return task

folder = Path(sys.argv[2])
loop = asyncio.new_event_loop()
task = loop.run_until_complete(begin(sys.argv[1], folder / "x"))
print(len(list(folder.iterdir())))
loop.close()
del task
gc.collect()
print(len(list(folder.iterdir())))
"""


async def test_a_loop_that_is_closed_leaves_no_part(store, tmp_path):
    """
    A closed loop removes the partial file all the same.
    """
    over = asyncio.Event()

    async def stall(request):
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(request)
        await response.write(b"x")
        await over.wait()
        return response

    store.answer = stall
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        ABANDON,
        store.origin,
        tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    over.set()

    assert (process.returncode, out.split()) == (0, [b"1", b"0"]), err


async def test_slow_bytes_do_not_stretch_the_deadline(store, bank, tmp_path):
    """
    The deadline covers the whole download, even of a slow drip.
    """
    over = asyncio.Event()

    async def drip(request):
        response = web.StreamResponse()
        response.content_length = 10_000
        await response.prepare(request)
        while not over.is_set():
            await response.write(b"x")
            await asyncio.sleep(0.02)
        return response

    store.answer = drip
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with pytest.raises(RequestTimeoutError, match="in time"):
            await asyncio.wait_for(
                bank.download(
                    store.origin + LINK, to=tmp_path / "x", deadline=0.2
                ),
                10,
            )
    finally:
        over.set()

    assert loop.time() - began < 5
    assert names(tmp_path) == []


@pytest.mark.parametrize("deadline", [0, -1, "3", None, True, float("nan")])
async def test_a_deadline_is_a_number_of_seconds(bank, tmp_path, deadline):
    """
    The error names a bad deadline.
    """
    with pytest.raises(ConfigurationError) as caught:
        await bank.download(
            "https://files.example/", to=tmp_path / "x", deadline=deadline
        )

    assert list(caught.value.fields) == ["deadline"]


async def test_silence_ends(store, vendor, clock, tmp_path):
    """
    The read timeout ends a download from a silent server.
    """
    over = asyncio.Event()

    async def stall(request):
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(request)
        await response.write(b"x")
        await over.wait()
        return response

    store.answer = stall
    async with AsyncBankConnect(
        "key",
        base_url=vendor.base_url,
        timeouts=Timeouts(read=0.1),
        retry=RetryPolicy(attempts=1),
        clock=clock,
    ) as bank:
        with pytest.raises(BankConnectError, match="in time"):
            await bank.download(store.origin + LINK, to=tmp_path / "x")
    over.set()
