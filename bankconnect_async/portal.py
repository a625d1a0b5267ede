"""
Calls from synchronous code into one event loop, in a thread of its own.
"""

import asyncio
import atexit
import functools
import os
import threading

from collections.abc import Awaitable, Callable, Coroutine
from concurrent import futures
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar

import attrs


P = ParamSpec("P")
T = TypeVar("T")


@attrs.define(eq=False)
class _Call(Generic[T]):
    """
    A call that a thread has submitted.

    Attributes:
        coroutine: The coroutine that the loop runs.
        done: The future of the task, resolved when the task has ended.
        task: The task, once it has begun.
    """

    coroutine: "Coroutine[Any, Any, T | _Exit]" = attrs.field(repr=False)
    done: "Future[asyncio.Task[T | _Exit]]" = attrs.field(
        init=False, factory=Future
    )
    task: "asyncio.Task[T | _Exit] | None" = attrs.field(
        init=False, default=None
    )

    def begin(self) -> None:
        """Begin the task; the loop calls this."""
        if not self.done.set_running_or_notify_cancel():
            self.coroutine.close()
            return
        self.task = asyncio.get_running_loop().create_task(self.coroutine)
        self.task.add_done_callback(self.done.set_result)

    def cancel(self) -> None:
        """Cancel the task; the loop calls this."""
        if self.task is not None:
            self.task.cancel()
        else:
            # `begin` will find it cancelled, if it comes at all.
            self.done.cancel()
            self.coroutine.close()

    def abandon(self) -> None:
        """End a call whose loop has ended."""
        if self.task is None:
            self.coroutine.close()
        if not self.done.done():
            self.done.set_exception(CancelledError())


@attrs.frozen
class _Exit:
    """
    The result of a call that raised an error which would end the loop.

    Attributes:
        error: The error.
    """

    error: SystemExit | KeyboardInterrupt


def _result_of(task: "asyncio.Task[T | _Exit]") -> T:
    # `asyncio.CancelledError` is no `Exception`: it would end a caller that
    # nobody cancelled, such as a worker of a server.
    if task.cancelled():
        raise CancelledError
    result = task.result()
    if isinstance(result, _Exit):
        raise result.error
    return result


