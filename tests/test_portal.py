"""
Synchronous code calls coroutines in the loop of a portal.
"""

import asyncio
import contextlib
import contextvars
import errno
import signal
import sys
import threading

from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from bankconnect_async import AsyncBankConnect, BlockingPortal
from bankconnect_async.sandbox import Sandbox


@contextlib.asynccontextmanager
async def noted(notes, name):
    """Note when it is entered and left."""
    notes.append(f"+{name}")
    yield
    notes.append(f"-{name}")


@pytest.fixture(name="portal")
def _portal():
    """Return a portal without resources."""
    portal = BlockingPortal()
    yield portal
    portal.close()


def test_one_pool():
    """
    Calls of several threads share the connections of one client.
    """
    sandbox = Sandbox()
    with BlockingPortal(sandbox):
        bank = AsyncBankConnect(
            sandbox.api_key,
            base_url=sandbox.base_url,
            redirect_url="https://lender.example",
        )
        with BlockingPortal(bank) as portal, ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda link_id: portal.call(bank.create_session, link_id),
                    [f"customer-{number}" for number in range(20)],
                )
            )
            assert bank.stats().connections_opened <= 2
        assert len(sandbox.sessions) == 20
        with pytest.raises(RuntimeError, match="the portal is closed"):
            portal.call(bank.create_session, "customer-42")


def test_arguments_and_errors(portal):
    """
    The call gets its arguments and the caller's context, and raises.
    """
    name = contextvars.ContextVar("name")

    async def work(value, *, fails=False):
        if fails:
            raise ValueError(value)
        return value, name.get(), threading.current_thread()

    name.set("ours")
    value, context, thread = portal.call(work, 42)

    assert (value, context) == (42, "ours")
    assert thread is not threading.current_thread()
    assert portal.call(work, 43)[2] is thread
    with pytest.raises(ValueError, match="lost"):
        portal.call(work, "lost", fails=True)


def test_resources():
    """
    Resources are entered at the first call and left in reverse order.
    """
    notes = []
    portal = BlockingPortal(noted(notes, "a"), noted(notes, "b"))
    assert not notes
    portal.call(asyncio.sleep, 0)
    assert notes == ["+a", "+b"]
    portal.close()
    portal.close()

    assert notes == ["+a", "+b", "-b", "-a"]


def test_failing_start():
    """
    A resource that cannot be entered raises in the caller; the next call
    tries again.
    """
    errors = [OSError("not yet")]

    class Resource:
        async def __aenter__(self):
            if errors:
                raise errors.pop()

        async def __aexit__(self, *_):
            pass

    with contextlib.closing(BlockingPortal(Resource())) as portal:
        with pytest.raises(OSError, match="not yet"):
            portal.start()
        assert portal.call(asyncio.sleep, 0, "done") == "done"


def test_no_loop(portal, monkeypatch):
    """
    If the system has no descriptor left for a loop, the caller is told, and
    the next call tries again.
    """

    def fail():
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events, "new_event_loop", fail)
        with pytest.raises(OSError, match="too many open files"):
            portal.start()
    assert portal.call(asyncio.sleep, 0, "done") == "done"


def test_failing_end():
    """
    An error of a resource that is left comes out of `close`.
    """

    class Resource:
        async def __aenter__(self):
            pass

        async def __aexit__(self, *_):
            raise OSError("left badly")

    portal = BlockingPortal(Resource())
    portal.start()
    with pytest.raises(OSError, match="left badly"):
        portal.close()


def test_first_calls_at_the_same_time():
    """
    Threads whose first calls come at the same time start one loop.
    """
    notes = []
    with (
        contextlib.closing(BlockingPortal(noted(notes, "a"))) as portal,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda _: portal.call(asyncio.sleep, 0), range(8)))
        assert notes == ["+a"]


@pytest.mark.parametrize("method", ["start", "close", "call"])
def test_in_its_own_loop(portal, method):
    """
    A call from the portal's own loop says that it would wait for itself.
    """

    async def work():
        arguments = (asyncio.sleep, 0) if method == "call" else ()
        getattr(portal, method)(*arguments)

    with pytest.raises(RuntimeError, match="await the coroutine"):
        portal.call(work)
    assert portal.call(portal.acall, asyncio.sleep, 0, "done") == "done"


async def test_from_another_loop(portal):
    """
    A coroutine of another loop waits without blocking it.
    """
    begun, ended = threading.Event(), threading.Event()

    async def work():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    assert await portal.acall(asyncio.sleep, 0, "done") == "done"
    task = asyncio.create_task(portal.acall(work))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await asyncio.to_thread(ended.wait, 10)


