"""
Retry policy and retry budget.
"""

import random

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import (
    Any,
    Final,
    Literal,
    TypeAlias,
    TypeVar,
)

import attrs

from .errors import (
    BankConnectError,
    CertificateError,
    ClientClosedError,
    ConfigurationError,
    Delivery,
    HeadTooLargeError,
    InvalidRequestError,
    ProxyAuthenticationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
)


T = TypeVar("T")
DeliveryMode: TypeAlias = Literal["at-least-once", "at-most-once"]

_MODES = "at-least-once", "at-most-once"


def uniform(low: float, high: float) -> float:
    """Draw a number for jitter."""
    # A function of this module, so that a policy can be pickled.
    return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """
    The rules by which a failed operation is retried.

    Attributes:
        attempts: The number of attempts in all; 1 switches retries off.
        wait_initial: The upper end of the first wait, in seconds. Waits are
            drawn from 0 to that ("full jitter"), and it doubles every time.
        wait_max: The upper end of any wait, in seconds. A longer Retry-After
            of the server is honoured all the same.
        deadline: The seconds for everything: queueing, connecting, all
            attempts and the waits between them.
        delivery: `at-least-once` repeats a request that may have been
            processed: the vendor allows many sessions of one `link_id`, and
            only the last URL is handed out. `at-most-once` never does.
        rng: The function that draws from a range; tests replace it.

    Raises:
        ConfigurationError: If a value is bad; `fields` has all of them.
    """

    attempts: int = 3
    wait_initial: float = 0.25
    wait_max: float = 5.0
    deadline: float = 30.0
    delivery: DeliveryMode = "at-least-once"
    rng: Callable[[float, float], float] = attrs.field(
        default=uniform, repr=False, eq=False
    )

    def __attrs_post_init__(self) -> None:
        fields: dict[str, tuple[str, ...]] = {}
        if not _is_number(self.attempts, int) or self.attempts < 1:
            fields["attempts"] = ("must be a whole number, 1 or more",)
        for name in ("wait_initial", "wait_max"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < float("inf"):
                fields[name] = ("must be a number of seconds, 0 or more",)
        if not _is_number(self.deadline) or not 0 < self.deadline < float(
            "inf"
        ):
            fields["deadline"] = ("must be a number of seconds above 0",)
        if self.delivery not in _MODES:
            fields["delivery"] = (f"must be one of {', '.join(_MODES)}",)
        if fields:
            raise ConfigurationError(fields=fields)

    def backoff(self, attempt: int) -> float:
        """
        Draw the seconds to wait after failed attempt number *attempt*.
        """
        # The exponent is bounded: floats overflow, waits do not grow.
        ceiling = self.wait_initial * 2.0 ** min(attempt - 1, 64)
        return self.rng(0.0, min(ceiling, self.wait_max))


def _is_number(value: object, types: Any = (int, float)) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


class RetryBudget:
    """
    The tokens that all operations of one client may spend on retries.

    While the server is down every call fails, and a budget that no success
    refills runs dry: a total outage draws at most
    `capacity / retry_cost` = 100 extra requests, however many calls fail.

    Attributes:
        capacity: The most tokens, and the number at the start.
        retry_cost: The tokens that a retry costs.
        timeout_cost: The tokens that a retry after a timeout costs.
        tokens: The tokens left.
    """

    capacity: Final = 500.0
    retry_cost: Final = 5.0
    timeout_cost: Final = 10.0

    def __init__(self) -> None:
        self.tokens: float = self.capacity

    def cost(self, error: BankConnectError) -> float:
        """Return the tokens that a retry after *error* costs."""
        if isinstance(error, RequestTimeoutError):
            return self.timeout_cost
        return self.retry_cost

    def spend(self, tokens: float) -> None:
        """Pay for a retry."""
        self.tokens -= tokens

    def refund(self, tokens: float = 1) -> None:
        """Give back the cost of the last retry after a success, or 1."""
        self.tokens = min(self.capacity, self.tokens + tokens)


def parse_retry_after(text: str | None, *, now: float) -> float | None:
    """
    Read a Retry-After header (RFC 9110, section 10.2.3).

    Args:
        text: The header: seconds or an HTTP date.
        now: The time, in seconds since the epoch.

    Returns:
        The seconds from now, 0 at least; `None` if the header is missing or
        unusable.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        # Longer numbers would only overflow a float.
        return float(text.lstrip("0")[:12] or 0)
    date = parse_http_date(text)
    return None if date is None else max(0.0, date - now)


def parse_http_date(text: str) -> float | None:
    """
    Read an HTTP date (RFC 9110, section 5.6.7).

    Args:
        text: The value of a header, such as Date.

    Returns:
        The time, in seconds since the epoch; `None` if it is unusable.
    """
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return date.timestamp()
    except (ValueError, OverflowError):
        return None


def is_retryable(error: BankConnectError, mode: DeliveryMode) -> bool:
    """
    Tell whether the same request may and should be sent again.
    """
    match error:
        case (
            CertificateError()
            | ClientClosedError()
            | HeadTooLargeError()
            | ProxyAuthenticationError()
            | InvalidRequestError()
        ):
            return False
        case (
            RateLimitError()
            | ServerError(delivery=Delivery.REJECTED)
            # The server did not process the request, and will process
            # another: 421 over another connection (RFC 9110, section
            # 15.5.20), 425 after the handshake (RFC 8470, section 5.2).
            | ResponseError(status=421 | 425)
        ):
            return True
    match error.delivery:
        case Delivery.NOT_SENT:
            return True
        case Delivery.AMBIGUOUS | Delivery.CREATED_UNREADABLE:
            return mode == "at-least-once"
        case _:
            return False
