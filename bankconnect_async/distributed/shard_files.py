"""
The files of shards: a journal each, in a directory of one batch's journal.
"""

import asyncio
import os

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from bankconnect_async._threads import finish_in_thread, run_in_thread
from bankconnect_async.clock import SYSTEM_CLOCK
from bankconnect_async.errors import ConfigurationError, JournalLockedError


#: Seconds between attempts to lock a journal.
LOCK_POLL: Final = 0.25

_OWNER: Final = "owner"
# Where files cannot be locked, a second file changes while a shard is written.
_BEAT_SUFFIX: Final = ".alive"
_BEAT_INTERVAL: Final = 1.0
_BEAT_TIMEOUT: Final = 5.0


class ShardDirectory:
    """
    The directory for the shards of one journal; its methods block.

    Args:
        path: The path of the directory.
        run: The name of the batch.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path: Final = path
        self._run = run

    def journal_of(self, number: int) -> Path:
        """Return the path of a shard's journal."""
        return self.path / f"{self._run}-{number:06}.jsonl"

    def create(self, path: Path) -> None:
        """Create the journal of a shard, readable by its owner only."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)

    def claim(self, journal: str, backup: str | None) -> list[str]:
        """
        Make the directory a journal's own, and return what is left in it.

        Args:
            journal: The path of the journal.
            backup: The path that its earlier file was moved to, if it was.

        Raises:
            ConfigurationError: If it belongs to another journal.
        """
        path, owner = self.path, self.path / _OWNER
        journal = os.path.realpath(journal)
        if owner.exists() and owner.read_text() != journal:
            raise ConfigurationError(
                fields={
                    "journal_dir": (
                        f"{path}: belongs to {owner.read_text()}: give each "
                        f"journal a directory of its own (if that journal "
                        f"was moved here, remove {owner})",
                    )
                }
            )
        if backup is not None and path.exists():
            # Its shards belong to the earlier file.
            path.rename(f"{path}{backup[backup.rindex('.old-') :]}")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not owner.exists():
            owner.write_text(journal)
        return self.journals()

    def journals(self) -> list[str]:
        """List the journals, including copies saved after a deletion."""
        paths = sorted(map(str, self.path.glob("*-*.jsonl*")))
        return [path for path in paths if not path.endswith(_BEAT_SUFFIX)]

    def size(self, numbers: Iterable[int]) -> int:
        """Return the bytes that the journals of some shards have."""
        size = 0
        for number in numbers:
            with suppress(OSError):
                size += self.journal_of(number).stat().st_size
        return size

    def remove_if_empty(self) -> None:
        """Remove the directory, unless it holds journals."""
        with suppress(OSError):
            if not self.journals():
                (self.path / _OWNER).unlink(missing_ok=True)
                self.path.rmdir()


def remove_journal(path: str) -> None:
    """Remove the journal of a shard that was merged."""
    Path(path).unlink()
    _beat_file(path).unlink(missing_ok=True)


@asynccontextmanager
async def beating(path: str) -> AsyncIterator[None]:
    """
    Show other processes that a journal without a lock is being written.
    """
    task = asyncio.create_task(_beat(path))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _beat(path: str) -> None:
    # The first text differs from the last one of an earlier writer.
    text, count = os.urandom(4).hex(), 0
    try:
        while True:
            await run_in_thread(_write_beat, path, f"{text}-{count}")
            count += 1
            await asyncio.sleep(_BEAT_INTERVAL)
    finally:
        await finish_in_thread(_remove_beat, path)


async def is_beating(path: str) -> bool:
    """
    Tell whether a process writes to a shard's journal without a lock.

    A process that stopped changing its second file for some seconds was
    killed.
    """
    first = text = await run_in_thread(_read_beat, path)
    until = SYSTEM_CLOCK.monotonic() + _BEAT_TIMEOUT
    while text is not None and text == first:
        if SYSTEM_CLOCK.monotonic() >= until:
            return False
        await asyncio.sleep(LOCK_POLL)
        text = await run_in_thread(_read_beat, path)
    return text is not None


async def refuse_if_beating(path: str) -> None:
    """
    Check that no process writes to a shard's journal without a lock.

    Raises:
        JournalLockedError: If one does.
    """
    if await is_beating(path):
        raise JournalLockedError(f"{path}: another process writes to it")


def _beat_file(path: str) -> Path:
    return Path(f"{path}{_BEAT_SUFFIX}")


def _write_beat(path: str, text: str) -> None:
    # If this fails, a run that starts now does not wait for this process.
    with suppress(OSError):
        _beat_file(path).write_text(text)


def _read_beat(path: str) -> str | None:
    with suppress(OSError):
        return _beat_file(path).read_text()
    return None


def _remove_beat(path: str) -> None:
    with suppress(OSError):
        _beat_file(path).unlink()
