"""
The faults that can be asked for.
"""

from typing import Final, Self

import attrs

from aiohttp import web

from bankconnect_async.errors import ConfigurationError

from .behaviours import (
    EOF,
    CannedResponse,
    ConnectFaultBehaviour,
    FaultBehaviour,
    FaultContext,
    Garbage,
    HangUp,
    RefusedConnect,
    Reset,
    SlowAccept,
    Stall,
    Truncation,
    Within,
)


_ERRORS: Final = range(400, 600)
_ELSEWHERE: Final = "https://elsewhere.invalid/"
_PAGE: Final = (
    b"<!doctype html>\n<title>Gateway</title>\n<p>Please wait.</p>\n"
)


@attrs.frozen(kw_only=True)
class Fault:
    """
    One way in which a request goes wrong; made by a method of the class.

    Attributes:
        behaviour: Which.
        after: Strike after the request was processed: a session was created,
            and the caller does not get to know. Else nothing was processed.
            In both cases the request was read as a whole, except where the
            connection never came about.
    """

    behaviour: FaultBehaviour
    after: bool = False

    @classmethod
    def refuse(cls) -> Self:
        """
        Reset the connection as soon as it is accepted.

        A request over a connection that is open already meets a reset. See
        `Sandbox.outage` for a port where nobody listens.
        """
        return cls(behaviour=RefusedConnect())

    @classmethod
    def slow_accept(cls, seconds: float = 1.0) -> Self:
        """
        Let a connection in late, a TLS handshake included.

        The kernel has completed the connection by then, as it does for any
        server whose backlog has room. A request over a connection that is
        open already is processed that late.
        """
        return cls(behaviour=SlowAccept(seconds))

    @classmethod
    def reset(cls, *, after: bool = False) -> Self:
        """Read the request and reset the connection."""
        return cls(behaviour=Reset(), after=after)

    @classmethod
    def eof(cls, *, after: bool = False) -> Self:
        """Read the request and close the connection in good order."""
        return cls(behaviour=EOF(), after=after)

    @classmethod
    def stall(
        cls,
        seconds: float | None = None,
        *,
        within: Within = "head",
        after: bool = False,
    ) -> Self:
        """
        Say nothing for so long, then go on; `None` is for ever.

        Before processing and within the head, the request is processed when
        the time is over, even if nobody waits for the answer any more.

        Args:
            seconds: How long.
            within: `head` is before anything was said, `body` in its middle.
            after: Process the request first.
        """
        return cls(behaviour=Stall(seconds, within), after=after)

    @classmethod
    def truncate(cls, *, within: Within = "body", after: bool = False) -> Self:
        """Close the connection in the middle of the answer."""
        return cls(behaviour=Truncation(within), after=after)

    @classmethod
    def garbage(cls, *, after: bool = False) -> Self:
        """Answer with bytes that are not HTTP."""
        return cls(behaviour=Garbage(), after=after)

    @classmethod
    def html(cls, *, after: bool = False) -> Self:
        """Answer 200 with a page for people."""
        return cls(behaviour=CannedResponse(body=_PAGE), after=after)

    @classmethod
    def empty(cls, *, after: bool = False) -> Self:
        """Answer 200 with no body."""
        return cls(behaviour=CannedResponse(), after=after)

    @classmethod
    def status(
        cls,
        status: int,
        *,
        retry_after: float | None = None,
        as_date: bool = False,
        after: bool = False,
    ) -> Self:
        """
        Answer with an error, as gateways do.

        Args:
            status: 400 to 599.
            retry_after: Ask to stay away for so many seconds.
            as_date: Ask so with an HTTP date.
            after: Process the request first.

        Raises:
            ConfigurationError: If *status* is no error.
        """
        if status not in _ERRORS:
            raise ConfigurationError(
                fields={"status": ("must be a number from 400 to 599",)}
            )
        behaviour = CannedResponse(
            status=status, retry_after=retry_after, as_date=as_date, body=_PAGE
        )
        return cls(behaviour=behaviour, after=after)

    @classmethod
    def redirect(cls, to: str = _ELSEWHERE, *, after: bool = False) -> Self:
        """Answer 307, which asks to post the same body to another address."""
        return cls(
            behaviour=CannedResponse(status=307, location=to), after=after
        )

    @classmethod
    def hang_up(cls, seconds: float = 0) -> Self:
        """
        Answer well, and close the connection without having said so.

        Args:
            seconds: For how long it stays idle before that.
        """
        return cls(behaviour=HangUp(seconds), after=True)

    @property
    def on_connect(self) -> ConnectFaultBehaviour | None:
        """What it does before a connection is let in, if anything."""
        return (
            self.behaviour
            if isinstance(self.behaviour, ConnectFaultBehaviour)
            else None
        )

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """
        Do the harm, and return what is left to answer.
        """
        if self.after:
            answer = await context.process()
            context = attrs.evolve(context, answer=answer)
        return await self.behaviour.apply(context)
