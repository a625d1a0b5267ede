"""
Executes operations: attempts until there is a result, and their counters.
"""

import asyncio
import functools
import logging
import os
import time

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import attrs

from bankconnect_async._hooks import HookRunner, was_cancelled
from bankconnect_async._threads import run_in_thread
from bankconnect_async.clock import Clock
from bankconnect_async.errors import (
    BankConnectError,
    ClientClosedError,
    Delivery,
    InvalidResponseError,
)
from bankconnect_async.retry import RetryBudget, RetryPolicy, parse_retry_after

from .bodies import RequestBody
from .error_mapping import map_error
from .histogram import Histogram
from .operation import OK, Operation
from .transport import Response, Transport


if TYPE_CHECKING:
    from bankconnect_async.stats import (
        AttemptEnd,
        AttemptHook,
        AttemptStart,
        ResponseHead,
        Stats,
        Telemetry,
    )

    from .throttling import Throttle


T = TypeVar("T")
# Takes an operation, its body, the seconds left and the attempt's number.
Attempt: TypeAlias = Callable[
    [Operation[T], RequestBody | None, float, int], Awaitable[T]
]

# A body of this size holds up the loop for milliseconds while it is decoded.
_LARGE = 128 * 1024
# The log has our own numbers and words only: never what a server says, nor
# what it was sent.
_log = logging.getLogger("bankconnect_async")


