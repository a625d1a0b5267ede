"""
Uploads from every source, in every flow, with every failure.
"""

import asyncio
import base64
import functools
import io
import os
import random
import socket
import threading
import traceback

import pytest

from aiohttp import web
from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    BadRequestError,
    BankConnectError,
    BankMismatchError,
    BankNotDetectedError,
    ConnectionLostError,
    Delivery,
    DuplicateStatementError,
    InvalidRequestError,
    NotFoundError,
    OutOfDateRangeError,
    PasswordIncorrectError,
    PaymentRequiredError,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    SessionExpiredError,
    StatementError,
    Timeouts,
    UnparsableStatementError,
    UnsupportedStatementError,
)
from bankconnect_async._codec.error_responses import error_from_response
from bankconnect_async._resources.uploads import Form, prepare


S = "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"
E = "f5057fee-4c3e-4459-82dd-21250b729601"
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
INTO_SESSION = "statement/upload_session/"
BY_BANK = "statement/upload/"


@pytest.fixture(name="taken")
def _taken(vendor, sample):
    """Script good responses of all five endpoints; yields the requests."""
    vendor.say(INTO_SESSION, (200, sample("upload.session.response.json")))
    for name in (
        "upload",
        "bankless_upload",
        "upload_base64",
        "bankless_upload_base64",
    ):
        said = sample("upload.entity.response.json")
        vendor.say(f"statement/{name}/", (200, said))
    return vendor.requests


