"""
The statuses of responses after an error.
"""

import asyncio

from http import HTTPStatus
from typing import Final

from bankconnect_async.errors import (
    BankConnectError,
    ClientClosedError,
    RateLimitError,
    ServerError,
    StoreError,
    TransportError,
)


# Cancellation is one, because a cancelled callback must not lose its event.
ANY_ERROR: Final = (Exception, asyncio.CancelledError)

_TEMPORARY: Final = (
    TransportError,
    RateLimitError,
    ServerError,
    StoreError,
    ClientClosedError,
    asyncio.CancelledError,
)


def is_temporary(error: BaseException) -> bool:
    """
    Tell whether a retry may succeed.
    """
    return isinstance(error, _TEMPORARY)


def failure_status(error: BaseException) -> HTTPStatus:
    """
    Map an error of the client to the status of a response.

    503 if a retry may succeed (no connection, no response, too many
    requests, a server error, a store that cannot be used, a closing client);
    502 if the vendor refuses for good, such as for a wrong key; 500 for any
    other error.
    """
    if is_temporary(error):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, BankConnectError):
        return HTTPStatus.BAD_GATEWAY
    return HTTPStatus.INTERNAL_SERVER_ERROR