class RequestExecutor:
    """
    Executes operations over one transport, with one retry budget.

    Args:
        transport: The transport that sends single requests.
        retry: The retry policy.
        clock: The clock.
        secrets: The secrets to redact from responses.

    Attributes:
        transport: The transport that sends single requests.
        retry: The retry policy.
        clock: The clock.
        budget: The retry budget of all operations.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        retry: RetryPolicy,
        clock: Clock,
        secrets: Sequence[str],
    ) -> None:
        from . import deferred  # noqa: PLC0415

        self.transport = transport
        self.retry = retry
        self.clock = clock
        self.budget: RetryBudget = RetryBudget()
        self._hooks = HookRunner()
        self._secrets = secrets
        self._failed: Counter[str] = Counter()
        self._latency = Histogram()
        self._in_flight = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._deferred = deferred

    async def execute(
        self,
        operation: Operation[T],
        body: RequestBody | None = None,
        *,
        policy: RetryPolicy | None = None,
        throttle: "Throttle | None" = None,
        attempt: "Attempt[T] | None" = None,
    ) -> tuple[T, int]:
        """
        Execute *operation*.

        Args:
            operation: The operation.
            body: The body to send, if any.
            policy: The retry policy, instead of the client's own.
            throttle: The throttle for further attempts, in a batch.
            attempt: The function that makes an attempt, instead of this
                object's own.

        Returns:
            The result, and the number of attempts it took.

        Raises:
            BankConnectError: The last attempt's error, with the timeline of
                all of them.
        """
        if policy is None:
            policy = self.retry
        if attempt is None:
            attempt = self._attempt
        deadline = self.clock.monotonic() + policy.deadline
        self._begin()
        try:
            try:
                result = await attempt(operation, body, policy.deadline, 1)
            except BankConnectError as error:
                first = error
            else:
                if self.budget.tokens < self.budget.capacity:
                    self.budget.refund()
                return result, 1
            if operation.idempotent:
                policy = attrs.evolve(policy, delivery="at-least-once")
            state = self._deferred.RetryState(
                error=first,
                policy=policy,
                budget=self.budget,
                clock=self.clock,
                deadline=deadline,
                throttle=throttle,
                hooks=self._hooks,
            )
            result = await state.run(
                lambda: attempt(operation, body, state.time_left, state.number)
            )
            return result, state.number
        finally:
            self._in_flight -= 1
            if self._closing and not self._in_flight:
                self._idle.set()

    def _begin(self) -> None:
        if self._closing:
            raise ClientClosedError("the client is closed, or closing")
        self._in_flight += 1

    @contextmanager
    def track(self) -> Iterator[None]:
        """Make `aclose` wait for the block, as for an operation."""
        self._begin()
        try:
            yield
        finally:
            self._in_flight -= 1
            if self._closing and not self._in_flight:
                self._idle.set()

    async def _attempt(
        self,
        operation: Operation[T],
        body: RequestBody | None,
        time_left: float,
        number: int,
    ) -> T:
        started = time.monotonic()
        response: Response | None = None
        try:
            response = await self.transport.send(
                operation, body, time_left=time_left
            )
            if operation.on_response is not None:
                self._report(response, operation.on_response)
            if len(response.body) > _LARGE:
                result = await run_in_thread(self._decode, operation, response)
            else:
                result = self._decode(operation, response)
        except BankConnectError as error:
            self._record_failure(operation, number, error)
            raise
        except (Exception, asyncio.CancelledError) as exc:
            if isinstance(exc, asyncio.CancelledError) and was_cancelled():
                raise
            unexpected = self._map_unexpected(exc, response, body)
        else:
            self._latency.add(time.monotonic() - started)
            return result
        # Outside of `except`: what was raised may hold the response's bytes.
        self._record_failure(operation, number, unexpected)
        raise unexpected

    def _record_failure(
        self, operation: Operation[T], number: int, error: BankConnectError
    ) -> None:
        delivery = error.delivery or Delivery.NOT_SENT
        error_type = type(error).__name__
        status = getattr(error, "status", None)
        self._failed[delivery] += 1
        self._hooks.run(
            "a handler of the log",
            _log.info,
            "%s: attempt %d failed, %s, %s, status %s, %.0f tokens left",
            operation.name,
            number,
            error_type,
            delivery,
            status,
            self.budget.tokens,
            extra={
                "operation": operation.name,
                "attempt": number,
                "error_type": error_type,
                "delivery": delivery.value,
                "status": status,
                "tokens": self.budget.tokens,
            },
        )

    def _report(
        self, response: Response, hook: "Callable[[ResponseHead], object]"
    ) -> None:
        head = self._deferred.ResponseHead(
            status=response.status, headers=response.headers
        )
        self._hooks.run("on_response", hook, head)

    def _decode(self, operation: Operation[T], response: Response) -> T:
        if response.status in OK:
            return operation.decode(response.body, status=response.status)
        by_proxy = self.transport.proxy_refusal(
            response.status, response.headers, operation.url
        )
        if by_proxy is not None:
            raise by_proxy
        raise self._deferred.error_from_response(
            response.status,
            response.body,
            headers=response.headers,
            retry_after=parse_retry_after(
                response.headers.get("Retry-After"), now=self.clock.time()
            ),
            secrets=[*self._secrets, *operation.secrets],
            url=operation.url,
        )

    def _map_unexpected(
        self,
        exc: BaseException,
        response: Response | None,
        body: RequestBody | None,
    ) -> BankConnectError:
        if response is None:
            return map_error(exc, body)
        if response.status in OK:
            return InvalidResponseError(
                f"the server answered {response.status}, and reading that "
                f"raised {type(exc).__name__}",
                status=response.status,
            )
        return self._deferred.error_from_response(response.status, b"")

    def redact(self, text: str) -> str:
        """Replace the client's secrets in what a server says."""
        return self._deferred.redactor(tuple(self._secrets)).redact(text)

    def stats(self) -> "Stats":
        """Return a snapshot of the counters."""
        latency = self._deferred.Latency(**self._latency.summary())
        attempts = dict(self._failed)
        if latency.count:
            attempts["succeeded"] = latency.count
        return self._deferred.Stats(
            in_flight=self.transport.in_flight,
            waiting=self.transport.waiting,
            tokens=self.budget.tokens,
            attempts=attempts,
            connections_opened=self.transport.connections_opened,
            latency=latency,
        )

    def gauges(self) -> Mapping[str, float]:
        """Return the numbers of a `GaugeSource`."""
        limits = [
            limit
            for rate_limit in tuple(self.transport.rate_limits)
            if (limit := rate_limit()) is not None
        ]
        return {
            "in_flight": self.transport.in_flight,
            "waiting": self.transport.waiting,
            "tokens": self.budget.tokens,
            **({"rate_limit": sum(limits)} if limits else {}),
        }

    async def aclose(self, *, drain: float) -> None:
        """
        Refuse new operations, wait for those in flight, and close.

        Args:
            drain: The longest wait, in seconds.

        Raises:
            ClientClosedError: In a thread other than the client's.
        """
        self.transport.check_closable()
        self._closing = True
        try:
            if drain > 0 and self._in_flight:
                with suppress(TimeoutError):
                    async with asyncio.timeout(drain):
                        await self._idle.wait()
        finally:
            await self.transport.aclose()


