"""
Downloads and uploads that are cancelled wherever they are.
"""

import asyncio
import os

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from aiohttp import web

from bankconnect_async import AsyncBankConnect


CONTENT = bytes(range(256)) * 4096
FOREIGN = b"a file of the application's"
# What a thread does at each step differs from time to time.
CANCELS = 100


class Watched(ThreadPoolExecutor):
    """
    Threads that can be asked whether they are at work.
    """

    def __init__(self):
        super().__init__(4)
        self.futures = []

    def submit(self, *args, **kwargs):
        self.futures = [each for each in self.futures if not each.done()]
        self.futures.append(super().submit(*args, **kwargs))
        return self.futures[-1]

    @property
    def is_idle(self):
        # What waits for a thread and was called off is nothing to wait for.
        return not any(each.running() for each in self.futures)


@pytest.fixture(name="threads")
async def _threads():
    """The threads of the loop."""
    threads = Watched()
    asyncio.get_running_loop().set_default_executor(threads)
    return threads


def open_below(folder):
    """Name the files of a folder that this process has open."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            name = str(each.readlink())
        except FileNotFoundError:
            continue  # that of the listing itself
        if name.startswith(str(folder)):
            found.append(name)
    return found


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """The folder of what is downloaded and uploaded."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture(name="check")
def _check(threads, folder, tmp_path):
    """Check that nothing goes on, and that nothing foreign was touched."""
    foreign = tmp_path / "foreign"

    async def check():
        # It gets the numbers of the descriptors that were closed last.
        foreign.write_bytes(FOREIGN)
        fds = [os.open(foreign, os.O_RDWR) for _ in range(3)]
        try:
            assert threads.is_idle
            assert open_below(folder) == []
            await asyncio.sleep(0)
            assert threads.is_idle
            for fd in fds:
                assert os.lseek(fd, 0, os.SEEK_CUR) == 0
                assert os.pread(fd, 100, 0) == FOREIGN
        finally:
            for fd in fds:
                os.close(fd)

    return check


async def test_downloads_leave_nothing(
    serve, bank, folder, check, cancel_at_every_step
):
    """
    At no step is a part, a descriptor or a thread left, and what stands at
    the file's place is whole.
    """
    path = folder / "x"
    old = b"old"

    async def answer(_):
        return web.Response(body=CONTENT)

    async def check_all():
        await check()
        assert [each.name for each in folder.iterdir()] == ["x"]
        assert path.read_bytes() in {old, CONTENT}
        path.write_bytes(old)

    path.write_bytes(old)
    async with serve(answer) as origin:
        cancelled = 0
        while cancelled < CANCELS:
            cancelled += await cancel_at_every_step(
                lambda: bank.download(f"{origin}/x", to=path), check_all
            )


@pytest.fixture(name="upload")
async def _upload(serve):
    """Upload into a session at a server that is used to being left."""

    async def answer(request):
        with suppress(ConnectionError):
            await request.read()
        return web.Response(body=b'{"statement_id": "s"}')

    async with (
        serve(answer) as origin,
        AsyncBankConnect("key", base_url=f"{origin}/bank-connect") as bank,
    ):
        yield bank.session("s").upload


@pytest.mark.parametrize("kind", ["path", "file", "raw file", "FIFO"])
async def test_uploads_leave_nothing(
    upload, folder, check, cancel_at_every_step, kind
):
    """
    At no step does a descriptor or a thread stay, and nobody reads a file
    of the caller's any more.
    """
    path = folder / "x.pdf"
    path.write_bytes(CONTENT)
    fifo = folder / "fifo"
    os.mkfifo(fifo)

    async def work():
        if kind == "path":
            await upload(path)
        elif kind == "FIFO":
            fd = os.open(fifo, os.O_RDWR)
            with fifo.open("rb") as file:
                os.write(fd, CONTENT[:1000])
                os.close(fd)
                await upload(file)
        else:
            with path.open("rb", 0 if kind == "raw file" else -1) as file:
                await upload(file)

    cancelled = 0
    while cancelled < CANCELS:
        cancelled += await cancel_at_every_step(work, check, turns=range(200))