FILE = ("x.pdf", PDF)
# Call, path, and the sample of the form that it sends.
UPLOADS = {
    "upload.entity.request.file.fields.json": (
        lambda bank: bank.upload(
            PDF,
            filename="x.pdf",
            link_id="cust-7f31-0042",
            bank_name="axis",
            pdf_password="secret",
        ),
        BY_BANK,
    ),
    "upload.entity.request.bankless.fields.json": (
        lambda bank: bank.entity(E).upload(PDF, filename="x.pdf"),
        "statement/bankless_upload/",
    ),
    "upload.entity.request.base64.fields.json": (
        lambda bank: bank.upload(
            base64="JVBERi0xLjQKJcOkw7zDtsOfCg==",
            link_id="cust-7f31-0042",
            bank_name="axis",
        ),
        "statement/upload_base64/",
    ),
    "upload.entity.request.file_url.fields.json": (
        lambda bank: bank.upload(
            url="https://files.example/statement.pdf",
            link_id="cust-7f31-0042",
            bank_name="axis",
        ),
        BY_BANK,
    ),
    "upload.session.request.file.fields.json": (
        lambda bank: bank.session(S).upload(
            PDF, filename="x.pdf", bank_name="hdfc", pdf_password="secret"
        ),
        INTO_SESSION,
    ),
    "upload.session.request.base64.fields.json": (
        lambda bank: bank.session(S).upload(
            base64=b"JVBERi0xLjQKJcOkw7zDtsOfCg=="
        ),
        INTO_SESSION,
    ),
    "upload.session.request.file_url.fields.json": (
        lambda bank: bank.session(S).upload(
            url=URL("https://files.example/statement.pdf")
        ),
        INTO_SESSION,
    ),
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_sends_the_samples(name, taken, bank, sample_json):
    """
    Each documented form is sent as printed, with the key alone.
    """
    call, path = UPLOADS[name]
    fields = sample_json(name)
    if fields.get("file", "").startswith("<binary"):
        fields["file"] = FILE

    uploaded = await call(bank)

    assert uploaded.statement_id
    (sent,) = taken
    assert (sent.method, sent.path) == ("POST", path)
    assert sent.form == fields
    assert sent.query == {"identity": "true"}
    assert sent.headers["x-api-key"] == "key"
    assert "server-hash" not in sent.headers
    assert int(sent.headers["content-length"]) > 0


def test_no_upload_is_forgotten(fixture_names):
    """
    The table has every sample of an upload's request.
    """
    assert UPLOADS.keys() == {
        name
        for name in fixture_names
        if name.startswith("upload.") and ".request." in name
    }


async def test_further_parameters(taken, bank):
    """
    The identity is optional; bankless Base64 has its own path.
    """
    await bank.session(S).upload(
        PDF, account_category="SAVINGS", identity=False
    )
    await bank.upload(base64="AAAA", link_id="c")

    first, second = taken
    assert first.query == {}
    assert first.form["account_category"] == "SAVINGS"
    assert first.form["file"] == ("statement.pdf", PDF)
    assert second.path == "statement/bankless_upload_base64/"


class Pipe(io.RawIOBase):
    """
    A stream that cannot be rewound.
    """

    def __init__(self, content):
        self.content = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.content.readinto(buffer)


class Awaited:
    """
    A file whose methods are coroutines.
    """

    def __init__(self, file, *names):
        self._file = file
        self.name = file.name
        for name in names or ("read", "seek", "tell"):
            setattr(self, name, self._awaited(name))

    def _awaited(self, name):
        async def method(*args):
            await asyncio.sleep(0)
            return getattr(self._file, name)(*args)

        return method


class Worded:
    """
    A text file without the usual attributes.
    """

    def read(self, _):
        return "text"


class TestSources:
    """
    Where the file comes from
    """

    async def test_a_path(self, taken, bank, tmp_path):
        """
        A file is sent under its name, umlauts and quotes included.
        """
        path = tmp_path / 'Auszug "März" 100%.pdf'
        path.write_bytes(PDF)

        await bank.session(S).upload(path)
        await bank.session(S).upload(str(path))

        assert [sent.form["file"] for sent in taken] == [(path.name, PDF)] * 2

    async def test_a_path_that_is_no_text(self, taken, bank, tmp_path):
        """
        Bytes of a file name that are not Unicode are replaced.
        """
        path = os.path.join(os.fsencode(tmp_path), b"a\xff\n.pdf")  # noqa: PTH118
        with open(path, "wb") as file:  # noqa: ASYNC230, PTH123
            file.write(PDF)

        await bank.session(S).upload(os.fsdecode(path))

        assert taken[0].form["file"] == ("a?_.pdf", PDF)

    async def test_an_open_file(self, taken, bank, tmp_path):
        """
        A file object is read from its position and left open.
        """
        path = tmp_path / "x.pdf"
        path.write_bytes(b"skipped" + PDF)
        with path.open("rb") as file:
            file.seek(7)
            await bank.session(S).upload(file)
            assert not file.closed

        assert taken[0].form["file"] == ("x.pdf", PDF)

    async def test_a_pipe(self, taken, bank):
        """
        A source without a length is sent in chunks.
        """
        await bank.session(S).upload(Pipe(PDF))

        assert taken[0].form["file"] == ("statement.pdf", PDF)
        assert taken[0].headers["transfer-encoding"] == "chunked"

    async def test_memory(self, taken, bank):
        """
        Bytes are sent in pieces as well.
        """
        await bank.session(S).upload(bytearray(PDF) * 100_000)

        assert len(taken[0].form["file"][1]) == 100_000 * len(PDF)

    async def test_is_not_read_as_a_whole(self, taken, bank, tmp_path):
        """
        No read asks for more than a piece, and none blocks the loop.
        """
        asked = []
        loop_thread = threading.get_ident()

        class Watched(io.FileIO):
            def read(self, size=-1, /):
                asked.append((size, threading.get_ident()))
                return super().read(size)

        path = tmp_path / "x.pdf"
        content = random.Random(7).randbytes(2_000_000)
        path.write_bytes(content)
        with Watched(path, "rb") as file:
            await bank.session(S).upload(file)

        assert taken[0].form["file"][1] == content
        assert max(size for size, _ in asked) == 512 * 1024
        assert loop_thread not in {thread for _, thread in asked}

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            (((), {}), "file"),
            (((PDF,), {"url": "https://x.example/"}), "file"),
            (((), {"url": "https://x.example/", "base64": "AA"}), "file"),
            (((), {"url": "ftp://x.example/"}), "url"),
            (((), {"url": "x.pdf"}), "url"),
            (((), {"base64": ""}), "base64"),
            (((b"",), {}), "file"),
            (((io.BytesIO(),), {}), "file"),
            (((io.StringIO("text"),), {}), "file"),
            (((7,), {}), "file"),
            ((("/nowhere/x.pdf",), {}), "file"),
            ((("/",), {}), "file"),
            ((("a\0b",), {}), "file"),
            (((PDF,), {"bank_name": " "}), "bank_name"),
            (((PDF,), {"pdf_password": 7}), "pdf_password"),
            (((PDF,), {"pdf_password": "\ud800"}), "pdf_password"),
            (((PDF,), {"filename": "\ud800"}), "filename"),
        ],
    )
    async def test_that_cannot_be_sent(self, taken, bank, arguments, name):
        """
        The error names a bad argument, and nothing is sent.
        """
        args, keywords = arguments
        with pytest.raises(InvalidRequestError) as caught:
            await bank.session(S).upload(*args, **keywords)

        assert list(caught.value.fields) == [name]
        assert caught.value.delivery is Delivery.NOT_SENT
        assert taken == []

    async def test_an_empty_file(self, taken, bank, tmp_path):
        """
        An empty file is refused before the request.
        """
        path = tmp_path / "x.pdf"
        path.touch()
        with pytest.raises(InvalidRequestError, match="is empty"):
            await bank.session(S).upload(path)

    @pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "folder"])
    async def test_a_path_of_something_else(self, taken, bank, tmp_path, kind):
        """
        A path to something else is refused at once.
        """
        path = tmp_path / "x"
        match kind:
            case "FIFO":
                os.mkfifo(path)
            case "socket":
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(str(path))
            case "device":
                path.symlink_to("/dev/zero")
            case "folder":
                path.mkdir()

        with pytest.raises(InvalidRequestError) as caught:
            await asyncio.wait_for(bank.session(S).upload(path), 10)

        assert caught.value.fields == {
            "file": (f"cannot be read: it is a {kind}, not a regular file",)
        }
        assert taken == []

    async def test_a_path_that_becomes_something_else(
        self, vendor, bank, tmp_path
    ):
        """
        A FIFO that replaces the file is refused without a wait.
        """
        path = tmp_path / "x"
        path.write_bytes(PDF)

        async def replace(_):
            path.unlink()
            os.mkfifo(path)
            return web.Response(status=500)

        vendor.say(INTO_SESSION, replace)
        with pytest.raises(InvalidRequestError, match="is a FIFO"):
            await asyncio.wait_for(bank.session(S).upload(path), 10)

    @pytest.mark.parametrize("buffering", [-1, 0])
    async def test_an_open_fifo(self, taken, bank, tmp_path, buffering):
        """
        An open FIFO is sent as its bytes come, without a waiting thread.
        """
        path = tmp_path / "x"
        os.mkfifo(path)
        fd = os.open(path, os.O_RDWR)
        try:
            with path.open("rb", buffering) as file:
                uploading = asyncio.create_task(
                    bank.session(S).upload(file, filename="x.pdf")
                )
                for start in range(0, len(PDF), 5):
                    await asyncio.sleep(0.01)
                    os.write(fd, PDF[start : start + 5])
                assert not uploading.done()
                os.close(fd)
                fd = None
                await uploading
        finally:
            if fd is not None:
                os.close(fd)

        assert taken[0].form["file"] == ("x.pdf", PDF)

    async def test_an_open_fifo_that_says_nothing(
        self, vendor, taken, bank, tmp_path
    ):
        """
        A cancel ends the wait; later bytes belong to the caller.
        """
        path = tmp_path / "x"
        os.mkfifo(path)
        fd = os.open(path, os.O_RDWR)
        try:
            with path.open("rb") as file:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await bank.session(S).upload(file)
                os.write(fd, PDF)
                os.close(fd)
                fd = None
                assert await asyncio.to_thread(file.read) == PDF
        finally:
            if fd is not None:
                os.close(fd)

    async def test_a_file_whose_methods_are_coroutines(
        self, taken, bank, tmp_path
    ):
        """
        An async file is read from its position, also for a retry.
        """
        path = tmp_path / "x.pdf"
        path.write_bytes(b"skipped" + PDF)
        with path.open("rb") as file:
            file.seek(7)
            await bank.session(S).upload(Awaited(file))
            file.seek(7)
            await bank.upload(Awaited(file), link_id="c")
            await bank.entity(E).upload(Awaited(file, "read"), filename="y")

        assert [each.form["file"] for each in taken] == [
            ("x.pdf", PDF),
            ("x.pdf", PDF),
            ("y", b""),
        ]
        assert "content-length" in taken[0].headers
        assert "content-length" not in taken[2].headers

    async def test_a_stream_of_bytes(self, taken, bank):
        """
        A stream without seek is read once.
        """
        stream = asyncio.StreamReader()
        stream.feed_data(PDF)
        stream.feed_eof()

        await bank.session(S).upload(stream)

        assert taken[0].form["file"] == ("statement.pdf", PDF)

    async def test_a_file_that_gives_awaitables(self, taken, bank):
        """
        An awaitable result of `read` is awaited.
        """

        class Disguised:
            def __init__(self):
                self.pieces = [PDF, b""]

            def read(self, _):
                return self.later()

            async def later(self):
                return self.pieces.pop(0)

        await bank.session(S).upload(Disguised())

        assert taken[0].form["file"] == ("statement.pdf", PDF)

    async def test_what_a_web_framework_received(self, taken, bank):
        """
        A wrapped upload is unwrapped so that it can be sent again.
        """

        class UploadFile:
            """Starlette's `UploadFile`."""

            def __init__(self):
                self.file = io.BytesIO(PDF)
                self.filename = "x.pdf"

            async def read(self, size=-1):
                return self.file.read(size)

            async def seek(self, offset):
                self.file.seek(offset)

        field = web.FileField("file", "x.pdf", io.BytesIO(PDF), "", {})

        await bank.session(S).upload(UploadFile())
        await bank.session(S).upload(field)

        assert [each.form["file"] for each in taken] == [FILE] * 2
        assert all("content-length" in each.headers for each in taken)

    @pytest.mark.parametrize("kind", ["raises", "texts", "closed"])
    async def test_a_file_that_fails_in_a_way_of_its_own(
        self, taken, bank, kind
    ):
        """
        An error of the file is reported as the file's.
        """

        class OwnError(Exception):
            pass

        class Failing:
            async def read(self, _):
                if kind == "raises":
                    raise OwnError("the store is down")
                return "text"

        file = Failing()
        if kind == "closed":
            file = io.BytesIO(PDF)
            file.close()

        with pytest.raises(InvalidRequestError, match="file: cannot be read"):
            await bank.session(S).upload(file)

        assert taken == []

    async def test_that_gives_texts(self, taken, bank):
        """
        A file in text mode is refused at the first piece.
        """
        with pytest.raises(InvalidRequestError, match="bytes-like"):
            await bank.session(S).upload(Worded())

        assert taken == []

    @pytest.mark.parametrize("kind", ["shrinks", "breaks"])
    async def test_that_fails_on_the_way(self, taken, bank, tmp_path, kind):
        """
        A file that fails in the middle has a clear error.
        """

        class Failing(io.BytesIO):
            def read(self, size=-1, /):
                if kind == "breaks":
                    raise OSError(5, "the disk is on fire")
                return super().read(size)[:1] if not self.tell() else b""

        with pytest.raises(InvalidRequestError) as caught:
            await bank.session(S).upload(
                Failing(PDF), retry=RetryPolicy(attempts=1)
            )

        (problem,) = caught.value.fields["file"]
        assert ("fire" if kind == "breaks" else "shorter") in problem
        assert caught.value.delivery is Delivery.AMBIGUOUS


