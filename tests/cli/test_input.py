"""
Files and pipes as the input of a batch.
"""

import asyncio
import gzip
import io
import os
import threading

import pytest

from bankconnect_async.cli.input import sources as _input
from bankconnect_async.cli.input.row_reader import RowReader
from bankconnect_async.cli.input.rows import InputFileError, UntrustedRowsError
from bankconnect_async.cli.input.sources import open_input


@pytest.fixture(name="file")
def _file(tmp_path):
    """
    Open a file of three lines, the last one without an end.
    """
    path = tmp_path / "links.csv"
    path.write_bytes(b"a\nb\nc")
    source = open_input(str(path))
    yield source
    source.close()
    assert source.stream.closed


@pytest.fixture(name="pipe")
def _pipe():
    """
    Open a pipe, and return its write end, too.
    """
    reader, writer = os.pipe()
    source = open_input(f"/dev/fd/{reader}")
    os.close(reader)
    return source, writer


def test_counts_lines(file):
    """
    Counting the lines of a file does not move its position.
    """
    assert file.count_lines() == 3
    assert file.stream.readline() == b"a\n"
    assert file.count_lines() == 3
    assert file.stream.read() == b"b\nc"


def test_second_reading(tmp_path, monkeypatch):
    """
    The second reader of stdin starts where stdin stood at first.
    """
    path = tmp_path / "links.csv"
    path.write_bytes(b"title\na\nb\n")
    with path.open("rb", buffering=0) as stdin:
        assert stdin.readline() == b"title\n"
        opened = io.FileIO(stdin.fileno(), closefd=False)
        monkeypatch.setattr(_input, "_open_stdin", lambda: opened)
        source = open_input("-")

        assert source.count_lines() == 2
        with source.reopen() as second:
            assert second.read() == b"a\nb\n"
        assert source.stream.read() == b"a\nb\n"


def test_cannot_read_twice(pipe):
    """
    A pipe cannot be reopened.
    """
    source, writer = pipe
    os.close(writer)

    assert source.reopen() is None
    source.close()


async def test_untrusted_rows_of_a_pipe(pipe):
    """
    Rows in memory are dropped when a later row shows that they cannot be
    trusted.
    """
    source, writer = pipe
    os.close(writer)
    before = threading.enumerate()
    is_begun = threading.Event()

    def rows():
        yield from range(64)
        is_begun.wait(20)
        raise UntrustedRowsError("stdin: line 65: ...")

    got = []
    with pytest.raises(UntrustedRowsError):
        async for row in RowReader(rows(), source):
            got.append(row)
            if not is_begun.is_set():
                (reader,) = set(threading.enumerate()) - {*before}
                is_begun.set()
                reader.join(20)

    assert got == [0]


def test_cannot_count(file, monkeypatch):
    """
    Lines are not counted on systems without positioned reads.
    """
    monkeypatch.delattr(os, "pread")
    assert file.count_lines() is None


class TestGzip:
    """
    Files that are compressed with gzip.
    """

    LINES = b"".join(b"%d\n" % number for number in range(20_000))

    @pytest.fixture(name="open_packed")
    def _open_packed(self, tmp_path):
        """Open bytes as a file whose name says nothing about them."""
        opened = []

        def open_bytes(data):
            path = tmp_path / "links"
            path.write_bytes(data)
            opened.append(open_input(str(path)))
            return opened[-1]

        yield open_bytes
        for source in opened:
            source.close()

    def test_unpacked(self, open_packed):
        """
        A file of one or two gzip members is decompressed and counted.
        """
        half = len(self.LINES) // 2
        source = open_packed(
            gzip.compress(self.LINES[:half]) + gzip.compress(self.LINES[half:])
        )

        assert source.count_lines() == 20_000
        assert source.stream.read() == self.LINES

    @pytest.mark.parametrize(
        ("spoil", "problem"),
        [
            (lambda data: data[:-9], "its gzip data is cut off"),
            (lambda data: data[:1000] + b"x" * 9, "its gzip data is damaged"),
            (lambda data: data + b"x" * 9, "its gzip data is damaged"),
        ],
        ids=["cut", "damaged", "trailing"],
    )
    def test_damaged(self, open_packed, spoil, problem):
        """
        A damaged gzip file is an error when its rows are read.
        """
        source = open_packed(spoil(gzip.compress(self.LINES)))

        assert source.count_lines() is None
        with pytest.raises(OSError, match=problem):
            source.stream.read()

    def test_pipe(self, pipe):
        """
        A pipe may be compressed, too.
        """
        source, writer = pipe
        os.write(writer, gzip.compress(b"a\nb\n"))
        os.close(writer)

        assert source.stream.readline() == b"a\n"
        assert source.stream.read() == b"b\n"
        source.close()


