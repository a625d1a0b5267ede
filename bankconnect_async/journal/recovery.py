"""
Read the file of a journal when it is opened, and end the work on it.
"""

import threading

from collections.abc import Callable, Iterator
from typing import TypeVar

from bankconnect_async._threads import finish_in_thread
from bankconnect_async.errors import JournalError

from .append_file import AppendFile
from .records import is_record_start, read_lines


T = TypeVar("T")


def recover(
    file: AppendFile,
    decode: Callable[[bytes], T],
    cancelled: threading.Event,
) -> Iterator[T]:
    """
    Yield the records of a file, and repair its end afterwards.

    Args:
        file: The file.
        decode: A function that decodes a line, or raises a `ValueError`.
        cancelled: Ends it early, and the file stays as it is.

    Raises:
        ValueError: If a line is no record; it names the line.
        JournalError: If the file cannot be read or repaired.
    """
    end, missing, count = 0, b"", 0
    for raw, record in read_lines(file.lines(is_record_start), decode):
        if cancelled.is_set():
            return
        end += len(raw)
        missing = b"" if raw.endswith(b"\n") else b"\n"
        if record is not None:
            count += 1
            yield record
    file.repair(end=end, missing=missing, count=count)


async def finish_writing(work: Callable[[], None]) -> None:
    """
    Run *work*, which closes or syncs a file, in a thread.

    Raises:
        JournalError: If records are lost; a cancellation does not hide it.
    """
    errors = []

    def finish() -> None:
        try:
            work()
        except JournalError as error:
            errors.append(error)

    try:
        await finish_in_thread(finish)
    finally:
        for error in errors:
            raise error
