"""
Uploads of statements, in pieces.
"""

import asyncio
import errno
import inspect
import io
import os
import socket
import stat

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import (
    IO,
    Any,
    Final,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    cast,
)

import aiohttp
import attrs

from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from bankconnect_async._codec.session_requests import url_problem
from bankconnect_async._http.sockets import refuse_closed
from bankconnect_async._threads import finish, finish_in_thread, run_in_thread
from bankconnect_async._tracebacks import ArgumentError
from bankconnect_async.config import hide
from bankconnect_async.errors import BankConnectError, InvalidRequestError
from bankconnect_async.retry import RetryPolicy

from .base import ApiClient, Endpoint, text_problem
from .files import open_regular


T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class AsyncFile(Protocol):
    """
    A file whose methods are coroutines, opened for bytes.
    """

    def read(self, size: int, /) -> Awaitable[bytes]:
        """
        Read at most *size* bytes; empty at the end.
        """
        ...


#: What can be uploaded: a path, a file opened for bytes, or its bytes.
StatementFile: TypeAlias = (
    str | os.PathLike[str] | bytes | IO[bytes] | AsyncFile
)


class UploadOptions(TypedDict, total=False):
    """
    The options of an upload; see `AsyncBankConnect.upload`.
    """

    url: str | URL | None
    base64: str | bytes | None
    bank_name: str | None
    pdf_password: str | None
    filename: str | None
    identity: bool
    deadline: float
    retry: RetryPolicy | None


class SessionUploadOptions(UploadOptions, total=False):
    """
    The options of an upload into a session; see `SessionHandle.upload`.
    """

    account_category: str | None


# The bytes of one write; the read timeout starts again with each.
_PIECE: Final = 64 * 1024
# The bytes of one read, in a thread, because each call there takes time.
_READ: Final = 8 * _PIECE
_NAME: Final = "statement.pdf"
_DEADLINE: Final = 300.0
# The unsent bytes in the kernel. With megabytes there, the last byte would
# count as sent long before it is.
_UNSENT: Final = 128 * 1024
_LOW_WATER: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)


