"""
Deadlines that fire late because the event loop stood still.
"""

import asyncio
import socketserver
import threading
import time

import pytest

from bankconnect_async import (
    AsyncBankConnect,
    Pool,
    RequestTimeoutError,
    RetryPolicy,
)


#: Longer than all of the limits, which are those of a client.
STALL = 20
CREATED = (
    b'{"redirect_url": "https://bankconnectclient.finbox.in/?session_id=1d"}'
)


class Patience(socketserver.ThreadingTCPServer):
    """
    A server in threads of its own, which answers when it is told to.

    It goes on while the event loop of the test stands still.

    Attributes:
        read: Released for each request that was read.
        answered: Released for each answer that was written.
        may_answer: Answers wait for it.
    """

    allow_reuse_address = daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        self.read = threading.Semaphore(0)
        self.answered = threading.Semaphore(0)
        self.may_answer = threading.Event()
        super().__init__(("127.0.0.1", 0), Patiently)

    @property
    def base_url(self):
        """The base URL for a client."""
        return f"http://127.0.0.1:{self.server_address[1]}/bank-connect"

    async def has_read(self, count):
        """Wait for *count* requests, without a thread."""
        while count:
            if self.read.acquire(blocking=False):
                count -= 1
            else:
                await asyncio.sleep(0)

    def answer(self, count):
        """Send *count* responses while nothing of the loop runs."""
        self.may_answer.set()
        for _ in range(count):
            self.answered.acquire()


class Patiently(socketserver.StreamRequestHandler):
    """
    Handles one connection of the server.
    """

    disable_nagle_algorithm = True

    def handle(self):
        while head := self.rfile.readline():
            length = 0
            while head != b"\r\n":
                name, _, value = head.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                head = self.rfile.readline()
            self.rfile.read(length)
            self.server.read.release()
            self.server.may_answer.wait()
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CREATED)
                + CREATED
            )
            self.server.answered.release()


@pytest.fixture(name="server")
def _server():
    """A server whose responses wait."""
    with Patience() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.may_answer.set()
        server.shutdown()
        thread.join()


@pytest.fixture(name="stall")
async def _stall(monkeypatch):
    """Make the loop see that it stood still, without the real delay."""
    loop, stood_still = asyncio.get_running_loop(), 0
    monkeypatch.setattr(loop, "time", lambda: time.monotonic() + stood_still)

    def stall():
        nonlocal stood_still
        stood_still += STALL

    return stall


def connect(server, **settings):
    """Make a client that tries everything once."""
    return AsyncBankConnect(
        "key",
        base_url=server.base_url,
        redirect_url=None,
        retry=RetryPolicy(attempts=1),
        **settings,
    )


async def create(bank, count):
    """Create sessions; return their results."""
    return await asyncio.gather(
        *(bank.create_session(f"customer-{n}") for n in range(count)),
        return_exceptions=True,
    )


def failures(found):
    """Return the errors."""
    return [each for each in found if isinstance(each, BaseException)]


async def test_an_answer_that_came_in_time_is_read_first(server, stall):
    """
    Responses that are in the sockets after a stall are no timeouts.
    """
    async with connect(server) as bank:
        calls = asyncio.create_task(create(bank, 64))
        await server.has_read(64)
        server.answer(64)
        stall()
        found = await calls

    assert failures(found) == []
    assert len(found) == 64


async def test_a_slot_that_became_free_in_time_is_taken(server, stall):
    """
    A queued call takes the slot of a response that is in a socket.
    """
    async with connect(server, pool=Pool(limit=1)) as bank:
        calls = asyncio.create_task(create(bank, 2))
        await server.has_read(1)
        server.answer(1)
        stall()
        found = await calls

    assert failures(found) == []


async def test_a_connection_that_was_made_in_time_is_used(
    server, stall, monkeypatch
):
    """
    A connection that was established during a stall is used.
    """
    loop = asyncio.get_running_loop()
    sock_connect = loop.sock_connect

    async def connect_and_stall(*args):
        stall()
        # A turn, so that the deadline fires before anything is connected.
        await asyncio.sleep(0)
        await sock_connect(*args)

    monkeypatch.setattr(loop, "sock_connect", connect_and_stall)
    server.may_answer.set()
    async with connect(server) as bank:
        found = await create(bank, 1)

    assert failures(found) == []


async def test_silence_is_a_timeout_all_the_same(server, stall):
    """
    If nothing arrived during the stall, the late deadline is a timeout.
    """
    async with connect(server) as bank:
        calls = asyncio.create_task(create(bank, 3))
        await server.has_read(3)
        stall()
        found = await calls

    assert {type(each) for each in found} == {RequestTimeoutError}
