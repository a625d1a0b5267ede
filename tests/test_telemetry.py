"""
Spans and metrics of a client, as the SDK of OpenTelemetry gets them.
"""

import asyncio
import gc

from collections import Counter

import attrs
import pytest

from opentelemetry import context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
    InMemorySpanExporter,
)
from opentelemetry.trace import SpanKind, get_current_span
from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    ConfigurationError,
    NotFoundError,
    OpenTelemetry,
    Pool,
)
from bankconnect_async.sandbox import Fault, Sandbox, statement_pdf
from bankconnect_async.testing import FakeClock


CANARY = "canary-7f3a"
BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5),
    *(0.75, 1, 2.5, 5, 7.5, 10),
)
DURATION = "http.client.request.duration"


@attrs.frozen
class Observer:
    """
    OpenTelemetry with exporters into memory.
    """

    spans: InMemorySpanExporter = attrs.Factory(InMemorySpanExporter)
    metrics: InMemoryMetricReader = attrs.Factory(InMemoryMetricReader)
    tracers: TracerProvider = attrs.Factory(TracerProvider)

    def __attrs_post_init__(self):
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))

    @property
    def tracer(self):
        return self.tracers.get_tracer("test")

    def make(self):
        """Make what a client takes."""
        return OpenTelemetry(
            tracer_provider=self.tracers,
            meter_provider=MeterProvider([self.metrics]),
        )

    def trees(self):
        """Return each span with its children, and how often it occurs."""
        spans = self.spans.get_finished_spans()
        children = {}
        for span in sorted(spans, key=lambda each: each.start_time):
            parent = span.parent and span.parent.span_id
            children.setdefault(parent, []).append(span)

        def tree(span):
            within = children.get(span.context.span_id, [])
            return (
                span.kind.name,
                span.name,
                span.status.status_code.name,
                tuple(sorted(span.attributes.items())),
                tuple(map(tree, within)),
            )

        return Counter(map(tree, children.get(None, [])))

    def points(self):
        """Return the data points of each metric."""
        data = self.metrics.get_metrics_data()
        return {
            metric.name: metric.data.data_points
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def durations(self):
        """Return the number of durations with each set of attributes."""
        points = self.points()[DURATION]
        assert all(each.explicit_bounds == BUCKETS for each in points)
        return {
            tuple(sorted(each.attributes.items())): each.count
            for each in points
        }

    def gauges(self):
        """Return the gauges."""
        return {
            name.removeprefix("bankconnect.client."): [
                (each.value, dict(each.attributes)) for each in points
            ]
            for name, points in self.points().items()
            if name != DURATION
        }

    def text(self):
        """Return all that was exported."""
        spans = self.spans.get_finished_spans()
        return "".join(
            (
                *(span.to_json() for span in spans),
                str(self.metrics.get_metrics_data()),
            )
        )


@pytest.fixture(name="observer")
def _observer():
    return Observer()


@pytest.fixture(name="server")
def _server(sandbox):
    """Return the attributes of the sandbox's address."""
    return address(sandbox)


def address(sandbox):
    """Return the attributes of a sandbox's address."""
    url = URL(sandbox.base_url)
    return {"server.address": url.host, "server.port": url.port}


STATUS = "http.response.status_code"
ERROR = "error.type"
RESENT = "http.request.resend_count"
DELIVERY = "bankconnect.delivery"


@attrs.frozen
class Expectation:
    """
    What is to be exported for calls of one operation.

    Attributes:
        server: The attributes of the server's address.
        operation: The operation's name.
        template: The template of its path.
    """

    server: dict
    operation: str
    template: str

    @property
    def method(self):
        return self.operation.partition(" ")[0]

    def outcome(self, **more):
        """Return the attributes of a duration."""
        return tuple(
            sorted(
                {
                    "http.request.method": self.method,
                    "url.template": self.template,
                    **self.server,
                    **more,
                }.items()
            )
        )

    def attempt(self, **more):
        """Return the span of an attempt."""
        return (
            "CLIENT",
            f"{self.method} {self.template}",
            "ERROR" if ERROR in more else "UNSET",
            self.outcome(**more),
            (),
        )

    def call(self, *attempts, **more):
        """Return the span of a call."""
        given = {"bankconnect.attempts": len(attempts), **more}
        return (
            "INTERNAL",
            f"bankconnect {self.operation}",
            "ERROR" if ERROR in more else "UNSET",
            tuple(sorted(given.items())),
            attempts,
        )


@pytest.fixture(name="create")
def _create(server):
    """Return what is to be exported for sessions that are created."""
    return Expectation(server, "POST session", "/v1/session/")


def caller(*calls):
    """Return the span of the tests, with calls within it."""
    return "INTERNAL", "caller", "UNSET", (), calls


class TestExpectations:
    """
    Spans and durations equal what is written here.
    """

    async def test_a_create_with_two_retries(
        self, sandbox, client_of, observer, create
    ):
        """
        A call has one span, and each attempt a client span within it.
        """
        sandbox.faults.script(Fault.status(503), Fault.eof(), None)
        async with client_of(
            sandbox, telemetry=observer.make(), clock=FakeClock()
        ) as bank:
            await bank.create_session("customer-42")

        outcomes = [
            {STATUS: 503, ERROR: "503", DELIVERY: "ambiguous"},
            {ERROR: "ConnectionLostError", DELIVERY: "ambiguous"},
            {STATUS: 200},
        ]
        first, second, third = outcomes
        assert observer.trees() == {
            create.call(
                create.attempt(**first),
                create.attempt(**second, **{RESENT: 1}),
                create.attempt(**third, **{RESENT: 2}),
            ): 1
        }
        assert observer.durations() == {
            create.outcome(**outcome): 1 for outcome in outcomes
        }

    async def test_a_batch_of_100(self, sandbox, client_of, observer, create):
        """
        The calls of a batch are children of the span that began it.
        """
        sandbox.faults.always(Fault.status(400), prefix="customer-9")
        async with client_of(sandbox, telemetry=observer.make()) as bank:
            with observer.tracer.start_as_current_span("caller"):
                await bank.create_sessions(
                    (f"customer-{n}" for n in range(100)), concurrency=10
                ).run()

        good = create.call(create.attempt(**{STATUS: 200}))
        failure = {DELIVERY: "rejected", STATUS: 400, ERROR: "400"}
        bad = create.call(
            create.attempt(**failure),
            **{ERROR: "BadRequestError", DELIVERY: "rejected"},
        )
        ((_, name, *_, calls),) = observer.trees()
        assert name == "caller"
        assert Counter(calls) == {good: 89, bad: 11}
        assert observer.durations() == {
            create.outcome(**{STATUS: 200}): 89,
            create.outcome(**failure): 11,
        }

    async def test_an_upload(self, client_of, observer):
        """
        Paths have names in the place of ids.
        """
        async with (
            Sandbox("session") as sandbox,
            client_of(sandbox, telemetry=observer.make()) as bank,
        ):
            server = address(sandbox)
            session = await bank.create_session("customer-42")
            observer.spans.clear()
            with observer.tracer.start_as_current_span("caller"):
                handle = bank.session(session.session_id)
                await handle.upload(statement_pdf())
                await handle.upload_status()

        upload = Expectation(
            server, "POST upload_session", "/v1/statement/upload_session/"
        )
        status = Expectation(
            server,
            "GET session_upload_status",
            "/v1/session_data/{session_id}/session_upload_status/",
        )
        assert observer.trees() == {
            caller(
                *(
                    each.call(each.attempt(**{STATUS: 200}))
                    for each in (upload, status)
                )
            ): 1
        }
        assert (
            observer.durations().items()
            >= {
                upload.outcome(**{STATUS: 200}): 1,
                status.outcome(**{STATUS: 200}): 1,
            }.items()
        )


async def test_retries_of_a_batch_stay_in_their_own_calls(
    sandbox, client_of, observer, create
):
    """
    A worker that begins while an item waits is no child of that item.
    """
    sandbox.faults.always(Fault.status(503, retry_after=1), prefix="slow")
    ids = [f"{kind}-{n}" for n in range(30) for kind in ("slow", "customer")]
    async with client_of(
        sandbox, telemetry=observer.make(), clock=FakeClock()
    ) as bank:
        with observer.tracer.start_as_current_span("caller"):
            await bank.create_sessions(ids, concurrency=4).run()

    ((_, name, *_, calls),) = observer.trees()
    assert name == "caller"
    assert len(calls) == 60
    assert {call[1] for call in calls} == {"bankconnect POST session"}


async def test_nothing_secret_is_exported(raw_server, answer, observer):
    """
    Keys, ids, URLs and what a server says are in no span and no metric.
    """

    async def script(server, reader, writer):
        while True:
            await server.read_request(reader)
            body = f'{{"message": "{CANARY}"}}'.encode()
            writer.write(answer(body, status="404 Not Found"))

    async with (
        raw_server(script) as server,
        AsyncBankConnect(
            f"{CANARY}-key",
            server_hash=f"{CANARY}-hash",
            base_url=server.base_url.replace("/bank", f"/{CANARY}/bank"),
            redirect_url=f"https://{CANARY}.example/",
            telemetry=observer.make(),
        ) as bank,
    ):
        for call in (
            lambda: bank.create_session(f"{CANARY}-customer"),
            lambda: bank.entity(f"{CANARY}-entity").identity(),
            lambda: bank.session(f"{CANARY}-session").insights(),
            lambda: bank.session(f"{CANARY}-session").upload(statement_pdf()),
            lambda: anext(aiter(bank.entities(link_id=f"{CANARY}-customer"))),
        ):
            with pytest.raises(NotFoundError, match="404"):
                await call()
        assert len(observer.spans.get_finished_spans()) == 10
        exported = observer.text()

    assert "url.template" in exported
    assert CANARY not in exported


async def test_gauges(sandbox, client_of, observer, server):
    """
    Gauges add up the clients of a server, as long as these exist.
    """
    telemetry = observer.make()
    sandbox.faults.always(Fault.stall(), prefix="stalled")
    async with (
        client_of(sandbox, telemetry=telemetry, pool=Pool(limit=1)) as bank,
        client_of(sandbox, telemetry=telemetry) as other,
        asyncio.TaskGroup() as group,
    ):
        calls = [
            group.create_task(client.create_session(f"stalled-{n}"))
            for n, client in enumerate((bank, bank, bank, other))
        ]
        outcomes = bank.create_sessions([], concurrency=1, rate=50)
        async with outcomes:
            while bank.stats().waiting < 2 or not other.stats().in_flight:
                await asyncio.sleep(0)
            assert observer.gauges() == {
                "active_requests": [(2, server)],
                "pending_requests": [(2, server)],
                "retry_budget": [(1000, server)],
                "rate_limit": [(50, server)],
            }
        assert "rate_limit" not in observer.gauges()
        for call in calls:
            call.cancel()
    del bank, other, outcomes, calls, call
    gc.collect()
    assert observer.gauges() == {}


async def test_a_cancelled_call_has_ended_spans(
    sandbox, client_of, observer, create
):
    """
    The spans of a cancelled call end, with no delivery.
    """
    sandbox.faults.always(Fault.stall())
    async with client_of(sandbox, telemetry=observer.make()) as bank:
        call = asyncio.create_task(bank.create_session("customer-42"))
        while not bank.stats().in_flight:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    cancelled = {ERROR: "CancelledError"}
    assert observer.trees() == {
        create.call(create.attempt(**cancelled), **cancelled): 1
    }


async def test_a_processor_that_raises_changes_no_result(
    sandbox, client_of, observer, caplog
):
    """
    What OpenTelemetry raises is logged once for each class, and ignored.
    """

    class Broken(SpanProcessor):
        def on_start(self, span, parent_context=None):
            raise LookupError

        def on_end(self, span):
            raise LookupError

    observer.tracers.add_span_processor(Broken())
    async with client_of(sandbox, telemetry=observer.make()) as bank:
        stats = await bank.create_sessions(["a", "b"]).run()

    assert stats.created == 2
    (logged,) = [
        each
        for each in caplog.records
        if each.name == "bankconnect_async" and each.levelname == "ERROR"
    ]
    assert "telemetry" in logged.getMessage()


async def test_a_hook_sees_the_span_of_its_attempt(
    sandbox, client_of, observer
):
    """
    The attempt's span is the current one in the user's hook.

    An instrumented aiohttp begins none within it, which would have the URL.
    """
    seen = []

    def on_attempt(attempt):
        suppressed = context.get_value(
            context._SUPPRESS_HTTP_INSTRUMENTATION_KEY
        )
        seen.append((get_current_span(), suppressed))

    async with client_of(
        sandbox, telemetry=observer.make(), on_attempt=on_attempt
    ) as bank:
        await bank.create_session("customer-42")
    ((span, suppressed),) = seen

    assert span.kind is SpanKind.CLIENT
    assert suppressed
    assert not get_current_span().get_span_context().is_valid
    assert not context.get_current()


def test_other_objects_are_refused():
    """
    A telemetry without the methods is a bad setting.
    """
    with pytest.raises(ConfigurationError, match="OpenTelemetry"):
        AsyncBankConnect("key", telemetry=object())


def test_a_client_without_telemetry_imports_no_opentelemetry(run_program):
    """
    Neither the package nor a client imports it; without it, the error says
    what to install.
    """
    program = (
        "import sys\n"
        "from bankconnect_async import AsyncBankConnect, ConfigurationError\n"
        "AsyncBankConnect('key')\n"
        "assert 'opentelemetry' not in sys.modules\n"
        "sys.modules['opentelemetry'] = None\n"
        "from bankconnect_async import OpenTelemetry\n"
        "try:\n"
        "    OpenTelemetry()\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )

    assert "install bankconnect-async[otel]" in run_program(program)