class Source(ABC):
    """
    A file to send, as often as attempts need it.

    Args:
        filename: The name of the file; `None` sends it as a plain field.

    Attributes:
        filename: The name of the file.
        size: The size in bytes, if it is known beforehand.
        rewindable: Whether the file can be sent twice.
        fault: The error that reading it raised, if any.
    """

    def __init__(self, filename: str | None) -> None:
        self.filename: Final = filename
        self.size: int | None = None
        self.rewindable = True
        self.fault: Exception | None = None
        # The task that writes it, and the end of that write.
        self._sending: (
            tuple[asyncio.Task[Any], asyncio.Future[None]] | None
        ) = None

    @abstractmethod
    async def examine(self) -> None:
        """
        Look at the file before it is sent.

        Raises:
            InvalidRequestError: If it cannot be sent.
        """

    async def write(self, writer: AbstractStreamWriter) -> None:
        """
        Write the file from its beginning.

        Raises:
            OSError: If it cannot be read; see `fault`.
        """
        await self.settle()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        over = asyncio.get_running_loop().create_future()
        self._sending = task, over
        self.fault = None
        try:
            await self._try(self._begin)
            await self._pump(writer)
        finally:
            try:
                await self._end()
            finally:
                over.set_result(None)

    async def settle(self) -> None:
        """
        Cancel a write in progress; afterwards nothing reads the file any more.
        """
        if self._sending is None:
            return
        task, over = self._sending
        if not over.done():
            task.cancel()
            await finish(over)

    async def _pump(self, writer: AbstractStreamWriter) -> None:
        left = self.size
        while left is None or left > 0:
            size = _READ if left is None else min(_READ, left)
            content = (await self._try(self._read, size))[:left]
            if not content:
                break
            if left is not None:
                left -= len(content)
            for start in range(0, len(content), _PIECE):
                await writer.write(content[start : start + _PIECE])
        if left:
            self.fault = OSError(errno.EIO, "it became shorter meanwhile")
            raise self.fault

    async def _try(self, work: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        try:
            return await work(*args)
        # A file may be of any class, and raise any error.
        except Exception as exc:  # noqa: BLE001
            # The frames hold pieces of the file.
            self.fault = exc.with_traceback(None)
        raise OSError(errno.EIO, "the file cannot be read")

    @abstractmethod
    async def _begin(self) -> None:
        """
        Prepare to read the file from its beginning.
        """

    @abstractmethod
    async def _read(self, size: int) -> memoryview:
        """
        Read at most *size* bytes; empty at the end.
        """

    @abstractmethod
    async def _end(self) -> None:
        """
        Release the file, even if the task is cancelled.
        """


class _Memory(Source):
    """
    A file in memory.
    """

    def __init__(self, content: bytes, filename: str | None) -> None:
        super().__init__(filename)
        self.size = len(content)
        self._content = memoryview(content)
        self._position = 0

    async def examine(self) -> None:
        """Accept any content."""

    async def _begin(self) -> None:
        self._position = 0

    async def _read(self, size: int) -> memoryview:
        start = self._position
        self._position += size
        return self._content[start : self._position]

    async def _end(self) -> None:
        """
        Keep the bytes, for another attempt.
        """


class _Stored(Source):
    """
    A file by its path, opened for each attempt.
    """

    def __init__(self, path: Path, filename: str | None) -> None:
        super().__init__(filename or path.name)
        self._path = path
        self._file: IO[bytes] | None = None

    async def examine(self) -> None:
        """Find out the size, and report a missing file early."""
        try:
            self.size = await run_in_thread(self._measure)
        except (OSError, ValueError) as exc:
            raise _unreadable(exc) from None
        if not self.size:
            raise _bad("file", "is empty")

    def _measure(self) -> int:
        with open_regular(self._path) as file:
            return os.fstat(file.fileno()).st_size

    async def _begin(self) -> None:
        await run_in_thread(self._open)

    def _open(self) -> None:
        self._file = open_regular(self._path)

    async def _read(self, size: int) -> memoryview:
        read = cast("IO[bytes]", self._file).read
        return memoryview(await run_in_thread(read, size))

    async def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await finish_in_thread(file.close)


class _Opened(Source):
    """
    A file that the caller opened, and closes.
    """

    def __init__(self, file: Any, filename: str | None) -> None:
        super().__init__(filename or _NAME)
        self._file = file
        self._start = 0

    async def examine(self) -> None:
        """Find out the size, if there is one."""
        try:
            if _is_async(self._file.tell):
                await self._measure_patiently()
            else:
                await run_in_thread(self._measure)
        # A pipe has no size, nor has a file that lacks a method.
        except Exception:  # noqa: BLE001
            self.size, self.rewindable = None, False
        if self.size is not None and self.size <= 0:
            raise _bad("file", "is empty, or read to its end")

    def _measure(self) -> None:
        # In one step, so that a cancel does not leave it at its end.
        file = self._file
        self._start = file.tell()
        self.size = file.seek(0, os.SEEK_END) - self._start
        file.seek(self._start)

    async def _measure_patiently(self) -> None:
        file = self._file
        self._start = await file.tell()
        try:
            self.size = await file.seek(0, os.SEEK_END) - self._start
        finally:
            await file.seek(self._start)

    async def _begin(self) -> None:
        if self.rewindable:
            await _call(self._file.seek, self._start)

    async def _read(self, size: int) -> memoryview:
        read = self._file.read
        if not self.rewindable and _is_pipe(self._file):
            await _wait_until_readable(self._file.fileno())
            # A read of a pipe's buffer returns the bytes that are there.
            read = getattr(self._file, "read1", read)
        return memoryview(await _call(read, size))

    async def _end(self) -> None:
        """
        Leave the file open, because it is the caller's.
        """


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function)


async def _call(function: Callable[..., Any], *args: int) -> Any:
    if _is_async(function):
        return await function(*args)
    result = await run_in_thread(function, *args)
    return await result if inspect.isawaitable(result) else result


