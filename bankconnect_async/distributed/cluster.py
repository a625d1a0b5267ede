"""
A connection to a Dask cluster.
"""

import asyncio
import logging
import multiprocessing
import pickle
import pkgutil
import re
import sys

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent import futures
from contextlib import (
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Final

from dask.system import CPU_COUNT
from distributed import Client, KilledWorker, LocalCluster, Security

from bankconnect_async import __version__
from bankconnect_async._hooks import was_cancelled
from bankconnect_async._signals import TERMINAL_SIGNALS, signals_blocked
from bankconnect_async.errors import (
    BankConnectError,
    ConfigurationError,
)

from .messages import (
    HEARTBEAT,
    Assignment,
    Directive,
    Heartbeat,
    JobSpec,
    Result,
    Shard,
    unpack,
)
from .monitor import RESUME, SchedulerLostError
from .sealing import seal
from .worker import register, run_shard, shut_down


LOCAL: Final = "local"

_TIMEOUT: Final = 10.0
# Set by multiprocessing while a process that it spawned imports the program.
_STARTING: Final = "_inheriting"


class UnfitWorkerError(LookupError):
    """
    A worker cannot take part in a batch.
    """


class Cluster:
    """
    The scheduler of a cluster and its workers, for one batch.

    Args:
        client: The connection.
        spec: The batch.
    """

    def __init__(self, client: Client, spec: JobSpec) -> None:
        self._client: Any = client
        self._spec = spec
        self._registered: set[str] = set()

    async def members(self) -> set[str] | None:
        """Return the addresses of all workers; `None` without an answer."""
        with self._lost_connection_ignored():
            async with asyncio.timeout(_TIMEOUT):
                members = set(await self._client.nthreads())
                self._registered &= members
                return members
        return None

    async def send_heartbeat(
        self, address: str, directive: Directive
    ) -> Heartbeat | None:
        """Send a directive to a worker, and return its heartbeat."""
        message = {
            "spec": pickle.dumps(self._spec),
            "directive": pickle.dumps(directive),
        }
        found = None
        with self._lost_connection_ignored():
            if address in self._registered:
                answers = await self._client.scheduler.broadcast(
                    msg={"op": HEARTBEAT, **message},
                    workers=[address],
                    on_error="return_pickle",
                )
                found = answers.get(address)
            else:
                found = await self._register(address, message)
        try:
            answer = unpack(found) if isinstance(found, bytes) else None
        except (ImportError, AttributeError):
            answer = None
        if not isinstance(answer, Heartbeat | BankConnectError):
            # A worker that was restarted does not know the message.
            self._registered.discard(address)
            return None
        self._registered.add(address)
        if isinstance(answer, ConfigurationError):
            raise ConfigurationError(f"worker {address}: {answer}")
        if isinstance(answer, BankConnectError):
            raise answer
        return answer

    async def _register(self, address: str, message: dict[str, bytes]) -> Any:
        # Any worker can answer this, with or without the package.
        version = await self._run(
            address, pkgutil.resolve_name, "bankconnect_async:__version__"
        )
        if isinstance(version, ImportError | AttributeError):
            raise UnfitWorkerError("has no bankconnect_async")
        if isinstance(version, str) and version != __version__:
            raise UnfitWorkerError(f"has bankconnect-async {version}")
        found = await self._run(address, register, *message.values())
        if isinstance(found, Exception) and not isinstance(found, OSError):
            # Dask passes the text of an ImportError on, without its type.
            missing = re.search(r"No module named '(\w+)", str(found))
            raise UnfitWorkerError(
                f"has no {missing[1]}"
                if missing
                else f"cannot take part ({found})"
            )
        return found

    async def _run(
        self, address: str, function: Callable[..., Any], *args: object
    ) -> Any:
        found = await self._client.run(
            function, *args, workers=[address], on_error="return"
        )
        return found.get(address)

    async def run_shard(
        self,
        shard: Assignment,
        directive: Directive,
        *,
        key: bytes,
        lost: asyncio.Event,
    ) -> Result | None:
        """
        Run a shard on its worker.

        Args:
            shard: The shard.
            directive: The latest directive.
            key: The worker's public key.
            lost: An event that is set when the worker is lost.

        Returns:
            The result; `None` if the worker was lost.

        Raises:
            SchedulerLostError: If there is no scheduler any more.
        """
        future = self._client.submit(
            run_shard,
            self._spec,
            directive,
            Shard(
                number=shard.number,
                path=shard.path,
                sealed_rows=seal(pickle.dumps(shard.rows), key),
            ),
            # Dashboards and logs show it.
            key=f"bankconnect-{self._spec.run}-{shard.number}-{shard.attempt}",
            workers=[shard.address],
            pure=False,
        )
        running = asyncio.ensure_future(_result_of(future))
        loss = asyncio.ensure_future(lost.wait())
        try:
            await asyncio.wait(
                [running, loss], return_when=asyncio.FIRST_COMPLETED
            )
            return await running if running.done() else None
        finally:
            running.cancel()
            loss.cancel()
            await asyncio.wait([running, loss])
            if not running.cancelled():
                running.exception()
            future.release()

    async def disconnect(self, workers: Iterable[str]) -> None:
        """Shut the batch down on all workers."""
        if self._client.status == "closed":
            return
        tasks = [
            asyncio.create_task(self._shut_down(each)) for each in workers
        ]
        if tasks:
            await asyncio.wait(tasks)

    async def _shut_down(self, address: str) -> None:
        with suppress(TimeoutError, OSError, RuntimeError):
            async with asyncio.timeout(_TIMEOUT):
                await self._client.run(
                    shut_down,
                    self._spec.run,
                    workers=[address],
                    on_error="ignore",
                )

    @contextmanager
    def _lost_connection_ignored(self) -> Iterator[None]:
        try:
            yield
        except (TimeoutError, OSError):
            pass
        except RuntimeError:
            if self._client.status == "running":
                raise


@asynccontextmanager
async def connect(
    address: str, spec: JobSpec, security: Security | None
) -> AsyncIterator[Cluster]:
    """
    Connect to a cluster, or start one on this machine.

    Args:
        address: The address of the scheduler, or ``local``.
        spec: The batch.
        security: The certificates for the connection.

    Raises:
        ConfigurationError: If no scheduler answers there.
    """
    async with AsyncExitStack() as stack:
        if address == LOCAL:
            # Anybody who can talk to workers can make them run anything, and
            # every account of this machine can talk to loopback.
            security = Security.temporary()
            address = await _start_local(stack, security)
        client: Any = Client(
            address,
            asynchronous=True,
            set_as_default=False,
            timeout=_TIMEOUT,
            security=security,
        )
        try:
            await stack.enter_async_context(client)
        except (OSError, ValueError) as exc:
            await client.close()
            raise ConfigurationError(
                fields={"cluster": (f"{address}: no scheduler answers there",)}
            ) from exc
        yield Cluster(client, spec)


async def _start_local(stack: AsyncExitStack, security: Security) -> str:
    if getattr(multiprocessing.current_process(), _STARTING, False):
        # Our own worker process runs a program that has no main guard. The
        # parent reports it, once.
        raise SystemExit(1)
    if not _is_main_importable():
        raise ConfigurationError(
            fields={
                "cluster": (
                    "local: its worker processes import the program, so it "
                    "must be a file, not text on standard input",
                )
            }
        )
    local: Any = LocalCluster(
        n_workers=CPU_COUNT,
        threads_per_worker=2,
        # By default, or with none, it is port 8787 of all addresses.
        dashboard_address="127.0.0.1:0",
        # The user who ended it need not read how it goes down.
        silence_logs=logging.CRITICAL,
        asynchronous=True,
        security=security,
    )
    try:
        with _interrupts_blocked():
            await stack.enter_async_context(local)
    except RuntimeError:
        raise ConfigurationError(
            fields={
                "cluster": (
                    "local: its worker processes cannot be started: call it "
                    'below `if __name__ == "__main__":`, since they import '
                    "the program",
                )
            }
        ) from None
    return str(local.scheduler_address)


def _is_main_importable() -> bool:
    # As `multiprocessing.spawn` looks for it.
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    return main.__spec__ is not None or path is None or Path(path).is_file()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    # Processes that start now inherit this: Ctrl-C in a terminal reaches them
    # too, and they would print tracebacks. This process gets it at the end.
    with signals_blocked(TERMINAL_SIGNALS):
        if sys.platform != "win32":
            # It allows interrupts again when it is started.
            resource_tracker.ensure_running()
        with signals_blocked(TERMINAL_SIGNALS):
            yield


async def _result_of(future: Any) -> Result | None:
    try:
        result: Result = await future
    except KilledWorker:
        return None
    except (asyncio.CancelledError, futures.CancelledError):
        if was_cancelled():
            raise
        raise SchedulerLostError(
            f"not done: the scheduler was lost: {RESUME}"
        ) from None
    return result