def test_ctrl_c(portal):
    """
    Ctrl-C cancels the call, and waits until it has cleaned up.
    """
    notes = []

    async def work():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            notes.append("clean")

    with pytest.raises(KeyboardInterrupt):
        portal.call(work)

    assert notes == ["clean"]
    assert portal.call(asyncio.sleep, 0, "done") == "done"


def test_close_during_a_call(portal):
    """
    A call in flight has the grace to end.
    """
    begun = threading.Event()

    async def work():
        begun.set()
        await asyncio.sleep(0.02)
        return "done"

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(portal.call, work)
        assert begun.wait(10)
        portal.close()
        assert calling.result() == "done"


def test_close_without_grace(portal):
    """
    A call that is too slow is cancelled, which is an `Exception` for its
    caller.
    """
    begun = threading.Event()

    async def work():
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(portal.call, work)
        assert begun.wait(10)
        portal.close(grace=0)
        assert type(calling.exception()) is CancelledError


def test_system_exit(portal):
    """
    A `SystemExit` of a call ends its caller, and no other call.
    """

    async def leave():
        raise SystemExit(3)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(portal.call, asyncio.sleep, 0.05, "done")
        with pytest.raises(SystemExit):
            portal.call(leave)
        assert waiting.result(10) == "done"


def test_loop_that_a_callback_ends(portal):
    """
    If a callback ends the loop, no call waits, and the next one starts
    another loop.
    """

    async def end_loop():
        asyncio.get_running_loop().call_soon(sys.exit)
        await asyncio.Event().wait()

    with pytest.raises(CancelledError):
        portal.call(end_loop)
    assert portal.call(asyncio.sleep, 0, "done") == "done"


END = """
import asyncio, contextlib
from bankconnect_async import AsyncBankConnect, BlockingPortal
from bankconnect_async.sandbox import Sandbox

@contextlib.asynccontextmanager
async def resource():
    await asyncio.to_thread(int)
    yield
    await asyncio.to_thread(print, "left")

sandbox = Sandbox()
server = BlockingPortal(sandbox)
server.start()
bank = AsyncBankConnect(
    sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
)
portal = BlockingPortal(resource(), bank)
print(portal.call(bank.create_session, "customer-42").link_id)
"""


def test_end_of_the_program(run_program):
    """
    A portal that nobody closes leaves its resources at the end of the
    program, while threads can be used.
    """
    assert run_program(END) == "customer-42\nleft\n"


FORK = """
import os, sys, warnings
with warnings.catch_warnings(action="ignore"):
    pid = os.fork()
name = "parent" if pid else "child"
for number in range(3):
    link_id = f"{name}-{number}"
    assert portal.call(bank.create_session, link_id).link_id == link_id
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    assert len(sandbox.sessions) == 7
    print("both")
"""


def test_fork(run_program):
    """
    A forked child gets a loop of its own, and the parent keeps its own.
    """
    text = END.replace('print, "left"', "int").replace("resource(), ", "")
    assert run_program(text + FORK).splitlines()[-1] == "both"


SERVICE = """
import os, sys, warnings
from bankconnect_async import AsyncBankConnect, BlockingPortal, open_store
from bankconnect_async.web import CallbackProtocol, CallbackService, WebRequest

async def on_event(event):
    print(name, event.entity_id, flush=True)

def post(entity_id):
    request = WebRequest(
        method="POST",
        path=protocol.webhook_url.removeprefix("https://lender.example"),
        headers={"Content-Type": "application/json"},
        body=b'{"progress": "completed", "entity_id": "%s"}' % entity_id,
    )
    assert portal.call(service.handle_webhook, request).status == 200

store = open_store(sys.argv[1])
bank = AsyncBankConnect(
    "key", server_hash="hash", redirect_url=None, store=store
)
protocol = CallbackProtocol("https://lender.example/bank", secret="s" * 32)
service = CallbackService(bank, protocol, on_event=on_event)
portal = BlockingPortal(store, bank, service)
name = "parent"
post(b"e-1")
with warnings.catch_warnings(action="ignore"):
    pid = os.fork()
if pid == 0:
    name = "child"
    post(b"e-2")
else:
    assert os.waitpid(pid, 0)[1] == 0
    post(b"e-3")
"""


def test_fork_of_a_service(run_program, tmp_path):
    """
    A service that was started before a fork works in both processes.
    """
    printed = run_program(SERVICE, tmp_path / "store.sqlite").splitlines()

    assert [line.split()[1] for line in printed] == ["e-1", "e-2", "e-3"]