def _is_pipe(file: Any) -> bool:
    # Only files from `open`: others have buffers of their own. With all data
    # there, the descriptor would never become readable.
    raw = file.raw if type(file) is io.BufferedReader else file
    if type(raw) is not io.FileIO:
        return False
    mode = os.fstat(raw.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


async def _wait_until_readable(fd: int) -> None:
    """
    Wait on the event loop, because a waiting thread cannot be cancelled.
    """
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    # A duplicate, because the loop may watch the descriptor already.
    own = os.dup(fd)
    try:
        try:
            loop.add_reader(own, _set, readable)
        except (OSError, NotImplementedError):
            # It is always readable, or this loop cannot watch it.
            return
        try:
            await readable
        finally:
            loop.remove_reader(own)
    finally:
        os.close(own)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


@attrs.frozen(kw_only=True)
class Statement:
    """
    A statement to upload.

    Attributes:
        source: The file, or its URL.
        is_base64: Whether the file is base64 text.
        fields: The other fields of the form; those that are `None` are left
            out.
        query: The parameters of the URL.
        policy: The retry policy.
    """

    source: Source | str = attrs.field(repr=False)
    is_base64: bool
    fields: Mapping[str, str | None] = attrs.field(repr=False)
    query: Mapping[str, str | None]
    policy: RetryPolicy


def prepare(
    api: ApiClient,
    owner: Mapping[str, str],
    file: StatementFile | None,
    known: Collection[str] = SessionUploadOptions.__annotations__,
    /,
    **options: Unpack[SessionUploadOptions],
) -> Statement:
    """
    Check the options of an upload, and find its one source.

    Args:
        api: The API.
        owner: The fields that name the customer, entity or session.
        file: The file, if it is the source.
        known: The names of the options that this upload has.
        **options: The options.

    Raises:
        InvalidRequestError: If an option is bad, or there is not exactly one
            source.
    """
    if unknown := options.keys() - {*known}:
        raise ArgumentError(
            f"unexpected options: {', '.join(sorted(unknown))}"
        )
    retry = options.get("retry") or api.retry
    if not isinstance(retry, RetryPolicy):
        raise ArgumentError("retry must be a RetryPolicy")
    fields = {
        **owner,
        "bank_name": options.get("bank_name"),
        "pdf_password": options.get("pdf_password"),
        "account_category": options.get("account_category"),
    }
    named = {**fields, "filename": options.get("filename")}
    bad = {
        name: (problem,)
        for name, value in named.items()
        if (value is not None or name in owner)
        and (problem := text_problem(value))
    }
    if bad:
        raise InvalidRequestError(fields=bad)
    return Statement(
        source=_find_source(file, options),
        is_base64=options.get("base64") is not None,
        fields={name: hide(value) for name, value in fields.items()},
        query={"identity": "true" if options.get("identity", True) else None},
        # An upload may take longer than other operations.
        policy=attrs.evolve(
            retry,
            deadline=options.get("deadline", _DEADLINE),
        ),
    )


def _find_source(
    file: StatementFile | None, options: SessionUploadOptions
) -> Source | str:
    url, base64 = options.get("url"), options.get("base64")
    filename = options.get("filename")
    if sum(each is not None for each in (file, url, base64)) != 1:
        raise _bad("file", "give one of a file, url=… and base64=…")
    if url is not None:
        # The vendor fetches it, and may do so without TLS (U-37).
        if url_problem(str(url), allow_http=True):
            raise _bad("url", "must be an absolute http or https URL")
        return hide(str(url))
    if base64 is not None:
        text = base64.encode() if isinstance(base64, str) else base64
        return _memory(text, None)
    if isinstance(file, bytes | bytearray | memoryview):
        return _memory(bytes(file), filename or _NAME)
    if isinstance(file, str | os.PathLike):
        return _Stored(Path(file), filename)
    return _file(file, filename)


def _memory(content: bytes, filename: str | None) -> Source:
    if not content:
        raise _bad("file" if filename else "base64", "is empty")
    return _Memory(content, filename)


def _file(file: Any, filename: str | None) -> Source:
    for attribute in ("filename", "name"):
        filename = filename or _text(getattr(file, attribute, None))
    # Web frameworks wrap uploaded files in objects of their own.
    inner = getattr(file, "file", None)
    if not hasattr(file, "tell") and hasattr(inner, "tell"):
        file = inner
    if isinstance(file, io.TextIOBase) or not hasattr(file, "read"):
        raise _bad("file", "must be a path, bytes, or a file opened for bytes")
    return _Opened(file, filename and Path(filename).name)


def _text(value: object) -> str | None:
    # A file that was opened by its descriptor has a number as its name.
    return value if isinstance(value, str) else None


def _bad(name: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError(fields={name: (problem,)})


def _unreadable(exc: Exception) -> InvalidRequestError:
    reason = getattr(exc, "strerror", None) or str(exc) or "no reason given"
    return _bad("file", f"cannot be read: {reason}")


class _Part(aiohttp.Payload):
    """
    The part of a form that holds the file.
    """

    # The source closes what it opened itself.
    _autoclose = True

    def __init__(self, source: Source) -> None:
        super().__init__(source, content_type="application/pdf")
        self._size = source.size
        self._source = source

    def decode(self, *_: object, **__: object) -> str:
        """Raise `TypeError`: the file is never in memory as a whole."""
        raise TypeError

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the file."""
        await self._source.write(writer)


class _Meter(AbstractStreamWriter):
    """
    A writer that reports every piece that was written.
    """

    def __init__(
        self, writer: AbstractStreamWriter, on_progress: Callable[[], None]
    ) -> None:
        self._writer = writer
        self._on_progress = on_progress

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        await self._writer.write(chunk)
        self._on_progress()

    async def write_eof(self, chunk: bytes = b"") -> None:
        raise NotImplementedError

    async def drain(self) -> None:
        raise NotImplementedError

    def enable_compression(
        self, encoding: str = "deflate", strategy: int | None = None
    ) -> None:
        raise NotImplementedError

    def enable_chunking(self) -> None:
        raise NotImplementedError

    async def write_headers(self, status_line: str, headers: Any) -> None:
        raise NotImplementedError


class Form(aiohttp.MultipartWriter):
    """
    A form with a file, which records how far its write came.

    It does the same as `BytesBody` does for a body in one piece. Its repr
    shows nothing, because it holds statements and their passwords.

    Attributes:
        begun: Whether its write was begun.
        unsent: Whether that write failed before anything was sent.
        checks_connection: Whether to check the connection first.
    """

    begun = unsent = checks_connection = False
    on_progress: Callable[[], object] | None = None

    def __init__(
        self, fields: Mapping[str, str | None], source: Source | str
    ) -> None:
        super().__init__("form-data")
        if isinstance(source, str):
            fields = {"file_url": source, **fields}
        for name, value in fields.items():
            if value is not None:
                text = aiohttp.StringPayload(value)
                text.set_content_disposition("form-data", name=name)
                self.append_payload(text)
        if isinstance(source, Source):
            self.append_payload(_file_part(source))

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """
        Write the form, and record the progress.
        """
        del content_length
        self.begun = self.unsent = True
        self._report()
        _limit_unsent(writer)
        try:
            if self.checks_connection:
                refuse_closed(writer)
            await self.write(_Meter(writer, self._on_written))
        except Exception as exc:  # noqa: BLE001 - it is raised below
            failure = exc.with_traceback(None)
        else:
            return
        # The frames hold pieces of the file.
        raise failure

    async def close(self) -> None:
        """
        Do nothing, because the form may be sent again.
        """

    def _on_written(self) -> None:
        self.unsent = False
        self._report()

    def _report(self) -> None:
        if self.on_progress is not None:
            self.on_progress()


def _file_part(source: Source) -> _Part:
    part = _Part(source)
    if source.filename is None:
        part.headers.popall("Content-Type")
        part.set_content_disposition("form-data", name="file")
    else:
        # As in browsers (RFC 7578, section 4.2): the vendor would keep percent
        # signs in the name.
        part.set_content_disposition(
            "form-data",
            quote_fields=False,
            name="file",
            filename=_printable(source.filename),
        )
    return part


def _printable(name: str) -> str:
    # Names of files are bytes, which need not be Unicode.
    name = name.encode(errors="replace").decode()
    return "".join(each if each.isprintable() else "_" for each in name)


def _limit_unsent(writer: AbstractStreamWriter) -> None:
    transport = writer.transport
    sock = transport and transport.get_extra_info("socket")
    if sock and _LOW_WATER is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _LOW_WATER, _UNSENT)


def _secrets(statement: Statement) -> list[str]:
    given = [statement.fields.get("pdf_password") or ""]
    if isinstance(statement.source, str):
        # A signed link gives access to the file; servers name its host.
        path, _, query = statement.source.partition("?")
        given += [path.partition("://")[2].partition("/")[2], query]
    return [hide(each) for each in given]


async def send(
    api: ApiClient,
    endpoint: Endpoint,
    statement: Statement,
    decode: Callable[..., T],
) -> T:
    """
    Send a statement, and return the decoded response.

    Raises:
        InvalidRequestError: If it cannot be sent, or could not be read.
    """
    source, policy = statement.source, statement.policy
    if isinstance(source, Source):
        await source.examine()
        if not source.rewindable:
            policy = attrs.evolve(policy, attempts=1)
    try:
        return await api.request(
            f"POST {endpoint.url.parent.name}",
            endpoint,
            decode,
            method="POST",
            body=Form(statement.fields, source),
            with_hash=False,
            idempotent=False,
            retry=policy,
            secrets=_secrets(statement),
        )
    except BankConnectError as error:
        fault = source.fault if isinstance(source, Source) else None
        if fault is None:
            raise
        unreadable = _unreadable(fault)
        unreadable.delivery = error.delivery
        unreadable.attempts = error.attempts
        raise unreadable from fault
    finally:
        if isinstance(source, Source):
            await source.settle()