class _LoopThread:
    """
    A thread with an event loop, and the resources that are open in it.

    Args:
        resources: The context managers to enter, in order.
    """

    def __init__(
        self, resources: tuple[AbstractAsyncContextManager[Any], ...]
    ) -> None:
        self._resources = resources
        self._lock = threading.Lock()
        self._calls: set[_Call[Any]] = set()
        self._is_stopped = False
        self._error: BaseException | None = None
        self._started: Future[None] = Future()
        # A portal that nobody closes does not keep the interpreter alive.
        self._thread: Final = threading.Thread(
            target=self._run, name="bankconnect-portal", daemon=True
        )

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return self._thread.ident == threading.get_ident()

    @property
    def is_running(self) -> bool:
        """Whether the resources are entered, and calls are taken."""
        return self._started.done() and not self._is_stopped

    def start(self) -> None:
        """Start the loop, and wait until the resources are entered."""
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            # After Ctrl-C, they may still be entered.
            self._started.add_done_callback(self._stop_unused)
            raise

    def _stop_unused(self, started: "Future[Any]") -> None:
        if started.exception() is None:
            self.stop(0)

    def submit(self, call: _Call[Any]) -> None:
        """Begin a call in the loop."""
        call.done.add_done_callback(lambda _: self._calls.discard(call))
        with self._lock:
            if self._is_stopped:
                call.coroutine.close()
                raise RuntimeError("the portal is closed")
            self._calls.add(call)
            self._loop.call_soon_threadsafe(call.begin)

    def cancel(self, call: _Call[Any]) -> None:
        """Cancel a call, unless it is done or was never submitted."""
        if call in self._calls:
            # The loop may have been closed meanwhile.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call.cancel)

    def wait(self, call: _Call[Any]) -> None:
        """Wait until a call is done, unless it was never submitted."""
        if call in self._calls:
            futures.wait([call.done])

    def stop(self, grace: float) -> None:
        """
        Begin to stop.

        Args:
            grace: The seconds for calls in flight; then they are cancelled.
        """
        with self._lock:
            if not self._is_stopped:
                self._is_stopped = True
                self._loop.call_soon_threadsafe(self._set_stopping, grace)

    def _set_stopping(self, grace: float) -> None:
        # A task may have ended the loop by a `SystemExit`.
        if not self._stopping.done():
            self._stopping.set_result(grace)

    def join(self) -> BaseException | None:
        """Wait until the thread has ended, and return its error."""
        self._thread.join()
        return self._error

    def _run(self) -> None:
        try:
            self._run_loop()
        except OSError as exc:
            # Too many files are open for another loop.
            self._error = exc
        for call in tuple(self._calls):
            call.abandon()
        if not self._started.done():
            self._started.set_exception(self._error or CancelledError())

    def _run_loop(self) -> None:
        # A task may end the loop by a `SystemExit`. A `RuntimeError` comes at
        # the end of the program, when no thread can be started that would
        # wait for those of the executor.
        with suppress(SystemExit, RuntimeError), asyncio.Runner() as runner:
            try:
                runner.run(self._main())
            finally:
                with self._lock:
                    self._is_stopped = True

    async def _main(self) -> None:
        serving = asyncio.create_task(self._serve())
        await asyncio.wait([serving])
        self._error = serving.exception()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = self._loop.create_future()
        # This imports the module of executors, whose exit hook has to be
        # registered before that of portals.
        self._loop.set_default_executor(
            ThreadPoolExecutor(thread_name_prefix="bankconnect-portal")
        )
        async with AsyncExitStack() as stack:
            for resource in self._resources:
                await stack.enter_async_context(resource)
            self._started.set_result(None)
            grace = await self._stopping
            await self._finish(grace)
            for call in tuple(self._calls):
                call.cancel()
            await self._finish(grace)

    async def _finish(self, grace: float) -> None:
        tasks = [call.task for call in tuple(self._calls) if call.task]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)


@attrs.define(eq=False)
class _LoopOwner:
    """
    Starts and ends the loop of a portal, one in each process.

    Attributes:
        resources: The context managers to enter, in order.
    """

    resources: tuple[AbstractAsyncContextManager[Any], ...] = attrs.field(
        repr=False
    )
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    _thread: _LoopThread | None = attrs.field(init=False, default=None)
    _is_closed: bool = attrs.field(init=False, default=False)

    @property
    def running(self) -> _LoopThread | None:
        """The thread, if it takes calls."""
        thread = self._thread
        return None if thread is None or not thread.is_running else thread

    def check_caller(self) -> None:
        """Refuse to wait for the loop in the loop itself."""
        if self._thread is not None and self._thread.is_current:
            raise RuntimeError(
                "the portal would wait for itself: await the coroutine, as "
                "this code runs in the portal's own loop"
            )

    def start(self) -> _LoopThread:
        """Return the thread, and start it if necessary."""
        self.check_caller()
        running = self.running
        if running is not None:
            return running
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the portal is closed")
            # Another caller may have started it meanwhile.
            running = self.running
            if running is None:
                if self._thread is not None:
                    self._thread.join()
                _register_exit_hook()
                _OPEN.add(self)
                self._thread = running = _LoopThread(self.resources)
                try:
                    running.start()
                except BaseException:
                    self._thread = None
                    raise
            return running

    def close(self, grace: float) -> None:
        """End the thread, if there is one, and start no other."""
        self.check_caller()
        with self._lock:
            self._is_closed = True
            thread, self._thread = self._thread, None
            _OPEN.discard(self)
        if thread is not None:
            thread.stop(grace)
            error = thread.join()
            if error is not None:
                raise error

    def note_fork(self) -> None:
        """Start another thread in a child process, if necessary."""
        # A lock that another thread of the parent held stays locked.
        self._lock = threading.Lock()
        if self._thread is not None:
            _INHERITED.append(self._thread)
            self._thread = None


