"""
Calls: attempts of one request until there is a result, and their accounts.
"""

import asyncio
import importlib
import logging
import time

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar

import attrs

from yarl import URL

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

from .attempt import MAX_RESPONSE, Response
from .bodies import RequestBody
from .error_mapping import map_error
from .histogram import Histogram
from .transport import Transport


if TYPE_CHECKING:
    from bankconnect_async.stats import AttemptHook, Stats

    from .throttling import Throttle


T = TypeVar("T")

_OK: Final = range(200, 300)
# Bytes of a response whose decoding would hold up the loop for milliseconds.
_LARGE: Final = 128 * 1024
# Numbers and words of ours only: what a server says, and what we send it,
# never gets into a log.
_log = logging.getLogger("bankconnect_async")


class Operation(Generic[T]):
    """
    What to ask for, and what to make of a good response.

    Args:
        operation: What for, such as ``POST session``; no ids.
        url: Where to.
        decode: Makes the result of a response with a 2xx status.
        method: Of HTTP.
        headers: Beside those of every request.
        idempotent: Whether sending it twice does no harm at all.
        limit: Bytes of the response that are read at most.
        secrets: Sent with this request only; struck out of what the server
            echoes.
    """

    def __init__(  # noqa: PLR0913
        self,
        *,
        operation: str,
        url: URL,
        decode: Callable[[Response], T],
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        idempotent: bool = True,
        limit: int = MAX_RESPONSE,
        secrets: Sequence[str] = (),
    ) -> None:
        self.operation: Final = operation
        self.url: Final = url
        self.decode: Final = decode
        self.method: Final = method
        self.headers: Final = headers
        self.idempotent: Final = idempotent
        self.limit: Final = limit
        self.secrets: Final = secrets


