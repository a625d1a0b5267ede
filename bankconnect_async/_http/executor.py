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
# Bytes of an answer whose decoding would hold up the loop for milliseconds.
_LARGE: Final = 128 * 1024
# Numbers and words of ours only: what a server says, and what we send it,
# never gets into a log.
_log = logging.getLogger("bankconnect_async")


class Operation(Generic[T]):
    """
    What to ask for, and what to make of a good answer.

    Args:
        operation: What for, such as ``POST session``; no ids.
        url: Where to.
        decode: Makes the result of an answer with a 2xx status.
        method: Of HTTP.
        headers: Beside those of every request.
        repeatable: Whether sending it twice does no harm at all.
        limit: Bytes of the answer that are read at most.
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
        repeatable: bool = True,
        limit: int = MAX_RESPONSE,
        secrets: Sequence[str] = (),
    ) -> None:
        self.operation: Final = operation
        self.url: Final = url
        self.decode: Final = decode
        self.method: Final = method
        self.headers: Final = headers
        self.repeatable: Final = repeatable
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
        self._under_way = 0
        self._closing = False
        self._idle: asyncio.Event | None = None

    @property
    def clock(self) -> Clock:
        """What it takes the time from."""
        return self._clock

    async def run(
        self,
        call: Operation[T],
        body: RequestBody | None = None,
        *,
        policy: RetryPolicy | None = None,
        turn: "Throttle | None" = None,
    ) -> tuple[T, int]:
        """
        Make *call* and return its result, and how many attempts it took.

        Args:
            call: What to ask for.
            body: What to send, if anything.
            policy: Instead of the client's own.
            turn: Where to wait for further attempts, in a batch.

        Raises:
            BankConnectError: Of the last attempt, with the story of all.
        """
        if policy is None:
            policy = self.retry
        once = self._once if self._on_attempt is None else self._watched
        deadline_at = self._clock.monotonic() + policy.deadline
        self._begin()
        try:
            try:
                result = await once(call, body, policy.deadline, 1)
            except BankConnectError as error:
                first = error
            else:
                self.budget.refund()
                return result, 1
            return await self._go_on(
                call, body, first, policy, turn, deadline_at
            )
        finally:
            self._end()

    def _begin(self) -> None:
        if self._closing:
            raise ClientClosedError("the client is closed, or closing")
        self._under_way += 1

    def _end(self) -> None:
        self._under_way -= 1
        if self._idle is not None and not self._under_way:
            self._idle.set()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """
        Have `aclose` wait for what is done meanwhile, as for a call.
        """
        self._begin()
        try:
            yield
        finally:
            self._end()

    async def _go_on(  # noqa: PLR0913, PLR0917
        self,
        call: Operation[T],
        body: RequestBody | None,
        first: BankConnectError,
        policy: RetryPolicy,
        turn: "Throttle | None",
        deadline_at: float,
    ) -> tuple[T, int]:
        from .retrying import repeat  # noqa: PLC0415 - seldom needed

        number = 1
        once = self._once if self._on_attempt is None else self._watched
        if call.repeatable:
            policy = attrs.evolve(policy, delivery="at-least-once")

        async def attempt() -> T:
            nonlocal number
            number += 1
            held = 0.0 if turn is None else turn.throttled_for
            within = deadline_at + held - self._clock.monotonic()
            return await once(call, body, within, number)

        return await repeat(
            attempt,
            after=first,
            policy=policy,
            budget=self.budget,
            clock=self._clock,
            deadline_at=deadline_at,
            turn=turn,
            hooks=self._hooks,
        )

    async def _watched(
        self,
        call: Operation[T],
        body: RequestBody | None,
        within: float,
        number: int,
    ) -> T:
        from bankconnect_async.stats import AttemptEnd, AttemptStart  # noqa: PLC0415

        assert self._on_attempt is not None  # noqa: S101 - callers look
        hooks = self._hooks
        tell = hooks.run(
            "on_attempt",
            self._on_attempt,
            AttemptStart(operation=call.operation, number=number),
        )
        started = time.monotonic()
        error: BankConnectError | None = None
        cancelled = True
        try:
            result = await self._once(call, body, within, number)
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

    async def _once(
        self,
        call: Operation[T],
        body: RequestBody | None,
        within: float,
        number: int,
    ) -> T:
        started = time.monotonic()
        answer: Response | None = None
        try:
            answer = await self.transport.send(
                call.method,
                call.url,
                body,
                headers=call.headers,
                within=within,
                limit=call.limit,
            )
            if answer.status not in _OK:
                await self._refuse(answer, call)
            if len(answer.body) > _LARGE:
                result = await run_in_thread(call.decode, answer)
            else:
                result = call.decode(answer)
        except BankConnectError as error:
            self._note_failure(call, number, error)
            raise
        except (Exception, asyncio.CancelledError) as exc:
            if isinstance(exc, asyncio.CancelledError) and was_cancelled():
                raise
            unexpected = _unexpected(exc, answer, body)
        else:
            self._succeeded += 1
            self._latency.add(time.monotonic() - started)
            return result
        # Outside of `except`: what was raised may hold the answer's bytes.
        self._note_failure(call, number, unexpected)
        raise unexpected

    def _note_failure(
        self, call: Operation[T], number: int, error: BankConnectError
    ) -> None:
        delivery = error.delivery or Delivery.NOT_SENT
        self._failed[delivery] += 1
        self._hooks.run(
            "a handler of the log",
            _log.info,
            "%s: attempt %d failed, %s, %s, status %s, %.0f tokens left",
            call.operation,
            number,
            type(error).__name__,
            delivery,
            getattr(error, "status", None),
            self.budget.tokens,
        )

    async def _refuse(self, answer: Response, call: Operation[T]) -> NoReturn:
        if len(answer.body) > _LARGE:
            raise await run_in_thread(self._refusal, answer, call)
        raise self._refusal(answer, call)

    def _refusal(
        self, answer: Response, call: Operation[T]
    ) -> BankConnectError:
        from bankconnect_async._codec import error_responses  # noqa: PLC0415 - most calls have none

        by_proxy = self.transport.proxy_refusal(
            answer.status, answer.headers, call.url
        )
        if by_proxy is not None:
            return by_proxy
        retry_after = parse_retry_after(
            answer.headers.get("Retry-After"), now=self._clock.time()
        )
        return error_responses.error_from_response(
            answer.status,
            answer.body,
            headers=answer.headers,
            retry_after=retry_after,
            secrets=[*self._secrets, *call.secrets],
            url=call.url,
        )

    def strike_out(self, text: str) -> str:
        """Strike the client's secrets out of what a server says."""
        from bankconnect_async._redaction import redactor  # noqa: PLC0415 - seldom needed

        return redactor(tuple(self._secrets)).strike(text)

    def stats(self) -> "Stats":
        """Return what was done so far, and is done now."""
        from bankconnect_async.stats import Stats  # noqa: PLC0415 - few ever ask

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
            latency=self._latency.summary(),
        )

    async def aclose(self, *, drain: float) -> None:
        """
        Refuse new calls, give those under way *drain* seconds, and close.
        """
        self._closing = True
        if drain > 0 and self._under_way:
            if self._idle is None:
                self._idle = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(drain):
                    await self._idle.wait()
        await self.transport.aclose()


def _unexpected(
    exc: BaseException, answer: Response | None, body: RequestBody | None
) -> BankConnectError:
    if answer is None:
        return map_error(exc, body)
    said = f"the server answered {answer.status}, and reading that raised "
    said += type(exc).__name__
    if answer.status in _OK:
        return InvalidResponseError(said, status=answer.status)
    from bankconnect_async._codec import error_responses  # noqa: PLC0415 - most calls have none

    return error_responses.error_from_response(answer.status, b"")


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
