"""
Where records go, and what happens if they cannot.
"""

import errno
import json
import os
import stat

import pytest

from bankconnect_async.cli._output import (
    Output,
    OutputClosedError,
    OutputError,
)


@pytest.fixture(name="path")
def _path(tmp_path):
    """
    Name a file that is not there yet.
    """
    return tmp_path / "out.jsonl"


def test_writes_through(path):
    """
    Each record is in the file as soon as it was written, for nobody else.
    """
    output = Output.open(str(path))
    output.write({"a": 1})
    output.write({"b": "é"})

    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"b": "é"}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    output.close()
    assert path.exists()


def test_private_whatever_the_umask(path):
    """
    Nobody else can read the file even if files are usually shared.
    """
    before = os.umask(0)
    try:
        output = Output.open(str(path))
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    output.close()


def test_nothing_written(path):
    """
    A file without any record is removed, so that the next run can make it.
    """
    Output.open(str(path)).close()
    assert not path.exists()


def test_already_removed(path):
    """
    Somebody else may remove the file first.
    """
    output = Output.open(str(path))
    path.unlink()
    output.close()
    assert not path.exists()


def test_never_overwrites(path):
    """
    A file that exists is refused, and stays as it is.
    """
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already") as caught:
        Output.open(str(path))

    assert str(caught.value).startswith(f"{path}: ")
    assert path.read_text() == "precious"


def test_never_follows_a_dead_link(path):
    """
    A link to nowhere is refused as an existing file is.
    """
    path.symlink_to("nowhere")
    with pytest.raises(OutputError, match="exists already"):
        Output.open(str(path))

    assert path.is_symlink()


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_no_directory(tmp_path, parent):
    """
    A place where no file can be made is an error that begins with the name.
    """
    (tmp_path / "file").touch()
    path = str(tmp_path / parent / "out.jsonl")
    with pytest.raises(OutputError, match="in a directory that") as caught:
        Output.open(path)

    assert str(caught.value).startswith(f"{path}: cannot be made: N")


def test_not_allowed(path, monkeypatch):
    """
    A directory without permission is an error that begins with the name.
    """

    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="cannot be made: Permission"):
        Output.open(str(path))


def test_disk_full(path, monkeypatch):
    """
    A record that does not fit is taken back: only whole lines stay.
    """
    output = Output.open(str(path))
    output.write({"a": 1})
    real = os.write
    room = 3

    def write(fd, data):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(fd, data[:room])
        room -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OutputError, match="No space left") as caught:
            output.write({"b": 2})
    output.write({"c": 3})
    output.close()

    assert str(caught.value).startswith(f"{path}: cannot be written: ")
    assert path.read_text() == '{"a":1}\n{"c":3}\n'


def test_pipe():
    """
    A pipe can be named, as shells do for >(command), and may be closed.
    """
    reader, writer = os.pipe()
    output = Output.open(f"/dev/fd/{writer}")
    os.close(writer)
    output.write({"a": 1})
    assert os.read(reader, 100) == b'{"a":1}\n'

    os.close(reader)
    with pytest.raises(OutputClosedError):
        output.write({"b": 2})
    output.close()


def test_device():
    """
    A device is no file that could be overwritten.
    """
    output = Output.open("/dev/full")
    with pytest.raises(OutputError, match="/dev/full: cannot be written"):
        output.write({})
    output.close()


def test_stdout(capfd):
    """
    A minus sign is stdout, which stays open.
    """
    output = Output.open("-")
    output.write({"a": 1})
    output.close()
    print("still there")

    assert output.is_stdout
    assert capfd.readouterr().out == '{"a":1}\nstill there\n'


def test_closed_stdout(monkeypatch):
    """
    A process without stdout says so.
    """
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OutputError, match="stdout: is closed"):
        Output.open("-")
