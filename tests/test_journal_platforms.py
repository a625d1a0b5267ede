"""
Journals on systems without POSIX calls, as on Windows.
"""

import subprocess
import sys

from bankconnect_async.journal.file_system import read_at, seek_and_read


# Take away what Windows has not. Real Windows also refuses to rename or
# remove an open file, which `rename` and `unlink` here do as well.
WITHOUT_POSIX = """
import errno, fcntl, os, pathlib, struct, sys, types

import bankconnect_async

assert "bankconnect_async.journal.journal" not in sys.modules
sys.platform = "win32"
sys.modules["fcntl"] = None


def locking(fd, mode, size):
    # A lock of bytes that belongs to an open file, as there.
    assert (mode, size) == (2, 1)
    at = os.lseek(fd, 0, os.SEEK_CUR)
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, at, size, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
os.supports_fd.clear()
for name in (
    "O_CLOEXEC", "O_NONBLOCK", "fchmod", "pread", "set_blocking",
):
    delattr(os, name)

from bankconnect_async import Created, Session, SessionRequest
from bankconnect_async.journal import Journal, read_journal


def is_open(path):
    for name in os.listdir("/proc/self/fd"):
        try:
            found = os.stat(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if os.path.samestat(found, os.stat(path)):
            return True
    return False


def refuse_if_open(call):
    def refuse(self, *args, **kwargs):
        if self.exists() and is_open(self):
            raise PermissionError(13, "it is in use")
        return call(self, *args, **kwargs)
    return refuse


for name in "rename", "unlink":
    call = getattr(pathlib.Path, name)
    setattr(pathlib.Path, name, refuse_if_open(call))


def write(path, *link_ids, fresh=False):
    with Journal(path, api="api", fresh=fresh) as journal:
        assert journal.is_locked
        for index, link_id in enumerate(link_ids):
            request = SessionRequest(link_id=link_id, redirect_url=None)
            session = Session(
                link_id=link_id,
                redirect_url="https://x.example/",
                session_id="s",
                attempts=1,
            )
            if journal.begin(index, request):
                journal.record(
                    Created(
                        index=index,
                        item=link_id,
                        request=request,
                        session=session,
                    )
                )


path = sys.argv[1]
"""


def run(path, program):
    """Run a program without POSIX, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + program, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_resumed(tmp_path):
    """
    A journal is written, repaired where it is torn, resumed and read.
    """
    program = """
write(path, "a", "b")
with open(path, "ab") as file:
    file.write(b'{"link_id":"c')
write(path, "a", "b", "c")
print(*(record.link_id for record in read_journal(path)))
"""
    assert run(tmp_path / "out.jsonl", program) == ["a", "b", "c"]


def test_started_over(tmp_path):
    """
    An earlier file is backed up, and an empty one is removed.
    """
    program = """
write(path, "a")
write(path, "b", fresh=True)
write(path + "2")
print(*sorted(os.listdir(os.path.dirname(path))))
"""
    assert run(tmp_path / "out.jsonl", program) == [
        "out.jsonl",
        "out.jsonl.old-1",
    ]


def test_second_writer(tmp_path):
    """
    One writer at a time has the file, and others can read it meanwhile.
    """
    program = """
from bankconnect_async import JournalLockedError

write(path, "a")
with Journal(path, api="api"):
    print(*[record.link_id for record in read_journal(path)])
    try:
        Journal(path).open()
    except JournalLockedError:
        print("refused")
write(path, "b")
print(*[record.link_id for record in read_journal(path)])
"""
    printed = run(tmp_path / "out.jsonl", program)

    assert printed == ["a", "refused", "a", "b"]


def test_changed(tmp_path):
    """
    A journal that another program overwrites is reported.
    """
    program = """
journal = Journal(path, api="api")
try:
    with journal:
        write(path + "2", "a")
        session = next(read_journal(path + "2")).session
        journal.record(
            Created(
                index=0,
                item="a",
                request=SessionRequest(link_id="a", redirect_url=None),
                session=session,
            )
        )
        with open(path, "r+b") as file:
            file.write(b"x" * 999)
except bankconnect_async.JournalError as error:
    print("was changed by another program" in str(error))
"""
    assert run(tmp_path / "out.jsonl", program) == ["True"]


def test_reads_alike(tmp_path):
    """
    Reading after a seek gives what `os.pread` gives, and appends stay
    complete.
    """
    path = tmp_path / "file"
    with path.open("a+b", buffering=0) as file:
        file.write(b"0123456789")
        for size, offset in (4, 3), (99, 8), (4, 10), (0, 0):
            assert seek_and_read(file.fileno(), size, offset) == read_at(
                file.fileno(), size, offset
            )
        seek_and_read(file.fileno(), 1, 0)
        file.write(b"!")

    assert path.read_bytes() == b"0123456789!"
