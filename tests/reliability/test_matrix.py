"""
The fault matrix: the delivery class of each fault, and the number of attempts.
"""

import asyncio
import itertools
import socket

from collections.abc import Callable

import attrs
import pytest

from bankconnect_async import (
    BankConnectError,
    Delivery,
    RetryPolicy,
    Session,
    Timeouts,
)
from bankconnect_async._http.bodies import BytesBody
from bankconnect_async.sandbox import Fault
from bankconnect_async.testing import FakeClock


NOT_SENT = frozenset({Delivery.NOT_SENT})
REJECTED = frozenset({Delivery.REJECTED})
AMBIGUOUS = frozenset({Delivery.AMBIGUOUS})
UNREADABLE = frozenset({Delivery.CREATED_UNREADABLE})
# Whether the body's write still began decides a race with the server.
EITHER = NOT_SENT | AMBIGUOUS

pytestmark = pytest.mark.long

MODES = ("at-least-once", "at-most-once")
ROUTES = ("tcp", "tls", "proxy", "proxy-tls", "borrowed", "borrowed-strict")
CONNECTIONS = ("new", "reused")
ATTEMPTS = 3
LONG = Timeouts(connect=10, read=10, pool=10)
# Long enough for a good answer on a busy machine, and no longer.
SHORT_READ = Timeouts(connect=10, read=0.5, pool=10)
SHORT = Timeouts(connect=0.8, read=0.8, pool=10)


@attrs.frozen(kw_only=True)
class Row:
    """
    One fault, and what the documentation says of it.

    Attributes:
        fault: The fault.
        says: Delivery classes of an attempt that meets it.
        final: Whether repeating is of no use.
        arrives: Whether the server reads the request.
        breaks: Whether the connection is of no use afterwards.
    """

    fault: Fault
    says: frozenset[Delivery]
    final: bool = False
    arrives: bool = True
    breaks: bool = False

    def ends(self, delivery: Delivery, mode: str) -> bool:
        """Return whether no attempt may follow one of this class."""
        is_open = delivery in AMBIGUOUS | UNREADABLE
        return self.final or (is_open and mode == "at-most-once")


def before_and_after(
    name: str, make: Callable[..., Fault], says: frozenset, **facts: bool
) -> dict[str, Row]:
    """Make two rows of a fault that can occur before and after processing."""
    return {
        f"{name}-before": Row(fault=make(), says=says, **facts),
        f"{name}-after": Row(fault=make(after=True), says=says, **facts),
    }


def status(number: int, **kwargs: object) -> Callable[..., Fault]:
    """Make rows for one status."""
    return lambda after=False: Fault.status(number, after=after, **kwargs)


def cut(within: str) -> Callable[..., Fault]:
    """Make rows for responses that are cut."""
    return lambda after=False: Fault.truncate(within=within, after=after)


def stall(within: str) -> Callable[..., Fault]:
    """Make rows for responses that stall."""
    return lambda after=False: Fault.stall(within=within, after=after)


ROWS = {
    "refuse": Row(
        fault=Fault.refuse(), says=EITHER, arrives=False, breaks=True
    ),
    **before_and_after("reset", Fault.reset, AMBIGUOUS, breaks=True),
    **before_and_after("eof", Fault.eof, AMBIGUOUS, breaks=True),
    **before_and_after("half-a-head", cut("head"), AMBIGUOUS, breaks=True),
    **before_and_after("half-a-body", cut("body"), UNREADABLE, breaks=True),
    **before_and_after("garbage", Fault.garbage, AMBIGUOUS, breaks=True),
    **before_and_after("html", Fault.html, UNREADABLE),
    **before_and_after("empty", Fault.empty, UNREADABLE),
    **before_and_after("408", status(408), AMBIGUOUS),
    **before_and_after("500", status(500), AMBIGUOUS),
    **before_and_after("502", status(502), AMBIGUOUS),
    **before_and_after("503", status(503), AMBIGUOUS),
    **before_and_after("504", status(504), AMBIGUOUS),
    **before_and_after("307", Fault.redirect, REJECTED, final=True),
    **before_and_after("404", status(404), REJECTED, final=True),
    # Who says "later" says that nothing was done: there is no "after".
    "429-seconds": Row(fault=status(429, retry_after=2)(), says=REJECTED),
    "429-date": Row(
        fault=status(429, retry_after=2, as_date=True)(), says=REJECTED
    ),
    "503-seconds": Row(fault=status(503, retry_after=2)(), says=REJECTED),
    "503-date": Row(
        fault=status(503, retry_after=2, as_date=True)(), says=REJECTED
    ),
}

