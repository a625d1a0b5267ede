"""
Downloads and uploads that are cancelled at any step.
"""

import asyncio
import os
import sys
import threading

from contextlib import suppress
from pathlib import Path

import pytest

from aiohttp import web

import bankconnect_async

from bankconnect_async import AsyncBankConnect


CONTENT = bytes(range(256)) * 4096
FOREIGN = b"a file of the application's"
PACKAGE = str(Path(bankconnect_async.__file__).parent)
# What a thread does at each step differs from time to time.
CANCELS = 100


def at_work():
    """Name the functions of the package that other threads run."""
    found = []
    for thread, frame in sys._current_frames().items():
        each = frame if thread != threading.get_ident() else None
        while each is not None:
            # What began too late, or has told its result, does nothing.
            if PACKAGE in each.f_code.co_filename and (
                each.f_code.co_name != "_begin"
            ):
                found.append(each.f_code.co_qualname)
            each = each.f_back
    return found


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
    """The folder of the downloaded and uploaded files."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture(name="check")
def _check(folder, tmp_path):
    """Check that no work remains and no other file was touched."""
    foreign = tmp_path / "foreign"

    async def check():
        # It gets the numbers of the descriptors that were closed last.
        foreign.write_bytes(FOREIGN)
        fds = [os.open(foreign, os.O_RDWR) for _ in range(3)]
        try:
            assert at_work() == []
            assert open_below(folder) == []
            await asyncio.sleep(0)
            assert at_work() == []
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
    """Upload into a session at a server that expects disconnects."""

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