SESSION_REFUSALS = {
    "SESSION_EXPIRED": SessionExpiredError,
    "SESSION_NOT_FOUND": NotFoundError,
    "MISSING_FILE_OBJECT": StatementError,
    "INVALID_FILE_OBJECT": StatementError,
    "EMPTY_FILE": StatementError,
    "INVALID_FILE_URL": StatementError,
    "INVALID_BASE_64": StatementError,
    "PASSWORD_INCORRECT": PasswordIncorrectError,
    "PDF_IS_IMAGE": UnparsableStatementError,
    "STATEMENT_UNSUPPORTED_FORMAT": UnsupportedStatementError,
    "STATEMENT_DUPLICATE": DuplicateStatementError,
    "OUT_OF_DATE_RANGE": OutOfDateRangeError,
    "BANK_NAME_UNDETECTED": BankNotDetectedError,
    "BANK_NAME_MISMATCH": BankMismatchError,
    "INVALID_ACCOUNT_CATEGORY": BadRequestError,
}
ENTITY_REFUSALS = {
    "bank_mismatch": BankMismatchError,
    "bank_undetected": BankNotDetectedError,
    "not_parsable": UnparsableStatementError,
    "password_incorrect": PasswordIncorrectError,
    "password_incorrect.seed": PasswordIncorrectError,
    "unsupported_columns": UnsupportedStatementError,
    "field_required": BadRequestError,
    "invalid_bank_name": BadRequestError,
}