STALLS = {
    "slow-accept": Row(
        fault=Fault.slow_accept(60), says=EITHER, arrives=False, breaks=True
    ),
    **before_and_after("silence", stall("head"), AMBIGUOUS, breaks=True),
    **before_and_after("half-a-word", stall("body"), UNREADABLE, breaks=True),
}


async def fail(bank) -> BankConnectError:
    """Create a session, which must fail."""
    with pytest.raises(BankConnectError) as caught:
        await bank.create_session("c")
    return caught.value


@attrs.frozen(kw_only=True)
class Case:
    """
    One cell of the matrix.
    """

    row: Row
    connection: str
    route: str
    mode: str

    @property
    def is_reused(self) -> bool:
        return self.connection == "reused"

    def meet(self, meet, timeouts, **settings):
        """Run a sandbox and a client of it."""
        return meet(
            self.route,
            clock=FakeClock(),
            timeouts=timeouts,
            retry=RetryPolicy(attempts=ATTEMPTS, delivery=self.mode),
            **settings,
        )

    async def warm_up(self, sandbox, bank) -> int:
        """
        Leave a connection in the pool, where one is to be reused.

        Returns how many were opened that are of no use for what follows.
        """
        if self.is_reused:
            # The limits are those of the fault, too tight for a busy machine.
            await bank.create_session(
                "warm-up", retry=RetryPolicy(attempts=20)
            )
        return sandbox.connections - self.is_reused

    async def check_lasting(self, meet, timeouts) -> None:
        """Repeat the fault until the client gives up."""
        async with self.meet(meet, timeouts) as (sandbox, bank):
            opened = await self.warm_up(sandbox, bank)
            sandbox.faults.always(self.row.fault)

            error = await fail(bank)

            self.check_story(error)
            self.check_server(sandbox, len(error.attempts), opened)

    def check_story(self, error: BankConnectError) -> None:
        """
        Check the class of each attempt, and that the last one was allowed.
        """
        said = [attempt.delivery for attempt in error.attempts]
        assert set(said) <= self.row.says
        assert error.delivery in said
        ends = [self.row.ends(delivery, self.mode) for delivery in said]
        assert not any(ends[:-1])
        assert ends[-1] or len(said) == ATTEMPTS

    def check_server(self, sandbox, sends: int, opened: int) -> None:
        """
        Check that the server received as many requests as the error says.
        """
        row = self.row
        processed = sends if row.fault.after else 0
        assert sandbox.created("c") == processed
        if self.mode == "at-most-once":
            assert sandbox.created("c") <= 1
        if row.arrives:
            assert sandbox.received("c") == sends
            used = sandbox.connections - opened
            assert used == (sends if row.breaks else 1)

    async def check_passing(self, meet, timeouts) -> None:
        """Apply the fault once, and serve normally after it."""
        async with self.meet(meet, timeouts) as (sandbox, bank):
            await self.warm_up(sandbox, bank)
            sandbox.faults.script(self.row.fault)
            try:
                outcome = await bank.create_session("c")
            except BankConnectError as error:
                outcome = error

            self.check_outcome(outcome, created=sandbox.created("c"))

    def check_outcome(
        self, outcome: Session | BankConnectError, *, created: int
    ) -> None:
        """
        Check that a second attempt was made if it is allowed, and succeeded.
        """
        after = self.row.fault.after
        if isinstance(outcome, Session):
            assert outcome.attempts == 2
            assert created == 1 + after
        else:
            self.check_story(outcome)
            assert created == after
        if self.mode == "at-most-once":
            assert created <= 1


def over(axis: str, values) -> pytest.MarkDecorator:
    """Parametrize a test over one axis of the matrix."""
    return pytest.mark.parametrize(axis, values)


@over("mode", MODES)
@over("route", ROUTES)
@over("connection", CONNECTIONS)
@over("name", ROWS)
async def test_a_lasting_fault(meet, name, connection, route, mode):
    """
    A lasting fault has its delivery class, its number of sends and its number
    of processed requests.
    """
    case = Case(row=ROWS[name], connection=connection, route=route, mode=mode)

    await case.check_lasting(meet, LONG)