def test_no_permission(tmp_path, unprivileged):
    """
    A file without read permission is an error that begins with its name.
    """
    path = tmp_path / "links.csv"
    path.write_bytes(b"link_id\na\n")
    path.chmod(0o200)
    with (
        unprivileged(),
        pytest.raises(InputFileError, match="cannot be read: Permission"),
    ):
        open_input(str(path))


def test_pipe_is_not_counted(pipe):
    """
    The lines of a pipe are not counted.
    """
    source, writer = pipe
    os.write(writer, b"a\n")
    os.close(writer)

    assert source.count_lines() is None
    assert source.stream.read() == b"a\n"
    source.close()
    assert source.stream.closed


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing.csv", "No such file"), (".", "Is a directory")],
)
def test_unreadable(path, reason):
    """
    An input that cannot be opened is an error that begins with its name.
    """
    with pytest.raises(InputFileError) as caught:
        open_input(path)

    assert str(caught.value).startswith(f"{path}: cannot be read: {reason}")
    assert "- for stdin" in str(caught.value)


async def test_file_feeds(file):
    """
    Rows of a file come in order, until the reader is closed.
    """
    reader = RowReader(file.stream, file)
    rows = aiter(reader)

    assert [await anext(rows), await anext(rows)] == [b"a\n", b"b\n"]
    reader.close()
    assert [row async for row in rows] == []


async def test_pipe_feeds_at_once(pipe):
    """
    A row of a pipe comes as soon as it is written, and the end after the last
    row.
    """
    source, writer = pipe
    rows = aiter(RowReader(source.stream, source))

    os.write(writer, b"a\n")
    assert await anext(rows) == b"a\n"
    os.write(writer, b"b\nc\n")
    os.close(writer)
    assert [row async for row in rows] == [b"b\n", b"c\n"]


async def test_many_rows_of_a_pipe(pipe):
    """
    Twenty thousand rows of a pipe come in order.
    """
    source, writer = pipe
    sent = [b"%d\n" % number for number in range(20_000)]

    def fill():
        with os.fdopen(writer, "wb") as file:
            file.writelines(sent)

    thread = threading.Thread(target=fill)
    thread.start()
    rows = [row async for row in RowReader(source.stream, source)]
    thread.join()

    assert rows == sent


async def test_close_while_a_pipe_is_silent(pipe):
    """
    A reader that waits for a pipe ends as soon as it is closed.
    """
    source, writer = pipe
    reader = RowReader(source.stream, source)
    waiting = asyncio.ensure_future(anext(aiter(reader)))
    await asyncio.sleep(0)
    reader.close()

    with pytest.raises(StopAsyncIteration):
        await waiting
    source.close()
    assert not source.stream.closed
    os.close(writer)


async def test_rows_in_memory_after_close(pipe):
    """
    A closed reader yields no rows that wait in memory.
    """
    source, writer = pipe
    reader = RowReader(source.stream, source)
    rows = aiter(reader)
    os.write(writer, b"a\nb\nc\n")
    os.close(writer)

    assert await anext(rows) == b"a\n"
    reader.close()
    assert [row async for row in rows] == []


async def test_failure_of_a_pipe(pipe):
    """
    An error of reading is raised after the rows before it.
    """
    source, writer = pipe
    os.close(writer)

    def rows():
        yield 1
        raise InputFileError("stdin: cannot be read to its end")

    got = []
    with pytest.raises(InputFileError, match="to its end"):
        async for row in RowReader(rows(), source):
            got.append(row)  # noqa: PERF401 - rows before the error

    assert got == [1]