class RequestExecutor:
    """
    Makes calls over one transport, with one retry budget for all of them.

    Args:
        transport: Sends single requests.
        retry: When failed calls are tried again.
        clock: Time.
        on_attempt: Told of every attempt, if given.
        secrets: Struck out of what servers echo.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        retry: RetryPolicy,
        clock: Clock,
        on_attempt: "AttemptHook | None",
        secrets: Sequence[str],
    ) -> None:
        _preload()
        self.transport = transport
        self.retry = retry
        self._clock = clock
        self._on_attempt = on_attempt
        self._hooks = HookRunner()
        self._secrets = secrets
        self.budget = RetryBudget()
        self._succeeded = 0
        self._failed: Counter[str] = Counter()
        self._latency = Histogram()
        self._in_flight = 0
        self._closing = False
        self._idle: asyncio.Event | None = None

    @property
    def clock(self) -> Clock:
        """What it takes the time from."""
        return self._clock

    async def execute(
        self,
        operation: Operation[T],
        body: RequestBody | None = None,
        *,
        policy: RetryPolicy | None = None,
        throttle: "Throttle | None" = None,
    ) -> tuple[T, int]:
        """
        Make *call* and return its result, and how many attempts it took.

        Args:
            operation: What to ask for.
            body: What to send, if anything.
            policy: Instead of the client's own.
            throttle: Where to wait for further attempts, in a batch.

        Raises:
            BankConnectError: Of the last attempt, with the story of all.
        """
        if policy is None:
            policy = self.retry
        attempt_once = (
            self._attempt if self._on_attempt is None else self._watched
        )
        deadline = self._clock.monotonic() + policy.deadline
        self._begin()
        try:
            try:
                result = await attempt_once(
                    operation, body, policy.deadline, 1
                )
            except BankConnectError as error:
                first = error
            else:
                self.budget.refund()
                return result, 1
            return await self._go_on(
                operation, body, first, policy, throttle, deadline
            )
        finally:
            self._end()

    def _begin(self) -> None:
        if self._closing:
            raise ClientClosedError("the client is closed, or closing")
        self._in_flight += 1

    def _end(self) -> None:
        self._in_flight -= 1
        if self._idle is not None and not self._in_flight:
            self._idle.set()

    @contextmanager
    def track(self) -> Iterator[None]:
        """
        Have `aclose` wait for what is done meanwhile, as for an operation.
        """
        self._begin()
        try:
            yield
        finally:
            self._end()

    async def _go_on(  # noqa: PLR0913, PLR0917
        self,
        operation: Operation[T],
        body: RequestBody | None,
        first: BankConnectError,
        policy: RetryPolicy,
        throttle: "Throttle | None",
        deadline: float,
    ) -> tuple[T, int]:
        from .retrying import retry  # noqa: PLC0415 - seldom needed

        number = 1
        attempt_once = (
            self._attempt if self._on_attempt is None else self._watched
        )
        if operation.idempotent:
            policy = attrs.evolve(policy, delivery="at-least-once")

        async def attempt() -> T:
            nonlocal number
            number += 1
            held = 0.0 if throttle is None else throttle.throttled_for
            time_left = deadline + held - self._clock.monotonic()
            return await attempt_once(operation, body, time_left, number)

        return await retry(
            attempt,
            after=first,
            policy=policy,
            budget=self.budget,
            clock=self._clock,
            deadline=deadline,
            throttle=throttle,
            hooks=self._hooks,
        )

    async def _watched(
        self,
        operation: Operation[T],
        body: RequestBody | None,
        time_left: float,
        number: int,
    ) -> T:
        from bankconnect_async.stats import AttemptEnd, AttemptStart  # noqa: PLC0415

        assert self._on_attempt is not None  # noqa: S101 - callers look
        hooks = self._hooks
        tell = hooks.run(
            "on_attempt",
            self._on_attempt,
            AttemptStart(operation=operation.operation, number=number),
        )
        started = time.monotonic()
        error: BankConnectError | None = None
        cancelled = True
        try:
            result = await self._attempt(operation, body, time_left, number)
            cancelled = False
        except BankConnectError as exc:
            error, cancelled = exc, False
            raise
        finally:
            if tell is not None:
                seconds = time.monotonic() - started
                hooks.run(
                    "what on_attempt returned",
                    tell,
                    AttemptEnd(
                        seconds=seconds, error=error, cancelled=cancelled
                    ),
                )
        return result

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
                operation.method,
                operation.url,
                body,
                headers=operation.headers,
                timeout=time_left,
                limit=operation.limit,
            )
            if response.status not in _OK:
                await self._refuse(response, operation)
            if len(response.body) > _LARGE:
                result = await run_in_thread(operation.decode, response)
            else:
                result = operation.decode(response)
        except BankConnectError as error:
            self._note_failure(operation, number, error)
            raise
        except (Exception, asyncio.CancelledError) as exc:
            if isinstance(exc, asyncio.CancelledError) and was_cancelled():
                raise
            unexpected = _unexpected(exc, response, body)
        else:
            self._succeeded += 1
            self._latency.add(time.monotonic() - started)
            return result
        # Outside of `except`: what was raised may hold the response's bytes.
        self._note_failure(operation, number, unexpected)
        raise unexpected

    def _note_failure(
        self, operation: Operation[T], number: int, error: BankConnectError
    ) -> None:
        delivery = error.delivery or Delivery.NOT_SENT
        self._failed[delivery] += 1
        self._hooks.run(
            "a handler of the log",
            _log.info,
            "%s: attempt %d failed, %s, %s, status %s, %.0f tokens left",
            operation.operation,
            number,
            type(error).__name__,
            delivery,
            getattr(error, "status", None),
            self.budget.tokens,
        )

    async def _refuse(
        self, response: Response, operation: Operation[T]
    ) -> NoReturn:
        if len(response.body) > _LARGE:
            raise await run_in_thread(self._refusal, response, operation)
        raise self._refusal(response, operation)

    def _refusal(
        self, response: Response, operation: Operation[T]
    ) -> BankConnectError:
        from bankconnect_async._codec import error_responses  # noqa: PLC0415 - most calls have none

        by_proxy = self.transport.proxy_refusal(
            response.status, response.headers, operation.url
        )
        if by_proxy is not None:
            return by_proxy
        retry_after = parse_retry_after(
            response.headers.get("Retry-After"), now=self._clock.time()
        )
        return error_responses.error_from_response(
            response.status,
            response.body,
            headers=response.headers,
            retry_after=retry_after,
            secrets=[*self._secrets, *operation.secrets],
            url=operation.url,
        )

    def redact(self, text: str) -> str:
        """Strike the client's secrets out of what a server says."""
        from bankconnect_async._redaction import redactor  # noqa: PLC0415 - seldom needed

        return redactor(tuple(self._secrets)).redact(text)

    def stats(self) -> "Stats":
        """Return what was done so far, and is done now."""
        from bankconnect_async.stats import Latency, Stats  # noqa: PLC0415 - rare

        transport = self.transport
        attempts = dict(self._failed)
        if self._succeeded:
            attempts["succeeded"] = self._succeeded
        return Stats(
            in_flight=transport.in_flight,
            waiting=transport.waiting,
            tokens=self.budget.tokens,
            attempts=attempts,
            connections_opened=transport.connections_opened,
            latency=Latency(**self._latency.summary()),
        )

    async def aclose(self, *, drain: float) -> None:
        """
        Refuse new calls, give those under way *drain* seconds, and close.
        """
        self._closing = True
        if drain > 0 and self._in_flight:
            if self._idle is None:
                self._idle = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(drain):
                    await self._idle.wait()
        await self.transport.aclose()


def _unexpected(
    exc: BaseException, response: Response | None, body: RequestBody | None
) -> BankConnectError:
    if response is None:
        return map_error(exc, body)
    said = f"the server answered {response.status}, and reading that raised "
    said += type(exc).__name__
    if response.status in _OK:
        return InvalidResponseError(said, status=response.status)
    from bankconnect_async._codec import error_responses  # noqa: PLC0415 - most calls have none

    return error_responses.error_from_response(response.status, b"")


def _preload() -> None:
    """
    Import what only failing calls need.

    Once the process is out of file descriptors, an import fails, and its
    error would take the place of the one that says what was sent.
    """
    for name in (
        "concurrent.futures.thread",
        "tenacity",
        "bankconnect_async._codec.error_responses",
        "bankconnect_async._http.retrying",
    ):
        importlib.import_module(name)