@over("mode", MODES)
@over("route", ROUTES)
@over("name", ROWS)
async def test_a_passing_fault(meet, name, route, mode):
    """
    After a passing fault the next attempt succeeds, unless it could create a
    second session.
    """
    case = Case(row=ROWS[name], connection="reused", route=route, mode=mode)

    await case.check_passing(meet, LONG)


@over("mode", MODES)
@over("check", ["lasting", "passing"])
@over("name", STALLS)
async def test_a_fault_that_takes_time(meet, name, check, mode):
    """
    The same holds where a timeout ends the attempt, on every route.
    """
    cases = [
        Case(row=STALLS[name], connection=connection, route=route, mode=mode)
        for connection, route in itertools.product(CONNECTIONS, ROUTES)
    ]
    limits = SHORT if name == "slow-accept" else SHORT_READ
    # They wait together, since that is all they do.
    async with asyncio.TaskGroup() as group:
        for case in cases:
            checked = getattr(case, f"check_{check}")(meet, limits)
            group.create_task(checked, name=str(case))


@over("mode", MODES)
@over("route", ROUTES)
@over("connection", CONNECTIONS)
async def test_nobody_listens(meet, connection, route, mode):
    """
    A request to a port without a listener counts as not sent.
    """
    # A proxy answers 502 in its place; and a connection that was kept may
    # still be written to before its end is noticed.
    says = EITHER if route == "proxy" or connection == "reused" else NOT_SENT
    row = Row(fault=Fault.refuse(), says=says, arrives=False)
    case = Case(row=row, connection=connection, route=route, mode=mode)
    async with case.meet(meet, LONG) as (sandbox, bank):
        await case.warm_up(sandbox, bank)
        async with sandbox.outage():
            error = await fail(bank)

        case.check_story(error)
        assert sandbox.received("c") == 0
        # A proxy's connection may still have to be found dead.
        await bank.create_session("c", retry=RetryPolicy())
        assert sandbox.created("c") == 1


@over("mode", MODES)
@over("route", ROUTES)
@over("seconds", [0, 0.01])
async def test_keep_alive_closed_under_the_client(meet, route, mode, seconds):
    """
    A connection that closes silently costs no session and creates none.
    """
    row = Row(fault=Fault.hang_up(seconds), says=EITHER)
    case = Case(row=row, connection="reused", route=route, mode=mode)
    async with case.meet(meet, LONG) as (sandbox, bank):
        sandbox.faults.always(row.fault)
        for number in range(5):
            link_id = f"c{number}"
            try:
                await bank.create_session(link_id)
            except BankConnectError as error:
                assert mode == "at-most-once"
                case.check_story(error)
                assert sandbox.created(link_id) == 0
            else:
                assert sandbox.created(link_id) == 1
            # Now before the end of the connection, now after it.
            await asyncio.sleep(seconds * number / 2)


@over("mode", MODES)
@over("route", ROUTES)
async def test_a_stale_connection(meet, monkeypatch, route, mode):
    """
    A failed write is retried in both modes, because nothing was passed on.
    """
    write = BytesBody.write_with_length

    async def lose_once(self, writer, content_length):
        monkeypatch.undo()
        writer.transport.abort()
        await write(self, writer, content_length)

    row = Row(fault=Fault.reset(), says=NOT_SENT)
    case = Case(row=row, connection="reused", route=route, mode=mode)
    async with case.meet(meet, LONG) as (sandbox, bank):
        await case.warm_up(sandbox, bank)
        monkeypatch.setattr(BytesBody, "write_with_length", lose_once)

        session = await bank.create_session("c")

        assert session.attempts == 2
        assert (sandbox.received("c"), sandbox.created("c")) == (1, 1)


@over("mode", MODES)
@over("route", ["tcp", "tls"])
async def test_nobody_proxies(meet, route, mode):
    """
    If the proxy is down, nothing was sent.
    """
    row = Row(fault=Fault.refuse(), says=NOT_SENT)
    case = Case(row=row, connection="new", route=route, mode=mode)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with case.meet(meet, LONG, proxy=proxy) as (sandbox, bank):
            error = await fail(bank)

            case.check_story(error)
            assert len(error.attempts) == ATTEMPTS
            assert sandbox.connections == 0