class TestRefusals:
    """
    Statements that the vendor refuses
    """

    @pytest.mark.parametrize("code", SESSION_REFUSALS)
    async def test_in_the_session_flow(self, vendor, bank, code):
        """
        Each code has an error class of its own and is not retried.
        """
        body = {"error": {"code": code, "message": "m"}, "session_id": S}
        vendor.say(INTO_SESSION, (400, body))

        with pytest.raises((BadRequestError, NotFoundError)) as caught:
            await bank.session(S).upload(PDF)

        assert type(caught.value) is SESSION_REFUSALS[code]
        assert caught.value.code == code
        assert len(vendor.requests) == 1

    @pytest.mark.parametrize("name", ENTITY_REFUSALS)
    async def test_in_the_entity_flow(self, vendor, bank, sample, name):
        """
        Each number has an error class with the entity's id.
        """
        said = sample(f"error.upload.entity.{name}.json")
        vendor.say(BY_BANK, (400, said))

        with pytest.raises(BadRequestError) as caught:
            await bank.upload(PDF, link_id="c", bank_name="axis")

        assert type(caught.value) is ENTITY_REFUSALS[name]
        assert caught.value.entity_id == (
            E if issubclass(type(caught.value), StatementError) else None
        )

    @pytest.mark.parametrize(
        ("message", "cls"),
        [
            ("Password incorrect", PasswordIncorrectError),
            ("Not axis statement", BankMismatchError),
            (
                "Unable to detect bank. Please provide BANK NAME.",
                BankNotDetectedError,
            ),
            ("PDF is not parsable", UnparsableStatementError),
            ("Something else", StatementError),
        ],
    )
    def test_of_2020_are_told_by_their_words(self, message, cls):
        """
        Without numbers the text decides the error class.
        """
        body = b'{"entity_id": "e", "message": "%s"}' % message.encode()

        assert type(error_from_response(400, body)) is cls
        numbered = b'{"status": 99,' + body[1:]
        assert type(error_from_response(400, numbered)) is StatementError

    async def test_of_an_expired_trial(self, vendor, bank, sample):
        """
        402 is a payment error in both flows.
        """
        for flow, path in (("entity", BY_BANK), ("session", INTO_SESSION)):
            said = sample(f"error.upload.{flow}.trial_expired.json")
            vendor.say(path, (402, said))

        with pytest.raises(PaymentRequiredError):
            await bank.upload(PDF, link_id="c", bank_name="axis")
        with pytest.raises(PaymentRequiredError):
            await bank.session(S).upload(PDF)


