"""
Files behind pre-signed links: whole, once, and for their owner only.
"""

import asyncio
import stat
import traceback

from typing import ClassVar

import aiohttp
import pytest

from aiohttp import web

from bankconnect_async import (
    AsyncBankConnect,
    BankConnectError,
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    DownloadError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    RetryPolicy,
    ServerFaultError,
    Timeouts,
)


CONTENT = bytes(range(256)) * 4096
LINK = "/x.pdf?X-Signature=canary%2Fcanary&b=%7E"


class Store:
    """
    A server of files that breaks off as told.

    Attributes:
        requests: Headers of all that came, names in lower case.
        paths: What they asked for, as they wrote it.
        cut: After so many bytes each answer breaks off; `None`: never.
        etag: Of the file; `None` for none.
        ranges: Whether it can give a part.
    """

    def __init__(self):
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
            # What was written has to get there before the end does.
            await asyncio.sleep(0.02)
            request.transport.close()
        return response


def names(folder):
    """List what is in a folder, hidden files too."""
    return [each.name for each in folder.iterdir()]


@pytest.fixture(name="store")
async def _store(serve):
    """The server of files; `origin` is where."""
    store = Store()
    async with serve(store.serve) as origin:
        store.origin = origin
        yield store


async def test_gets_a_file(store, bank, tmp_path):
    """
    The file is there, for its owner only, and its length is told.
    """
    path = tmp_path / "x.pdf"
    path.write_bytes(b"old")

    length = await bank.download(store.origin + LINK, to=path)

    assert length == len(CONTENT)
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["x.pdf"]


async def test_takes_nothing_of_ours_along(store, bank, tmp_path):
    """
    No key goes to the other server, and the link arrives as it was.
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


async def test_over_a_borrowed_session(store, vendor, tmp_path):
    """
    Nor do default headers and cookies of a borrowed session.
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


class TestBreaks:
    """
    Downloads that break off
    """

    async def test_go_on_where_they_were(self, store, bank, tmp_path):
        """
        What is there is not fetched again, as long as the file is the same.
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
    async def test_begin_anew_without_a_version(
        self, store, bank, tmp_path, etag
    ):
        """
        Halves of two versions must not meet.
        """
        store.cuts, store.etag = [400_000], etag

        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == CONTENT
        assert "range" not in store.requests[1]

    async def test_go_by_the_date_of_the_file(self, store, bank, tmp_path):
        """
        Without a tag, its date is its version.
        """
        store.cuts, store.etag = [400_000], None
        store.headers["Last-Modified"] = "Wed, 01 Apr 2026 06:48:44 GMT"

        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert store.requests[1]["if-range"].startswith("Wed")
        assert (tmp_path / "x").read_bytes() == CONTENT

    async def test_begin_anew_if_the_file_changed(self, store, bank, tmp_path):
        """
        A server with another version sends it whole.
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

    @pytest.mark.parametrize(
        "content_range",
        ["bytes 1-2/3", "bytes 0-1/1048576", "bytes */3", "", "x"],
    )
    async def test_refuse_a_part_that_does_not_fit(
        self, store, bank, tmp_path, content_range
    ):
        """
        What was not asked for is not put in.
        """
        store.cuts = [400_000]

        async def misfit(request):
            if len(store.requests) == 1:
                store.answer = None
                answer = await store.serve(request)
                store.requests.pop()
                store.answer = misfit
                return answer
            return web.Response(
                status=206,
                body=b"xx",
                headers={"Content-Range": content_range},
            )

        store.answer = misfit
        with pytest.raises(DownloadError):
            await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert names(tmp_path) == []

    async def test_are_measured(self, store, bank, tmp_path):
        """
        A part that is shorter than it says is not the end of the file.
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
                headers={"Content-Range": f"bytes {start}-{last}/{total}"},
            )

        store.answer = stingy
        length = await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert length == len(CONTENT)
        assert (tmp_path / "x").read_bytes() == CONTENT

    async def test_give_up(self, store, bank, tmp_path):
        """
        After its attempts nothing is left behind, not even a part.
        """
        store.cuts = [10, 10, 10, 10]
        (tmp_path / "x").write_bytes(b"old")

        with pytest.raises(ConnectionLostError) as caught:
            await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert len(caught.value.attempts) == len(store.requests) == 3
        assert (tmp_path / "x").read_bytes() == b"old"
        assert names(tmp_path) == ["x"]

    async def test_without_a_length(self, store, bank, tmp_path):
        """
        A chunked answer is whole when its last chunk came.
        """

        async def chunked(request):
            if "Range" in request.headers:
                return web.Response(
                    status=206,
                    body=b"way",
                    headers={"Content-Range": "bytes 4-6/7"},
                )
            response = web.StreamResponse(headers={"ETag": '"v1"'})
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(b"half")
            await asyncio.sleep(0.02)
            request.transport.close()
            return response

        store.answer = chunked
        await bank.download(store.origin + LINK, to=tmp_path / "x")

        assert (tmp_path / "x").read_bytes() == b"halfway"

    async def test_cancelled_leave_nothing(self, store, bank, tmp_path):
        """
        A download that nobody wants any more takes its part along.
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


