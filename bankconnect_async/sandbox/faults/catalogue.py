"""
The faults that a sandbox can inject.
"""

from typing import Final, Self

import attrs
import orjson

from aiohttp import web

from bankconnect_async.errors import ConfigurationError

from .behaviours import (
    GARBAGE,
    CannedResponse,
    Close,
    FaultBehaviour,
    FaultContext,
    HangUp,
    RefusedConnect,
    Reset,
    SlowAccept,
    Stall,
    Truncation,
    Within,
)


_ERRORS: Final = range(400, 600)
_PAGE: Final = (
    b"<!doctype html>\n<title>Gateway</title>\n<p>Please wait.</p>\n"
)


def _checked(status: int) -> int:
    if status not in _ERRORS:
        raise ConfigurationError(
            fields={"status": ("must be a number from 400 to 599",)}
        )
    return status


@attrs.frozen(kw_only=True)
class Fault:
    """
    One way in which a request goes wrong.

    Each class method makes one kind of fault.

    Attributes:
        behaviour: What happens.
        after: Whether it happens after the request was processed: a session
            was created, and the caller does not learn of it. Otherwise
            nothing is processed. In both cases the server reads the whole
            request, except where it does not accept the connection.
    """

    behaviour: FaultBehaviour
    after: bool = False

    @classmethod
    def refuse(cls) -> Self:
        """
        Reset the connection as soon as it is accepted.

        A request over an open connection is answered with a reset. See
        `Sandbox.outage` for a port at which nothing listens.
        """
        return cls(behaviour=RefusedConnect())

    @classmethod
    def slow_accept(cls, seconds: float = 1.0) -> Self:
        """
        Accept a connection late; with TLS, the handshake waits, too.

        The kernel completes the connection at once, as it does for any
        server whose backlog has room. A request over an open connection is
        processed late.
        """
        return cls(behaviour=SlowAccept(seconds))

    @classmethod
    def reset(cls, *, after: bool = False) -> Self:
        """Read the request and reset the connection."""
        return cls(behaviour=Reset(), after=after)

    @classmethod
    def eof(cls, *, after: bool = False) -> Self:
        """Read the request and close the connection."""
        return cls(behaviour=Close(), after=after)

    @classmethod
    def stall(
        cls,
        seconds: float | None = None,
        *,
        within: Within = "head",
        after: bool = False,
    ) -> Self:
        """
        Send nothing for a while, then go on.

        Before processing and within the head, the request is processed when
        the time is over, even if the caller has disconnected.

        Args:
            seconds: The length of the pause; `None` for no end.
            within: `head` to pause before the response, `body` to pause in
                the middle of its body.
            after: Process the request first.
        """
        return cls(behaviour=Stall(seconds, within), after=after)

    @classmethod
    def truncate(cls, *, within: Within = "body", after: bool = False) -> Self:
        """Close the connection in the middle of the response."""
        return cls(behaviour=Truncation(within), after=after)

    @classmethod
    def garbage(cls, *, after: bool = False) -> Self:
        """Answer with bytes that are not HTTP."""
        return cls(behaviour=Close(GARBAGE), after=after)

    @classmethod
    def html(cls, *, after: bool = False) -> Self:
        """Answer 200 with an HTML page."""
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
            status: The HTTP status, 400 to 599.
            retry_after: The seconds of the Retry-After header.
            as_date: Whether that header is an HTTP date.
            after: Process the request first.

        Raises:
            ConfigurationError: If *status* is not an error.
        """
        behaviour = CannedResponse(
            status=_checked(status),
            retry_after=retry_after,
            as_date=as_date,
            body=_PAGE,
        )
        return cls(behaviour=behaviour, after=after)

    @classmethod
    def error(cls, code: str, message: str = "", *, status: int = 400) -> Self:
        """
        Answer with an error of the API.

        Args:
            code: The code, such as `INVALID_BANK_NAME`.
            message: The vendor's text; by default the code.
            status: The HTTP status, 400 to 599.

        Raises:
            ConfigurationError: If *status* is not an error.
        """
        body = {"error": {"code": code, "message": message or code}}
        behaviour = CannedResponse(
            status=_checked(status),
            body=orjson.dumps(body),
            content_type="application/json",
        )
        return cls(behaviour=behaviour)

    @classmethod
    def redirect(
        cls, to: str = "https://elsewhere.invalid/", *, after: bool = False
    ) -> Self:
        """Answer 307, which asks to post the same body to another address."""
        return cls(
            behaviour=CannedResponse(status=307, location=to), after=after
        )

    @classmethod
    def hang_up(cls, seconds: float = 0) -> Self:
        """
        Send the good response, and close the connection unannounced.

        Args:
            seconds: The time that the connection is idle before that.
        """
        return cls(behaviour=HangUp(seconds), after=True)

    async def apply(self, context: FaultContext) -> web.StreamResponse:
        """
        Apply the fault to a request, and return the response to send.
        """
        if self.after:
            context = attrs.evolve(context, response=await context.process())
        return await self.behaviour.apply(context)