async def hang_up(request):
    """Break the connection without a response."""
    request.transport.abort()
    return web.Response()


class TestTwice:
    """
    Uploads that may have arrived
    """

    DUPLICATE = (
        400,
        {
            "error": {"code": "STATEMENT_DUPLICATE", "message": "m"},
            "session_id": S,
            "statement_id": "st",
        },
    )

    @pytest.mark.parametrize("first", [hang_up, (500, {}), (200, b"<html>")])
    async def test_are_repeated_whole(self, vendor, bank, sample, first):
        """
        The second attempt sends the same file from its beginning.
        """
        said = sample("upload.session.response.json")
        vendor.say(INTO_SESSION, first, (200, said))
        file = io.BytesIO(b"skipped" + PDF)
        file.seek(7)

        uploaded = await bank.session(S).upload(file, filename="x.pdf")

        assert uploaded.page_count == 17
        assert [each.form["file"] for each in vendor.requests] == [FILE] * 2

    async def test_are_not_at_most_once(self, vendor, bank):
        """
        At-most-once raises the ambiguous failure.
        """
        vendor.say(INTO_SESSION, hang_up)

        with pytest.raises(ConnectionLostError) as caught:
            await bank.session(S).upload(
                PDF, retry=RetryPolicy(delivery="at-most-once")
            )

        assert caught.value.delivery is Delivery.AMBIGUOUS
        assert len(vendor.requests) == 1

    async def test_pipes_are_sent_once(self, vendor, bank):
        """
        A retry never sends half a file.
        """
        vendor.say(INTO_SESSION, (500, {}))

        with pytest.raises(ServerError):
            await bank.session(S).upload(Pipe(PDF))

        assert len(vendor.requests) == 1

    async def test_a_lost_answer_is_no_duplicate(self, vendor, bank):
        """
        A duplicate after an ambiguous attempt means success.
        """
        vendor.say(INTO_SESSION, hang_up, self.DUPLICATE)

        uploaded = await bank.session(S).upload(PDF)

        assert uploaded.repeated
        assert (uploaded.session_id, uploaded.statement_id) == (S, "st")

    async def test_a_duplicate_of_the_callers_is_told(self, vendor, bank):
        """
        A duplicate at the first attempt is an error.
        """
        vendor.say(INTO_SESSION, self.DUPLICATE)

        with pytest.raises(DuplicateStatementError):
            await bank.session(S).upload(PDF)

    async def test_an_attempt_that_was_turned_away_explains_nothing(
        self, vendor, bank
    ):
        """
        A duplicate after a 429 is an error.
        """
        vendor.say(INTO_SESSION, (429, {}), self.DUPLICATE)

        with pytest.raises(DuplicateStatementError):
            await bank.session(S).upload(PDF)