# Loops that were started and not ended.
_OPEN: Final[set[_LoopOwner]] = set()
# Loops that a child process inherited. Closing one would take the parent's
# sockets out of the epoll set that both share.
_INHERITED: Final[list[_LoopThread]] = []
_GRACE: Final = 10.0


def _note_fork() -> None:
    for owner in _OPEN:
        owner.note_fork()


if hasattr(os, "register_at_fork"):  # there is none on Windows
    os.register_at_fork(after_in_child=_note_fork)


def _close_at_exit() -> None:
    for owner in tuple(_OPEN):
        owner.close(_GRACE)


@functools.cache
def _register_exit_hook() -> None:
    # At the time of `atexit`, executors take no work any more, and what a
    # callback still has to do in a thread would fail.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(_close_at_exit)


async def _await(
    function: Callable[..., Awaitable[T]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> T | _Exit:
    try:
        return await function(*args, **kwargs)
    except (SystemExit, KeyboardInterrupt) as exc:
        return _Exit(exc)


class BlockingPortal:
    """
    Runs coroutines for synchronous code, all of them in one event loop.

    ::

        bank = AsyncBankConnect.from_env()
        portal = BlockingPortal(bank)


        def connect(request):
            session = portal.call(bank.create_session, request.user.link_id)
            return redirect(session.url)

    So a service under WSGI, a Celery worker or a script uses one client, and
    thereby one pool of connections, in all its calls and threads. The loop
    runs in a thread of its own, from the first call until `close` or the end
    of the program. A process that was forked meanwhile starts a loop of its
    own with its first call. The portal is a context manager, sync and async.

    Args:
        *resources: The async context managers, such as a client and a
            `CallbackService`, that are entered in this order when the loop
            starts, and left in reverse order when it ends.
    """

    def __init__(self, *resources: AbstractAsyncContextManager[Any]) -> None:
        self._owner: Final = _LoopOwner(resources)

    def start(self) -> None:
        """
        Start the loop and enter the resources, unless it runs already.

        The first call does so, too.

        Raises:
            RuntimeError: If the portal is closed.
            Exception: What the entering of a resource raises; the next call
                tries again.
        """
        self._owner.start()

    def call(
        self,
        function: Callable[P, Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """
        Call a coroutine function in the portal's loop, and wait for it.

        Any number of threads may call at the same time. Ctrl-C cancels the
        call and waits for its end. The call sees the context variables of
        its caller.

        Args:
            function: The coroutine function.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            RuntimeError: If the portal is closed, or if the caller runs in
                the portal's loop, where it can await the coroutine.
            concurrent.futures.CancelledError: If the portal was closed
                meanwhile, or the function cancelled itself.
            Exception: What *function* raises, or what `start` raises.
        """
        thread = self._owner.start()
        call = _Call(_await(function, args, kwargs))
        try:
            thread.submit(call)
            task = call.done.result()
        except BaseException:
            thread.cancel(call)
            thread.wait(call)
            raise
        return _result_of(task)

    async def acall(
        self,
        function: Callable[P, Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """
        Call a coroutine function in the portal's loop, from any loop.

        If the caller is cancelled, so is the call.

        The arguments and errors are those of `call`.
        """
        thread = self._owner.running
        if thread is None:
            self._owner.check_caller()
            # Resources may take a while.
            thread = await asyncio.to_thread(self._owner.start)
        call = _Call(_await(function, args, kwargs))
        thread.submit(call)
        try:
            task = await asyncio.wrap_future(call.done)
        except asyncio.CancelledError:
            thread.cancel(call)
            raise
        return _result_of(task)

    def close(self, *, grace: float = _GRACE) -> None:
        """
        Leave the resources, and end the loop and its thread.

        The end of the program does so, too. A closed portal stays closed.

        Args:
            grace: The seconds for calls in flight. Slower ones are cancelled,
                and get the same time again.

        Raises:
            RuntimeError: If the caller runs in the portal's loop.
            Exception: What the leaving of a resource raises.
        """
        self._owner.close(grace)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        # Entering and leaving resources may take a while.
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)