class ObservedExecutor(RequestExecutor):
    """
    Executes operations, and reports them to hooks.

    Args:
        transport: The transport that sends single requests.
        on_attempt: The hook that is called for every attempt, if any.
        telemetry: The observer of calls and attempts, if any.
        **settings: The other arguments of `RequestExecutor`.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        on_attempt: "AttemptHook | None",
        telemetry: "Telemetry | None",
        **settings: Any,
    ) -> None:
        super().__init__(transport, **settings)
        # Within the user's hook, the span of the attempt is the current one.
        self._on_attempt: dict[str, AttemptHook] = {}
        self._on_call = None
        if telemetry is not None:
            self._on_call = telemetry.on_call
            self._on_attempt["telemetry"] = telemetry.on_attempt
        if on_attempt is not None:
            self._on_attempt["on_attempt"] = on_attempt

    async def execute(
        self,
        operation: Operation[T],
        body: RequestBody | None = None,
        *,
        policy: RetryPolicy | None = None,
        throttle: "Throttle | None" = None,
        attempt: "Attempt[T] | None" = None,
    ) -> tuple[T, int]:
        """Execute *operation*, as `RequestExecutor` does."""
        call = _ObservedCall(os.urandom(8).hex(), attempt or self._attempt)
        on_end = self._on_call and self._hooks.run(
            "telemetry", self._on_call, operation.name
        )
        error: BaseException | None = None
        try:
            return await super().execute(
                operation,
                body,
                policy=policy,
                throttle=throttle,
                attempt=functools.partial(self._observe, call),
            )
        except BaseException as exc:
            error = exc
            raise
        finally:
            if on_end is not None:
                self._hooks.run("telemetry", on_end, call.attempts, error)
            # Otherwise the exception and its frame would hold each other.
            del error

    async def _observe(
        self,
        call: "_ObservedCall[T]",
        operation: Operation[T],
        body: RequestBody | None,
        time_left: float,
        number: int,
    ) -> T:
        call.attempts = number
        on_end = self._start(
            self._deferred.AttemptStart(
                operation=operation.name,
                number=number,
                call_id=call.id,
                method=operation.method,
                template=operation.template,
                host=operation.url.host or "",
                port=operation.url.port or 0,
            )
        )
        status: int | None = None

        def note(head: "ResponseHead") -> None:
            nonlocal status
            status = head.status
            if operation.on_response is not None:
                operation.on_response(head)

        started = time.monotonic()
        error: BankConnectError | None = None
        cancelled = True
        try:
            result = await call.attempt(
                attrs.evolve(operation, on_response=note),
                body,
                time_left,
                number,
            )
            cancelled = False
        except BankConnectError as exc:
            error, cancelled = exc, False
            raise
        finally:
            end = self._deferred.AttemptEnd(
                seconds=time.monotonic() - started,
                status=getattr(error, "status", None) or status,
                error=error,
                cancelled=cancelled,
            )
            for name, hook in reversed(on_end):
                self._hooks.run(f"what {name} returned", hook, end)
            del error, end
        return result

    def _start(
        self, start: "AttemptStart"
    ) -> "list[tuple[str, Callable[[AttemptEnd], None]]]":
        return [
            (name, on_end)
            for name, hook in self._on_attempt.items()
            if (on_end := self._hooks.run(name, hook, start)) is not None
        ]


@attrs.define(eq=False, repr=False)
class _ObservedCall(Generic[T]):
    """
    One call: its id, what makes an attempt, and the number of those so far.
    """

    id: str
    attempt: "Attempt[T]"
    attempts: int = 0