def slow_server(pause, *, stop_after=None):
    """
    Make a socket whose other end reads slowly.

    Returns its base URL, and a function that ends it.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    over = threading.Event()

    def run():
        connection, _ = listener.accept()
        with connection:
            read, piece = 0, b" "
            while piece and not piece.endswith(b"--\r\n"):
                if stop_after is not None and read > stop_after:
                    over.wait()
                    return
                piece = connection.recv(65_536)
                read += len(piece)
                over.wait(pause)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n"
                b'{"statement_id": "s"}'
            )

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end():
        over.set()
        listener.close()
        thread.join(10)

    port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/bank-connect", end


class TestEarlyAnswers:
    """
    Servers that respond before the end of the upload
    """

    @pytest.mark.parametrize("kind", ["path", "file", "coroutines"])
    async def test_one_reader_at_a_time(self, raw_server, tmp_path, kind):
        """
        An attempt that was answered early reads no more when the next one
        begins: each sends the file from its beginning.
        """
        content = random.Random(7).randbytes(3_000_000)
        path = tmp_path / "x.pdf"
        path.write_bytes(content)
        bodies = []

        async def serve(server, reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split()[0])
            if server.connections == 1:
                bodies.append(await reader.readexactly(200_000))
                writer.write(
                    b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n"
                )
                await writer.drain()
                await reader.read()
                return
            bodies.append(await reader.readexactly(length))
            body = b'{"statement_id": "s"}'
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            await writer.drain()

        async with (
            raw_server(serve) as server,
            AsyncBankConnect(
                "key",
                base_url=server.base_url,
                retry=RetryPolicy(wait_initial=0),
            ) as bank,
        ):
            with path.open("rb") as file:
                source = {
                    "path": path,
                    "file": file,
                    "coroutines": Awaited(file),
                }[kind]
                uploaded = await bank.session(S).upload(source)

        assert uploaded.statement_id == "s"
        assert content[:100_000] in bodies[0]
        assert content in bodies[1]


class TestTime:
    """
    Slow uploads
    """

    async def test_may_take_as_long_as_bytes_flow(self):
        """
        The read timeout counts from the last byte sent.
        """
        base_url, end = slow_server(0.02)
        loop = asyncio.get_running_loop()
        try:
            async with AsyncBankConnect(
                "key", base_url=base_url, timeouts=Timeouts(read=0.5)
            ) as bank:
                began = loop.time()
                uploaded = await bank.session(S).upload(bytes(1_500_000))
                took = loop.time() - began
        finally:
            end()

        assert uploaded.statement_id == "s"
        # Else this proves nothing.
        assert took > 0.5

    async def test_may_not_stand_still(self):
        """
        A server that stops reading makes the upload ambiguous.
        """
        base_url, end = slow_server(0, stop_after=100_000)
        try:
            async with AsyncBankConnect(
                "key", base_url=base_url, timeouts=Timeouts(read=0.2)
            ) as bank:
                with pytest.raises(RequestTimeoutError) as caught:
                    await bank.session(S).upload(
                        bytes(20_000_000), retry=RetryPolicy(attempts=1)
                    )
        finally:
            end()

        assert caught.value.delivery is Delivery.AMBIGUOUS


class TestSecrecy:
    """
    Statements and their passwords
    """

    @pytest.mark.parametrize("flow", ["session", "entity", "link"])
    @pytest.mark.parametrize(
        "way", ["refused", "lost", "faulty", "doubled", "text"]
    )
    async def test_show_nowhere(self, vendor, bank, way, flow):
        """
        No error shows password or file, even in a traceback with locals.
        """
        answer = hang_up if way == "lost" else (400, {"error": {}})
        for path in (INTO_SESSION, BY_BANK, "statement/upload_base64/"):
            vendor.say(path, answer)
        error = await attempt(upload_of(bank, flow), way)

        assert "canary" not in with_locals(error)

    @pytest.mark.parametrize("flow", ["session", "entity", "link"])
    @pytest.mark.parametrize("source", ["file", "url", "base64"])
    async def test_show_nowhere_when_cancelled(
        self, vendor, bank, flow, source
    ):
        """
        The caller's timeout shows neither password nor file nor link.
        """
        release = asyncio.Event()

        async def stall(_):
            await release.wait()
            return web.Response()

        for path in (
            INTO_SESSION,
            BY_BANK,
            "statement/upload_base64/",
        ):
            vendor.say(path, stall)
        try:
            error = await attempt_wrongly(
                upload_of(bank, flow), source, seconds=0.2
            )
        finally:
            release.set()

        assert isinstance(error, TimeoutError)
        assert "canary" not in with_locals(error)

    @pytest.mark.parametrize("flow", ["session", "entity", "link"])
    @pytest.mark.parametrize("wrong", ["typo", "retry"])
    async def test_show_nowhere_beside_wrong_arguments(
        self, bank, flow, wrong
    ):
        """
        A `TypeError` shows none of the other arguments.
        """
        error = await attempt_wrongly(
            upload_of(bank, flow), "file", **{wrong: 3}
        )

        assert isinstance(error, TypeError)
        assert wrong in str(error)
        assert "canary" not in with_locals(error)

    async def test_options_of_another_flow(self, bank):
        """
        An entity has no category of an account.
        """
        with pytest.raises(TypeError, match="account_category"):
            await bank.upload(b"%PDF", link_id="c", account_category="SAVINGS")

    async def test_unknown_option(self, bank):
        """
        An option that does not exist is refused like any wrong argument.
        """
        with pytest.raises(TypeError, match="bank_nam"):
            await bank.upload(b"%PDF", link_id="c", bank_nam="axis")

    def test_forms_have_no_telling_repr(self):
        """
        A form in a debugger shows neither.
        """
        statement = prepare(
            None,
            {"session_id": "canary"},
            b"canary",
            filename="canary.pdf",
            pdf_password="canary",
            retry=RetryPolicy(),
        )
        form = Form(statement.fields, statement.source)

        assert "canary" not in repr((form, statement, statement.source))


class Faulty(io.BytesIO):
    """
    A file whose second half cannot be read.
    """

    def read(self, size=-1, /):
        if self.tell() > 100_000:
            raise OSError(5, "a bad sector")
        return super().read(size)


def upload_of(bank, flow):
    """Return the method that uploads in a flow."""
    return {
        "session": bank.session(S).upload,
        "entity": bank.entity(E).upload,
        "link": functools.partial(bank.upload, link_id="c"),
    }[flow]


def with_locals(error):
    """Format a traceback as tools for errors do, with all locals."""
    return "".join(
        traceback.TracebackException.from_exception(
            error, capture_locals=True
        ).format()
    )


SOURCES = {
    "file": ((b"canary",), {}),
    "url": ((), {"url": "https://files.example/?canary"}),
    "base64": ((), {"base64": "canary"}),
}


async def attempt_wrongly(upload, source, *, seconds=5, **options):
    """Upload with no secret in this frame, and return what it raises."""
    try:
        async with asyncio.timeout(seconds):
            await upload(
                *SOURCES[source][0],
                bank_name="axis",
                pdf_password="canary",
                **SOURCES[source][1],
                **options,
            )
    except (TimeoutError, TypeError) as error:
        return error
    raise AssertionError("it went well")


async def attempt(upload, way):
    """Upload outside every frame of a test."""
    files = {
        "faulty": lambda: Faulty(b"canary" * 50_000),
        "doubled": lambda: b"canary",
        "text": lambda: None,
    }
    open_ = files.get(way, lambda: io.BytesIO(b"canary" * 50_000))
    try:
        await upload(
            open_(),
            base64="canary" if way in {"doubled", "text"} else None,
            bank_name="axis",
            pdf_password="canary",
            retry=RetryPolicy(attempts=1),
        )
    except BankConnectError as error:
        return error
    raise AssertionError("it went well")


async def test_base64_of_a_megabyte(taken, bank):
    """
    A long text is sent in pieces without an aiohttp warning.
    """
    text = base64.b64encode(bytes(1_500_000)).decode()

    await bank.session(S).upload(base64=text)

    assert taken[0].form["file"] == text
    assert taken[0].form["upload_type"] == "BASE64"