class TestRefusals:
    """
    Downloads that the server refuses, or we do
    """

    STATUSES: ClassVar = {
        403: (NotFoundError, 1),
        404: (NotFoundError, 1),
        410: (NotFoundError, 1),
        400: (RejectedError, 1),
        302: (RejectedError, 1),
        307: (RejectedError, 1),
        204: (RejectedError, 1),
        416: (RejectedError, 1),
        429: (RateLimitedError, 3),
        500: (ServerFaultError, 3),
        503: (ServerFaultError, 3),
    }

    @pytest.mark.parametrize("status", STATUSES)
    async def test_of_each_status(self, store, bank, tmp_path, status):
        """
        What can pass is tried again; redirects are never followed.
        """

        async def refuse(_):
            return web.Response(
                status=status,
                text="canary" if status != 204 else None,
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
        A file above the bound is not kept, whether it says so or not.
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

    async def test_of_what_was_compressed(self, store, bank, tmp_path):
        """
        Asked for the file itself, a server has to send that.
        """
        store.headers["Content-Encoding"] = "gzip"

        with pytest.raises(DownloadError, match="compressed"):
            await bank.download(store.origin + LINK, to=tmp_path / "x")

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
        A link is https, or of this machine; nothing else is opened.
        """
        with pytest.raises(InvalidRequestError) as caught:
            await bank.download(link, to=tmp_path / "x")

        assert list(caught.value.fields) == ["link"]
        assert "canary" not in str(caught.value)
        assert names(tmp_path) == []

    @pytest.mark.parametrize("host", ["[...]", "xn--", "[1:2]"])
    async def test_of_hosts_that_are_none(self, bank, tmp_path, host):
        """
        A link that no parser reads is refused without being shown.
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
        A bound is a whole number.
        """
        with pytest.raises(ConfigurationError):
            await bank.download(
                "https://files.example/", to=tmp_path / "x", max_bytes=bound
            )

    @pytest.mark.parametrize("place", [".", "..", "/", ""])
    async def test_of_folders(self, store, bank, tmp_path, place):
        """
        A folder is told from a file before anything is asked for.
        """
        with pytest.raises(InvalidRequestError) as caught:
            await bank.download(store.origin + LINK, to=place or tmp_path)

        assert list(caught.value.fields) == ["to"]
        assert store.requests == []

    async def test_of_a_place_that_is_none(self, store, bank, tmp_path):
        """
        Where nothing can be written, nothing is asked for.
        """
        with pytest.raises(FileNotFoundError):
            await bank.download(
                store.origin + LINK, to=tmp_path / "nowhere" / "x"
            )

        assert store.requests == []


async def test_a_full_disk_is_told(store, bank, tmp_path, monkeypatch):
    """
    What the system says about the file is not taken for the network's.
    """

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bankconnect_async._download._settle", fail)

    with pytest.raises(OSError, match="No space") as caught:
        await bank.download(store.origin + LINK, to=tmp_path / "x")

    assert not isinstance(caught.value, BankConnectError)
    assert names(tmp_path) == []


@pytest.mark.parametrize("way", ["status", "cut", "long"])
async def test_links_show_nowhere(store, bank, tmp_path, way):
    """
    No error shows the link, not even in a traceback's locals.
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

    shown = "".join(
        traceback.TracebackException.from_exception(
            error, capture_locals=True
        ).format()
    )
    assert "_once" in shown
    assert "canary" not in shown


async def attempt(bank, store, path, max_bytes):
    """Download away from all locals that hold the link."""
    try:
        await bank.download(store.origin + LINK, to=path, max_bytes=max_bytes)
    except BankConnectError as error:
        return error
    raise AssertionError("it went well")


async def test_a_closed_client(store, vendor, tmp_path):
    """
    A client that is closed gets nothing any more, and closing ends what it
    gets.
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


async def test_silence_ends(store, vendor, clock, tmp_path):
    """
    A server that says nothing more is left after the read limit.
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
