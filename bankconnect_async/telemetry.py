"""
Spans and metrics of clients, for OpenTelemetry.

Nothing here has an id, a URL or a key: attributes are names, numbers and the
server's address.
"""

import threading
import weakref

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from . import __version__
from .errors import BankConnectError, ConfigurationError
from .stats import AttemptEnd, AttemptStart, GaugeSource


if TYPE_CHECKING:
    from opentelemetry import context, metrics, trace
    from opentelemetry.context import (
        _SUPPRESS_HTTP_INSTRUMENTATION_KEY as _SUPPRESS,
    )
    from opentelemetry.metrics import (
        CallbackOptions,
        MeterProvider,
        Observation,
    )
    from opentelemetry.trace import Span, TracerProvider
else:
    try:
        from opentelemetry import context, metrics, trace
        from opentelemetry.context import (
            _SUPPRESS_HTTP_INSTRUMENTATION_KEY as _SUPPRESS,
        )
    except ImportError:
        trace = None


# A number of a client is summed up over all clients of one server.
_Server: TypeAlias = tuple[str, int]

_SCOPE: Final = "bankconnect_async"
_MISSING: Final = ("needs opentelemetry-api: install bankconnect-async[otel]",)
_DURATION: Final = "http.client.request.duration"
# In seconds, as the conventions of HTTP metrics have them.
_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075),
    *(0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)
# A gauge, its unit and its description, by its name in a `GaugeSource`.
_GAUGES: Final[Mapping[str, tuple[str, str, str]]] = {
    "in_flight": (
        "bankconnect.client.active_requests",
        "{request}",
        "Requests that have a slot of the pool",
    ),
    "waiting": (
        "bankconnect.client.pending_requests",
        "{request}",
        "Requests that wait for a slot of the pool",
    ),
    "tokens": (
        "bankconnect.client.retry_budget",
        "{token}",
        "Tokens that are left in the retry budget",
    ),
    "rate_limit": (
        "bankconnect.client.rate_limit",
        "{request}/s",
        "Requests per second that batches allow themselves",
    ),
}
_ERRORS: Final = range(400, 600)


class OpenTelemetry:
    """
    Reports calls and attempts of clients to OpenTelemetry.

    ::

        AsyncBankConnect(api_key, telemetry=OpenTelemetry())

    Each call is an internal span, and each of its attempts a client span
    within it. The names are those of the stable conventions for HTTP. Several
    clients may share one object.

    Args:
        tracer_provider: The provider of spans; by default the global one.
        meter_provider: The provider of metrics; by default the global one.

    Raises:
        ConfigurationError: If opentelemetry-api is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: "TracerProvider | None" = None,
        meter_provider: "MeterProvider | None" = None,
    ) -> None:
        if trace is None:
            raise ConfigurationError(fields={"telemetry": _MISSING})
        self._tracer: Final = trace.get_tracer(
            _SCOPE, __version__, tracer_provider
        )
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._duration: Final = meter.create_histogram(
            _DURATION,
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        # Metrics are read in another thread.
        self._lock: Final = threading.Lock()
        self._sources: weakref.WeakKeyDictionary[GaugeSource, _Server] = (
            weakref.WeakKeyDictionary()
        )
        reference: weakref.ref[OpenTelemetry] = weakref.ref(self)
        for key, (name, unit, description) in _GAUGES.items():
            meter.create_observable_gauge(
                name,
                # The provider lives longer than clients do.
                [partial(_read_gauge, reference, key)],
                unit=unit,
                description=description,
            )

    def observe(self, source: GaugeSource, host: str, port: int, /) -> None:
        """
        Report the gauges of a client as long as that exists.

        Args:
            source: The numbers; only a weak reference to it is kept.
            host: The host of the client's server.
            port: The port of the client's server.
        """
        with self._lock:
            self._sources[source] = host, port

    def on_call(
        self, operation: str, /
    ) -> Callable[[int, BaseException | None], None]:
        """
        Begin the span of a call.

        Args:
            operation: The operation's name, such as ``POST session``.

        Returns:
            The function that ends the span. It takes the number of attempts
            and the error, if there is one.
        """
        span = self._tracer.start_span(f"bankconnect {operation}")
        token = context.attach(trace.set_span_in_context(span))

        def on_end(attempts: int, error: BaseException | None) -> None:
            context.detach(token)
            span.set_attribute("bankconnect.attempts", attempts)
            _end(span, {} if error is None else _describe(error))

        return on_end

    def on_attempt(
        self, attempt: AttemptStart, /
    ) -> Callable[[AttemptEnd], None]:
        """
        Begin the span of an attempt.

        Args:
            attempt: The start of the attempt.

        Returns:
            The function that ends the span.
        """
        attributes: dict[str, Any] = {
            "http.request.method": attempt.method,
            "server.address": attempt.host,
            "server.port": attempt.port,
            "url.template": attempt.template,
        }
        resent = attempt.number - 1
        span = self._tracer.start_span(
            f"{attempt.method} {attempt.template}",
            kind=trace.SpanKind.CLIENT,
            attributes=attributes
            | ({"http.request.resend_count": resent} if resent else {}),
        )
        current = trace.set_span_in_context(span)
        # An instrumented aiohttp would begin a second span, with the URL.
        current = context.set_value(_SUPPRESS, True, current)
        token = context.attach(current)

        def on_end(end: AttemptEnd) -> None:
            context.detach(token)
            outcome = _describe_end(end)
            _end(span, outcome)
            self._duration.record(
                end.seconds, attributes | outcome, context=current
            )

        return on_end

    def gauge(self, key: str, /) -> "Iterable[Observation]":
        """
        Yield a number of all clients, added up for each server.

        Args:
            key: The name of the number in a `GaugeSource`.
        """
        with self._lock:
            sources = list(self._sources.items())
        totals: dict[_Server, float] = {}
        for source, server in sources:
            numbers = source.gauges()
            if key in numbers:
                totals[server] = totals.get(server, 0) + numbers[key]
        for (host, port), total in totals.items():
            yield metrics.Observation(
                total, {"server.address": host, "server.port": port}
            )


def _read_gauge(
    reference: "weakref.ref[OpenTelemetry]", key: str, _: "CallbackOptions"
) -> "Iterable[Observation]":
    telemetry = reference()
    return () if telemetry is None else telemetry.gauge(key)


def _end(span: "Span", outcome: Mapping[str, Any]) -> None:
    span.set_attributes(outcome)
    # Without a description: what servers say may have ids in it.
    if "error.type" in outcome:
        span.set_status(trace.StatusCode.ERROR)
    span.end()


def _describe_end(end: AttemptEnd) -> dict[str, Any]:
    outcome: dict[str, Any] = {}
    if end.error is not None:
        outcome |= _describe(end.error)
    elif end.cancelled:
        outcome["error.type"] = "CancelledError"
    if end.status is not None:
        outcome["http.response.status_code"] = end.status
        if end.status in _ERRORS:
            outcome["error.type"] = str(end.status)
    return outcome


def _describe(error: BaseException) -> dict[str, Any]:
    outcome = {"error.type": type(error).__qualname__}
    if isinstance(error, BankConnectError) and error.delivery is not None:
        outcome["bankconnect.delivery"] = error.delivery.value
    return outcome
