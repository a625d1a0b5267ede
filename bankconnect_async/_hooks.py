"""
Hooks: code of the user that runs inside the package's own.
"""

import asyncio
import logging

from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, ParamSpec, TypeVar


P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("bankconnect_async")


class HookRunner:
    """
    Runs hooks so that what they raise changes no result.

    An exception is logged with its traceback, once for each hook and class.
    `KeyboardInterrupt` and `SystemExit` are meant for the whole process: the
    event loop raises them as soon as the code around the hook is done.
    """

    def __init__(self) -> None:
        self._logged: set[tuple[str, type[BaseException]]] = set()

    def run(
        self,
        name: str,
        hook: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """
        Call *hook* and return its result, or `None` if it raised.

        Args:
            name: The name of the hook in the log.
            hook: The hook; it cannot wait, so a `CancelledError` is its own.
            *args: The hook's arguments.
            **kwargs: The hook's keyword arguments.
        """
        try:
            return hook(*args, **kwargs)
        except (KeyboardInterrupt, SystemExit) as exc:
            asyncio.get_running_loop().call_soon(_raise, exc)
        except BaseException as exc:  # noqa: BLE001 - a hook raises anything
            self.log(name, exc)
        return None

    def log(self, name: str, exc: BaseException) -> None:
        """Log what a hook raised, unless it raised its like before."""
        kind = name, type(exc)
        if kind in self._logged:
            return
        self._logged.add(kind)
        # Handlers and filters of the log are the user's code, too.
        with suppress(Exception):
            _log.error(
                "%s raised %s; the work goes on, and its like is not logged "
                "again",
                name,
                type(exc).__name__,
                exc_info=exc,
            )


def was_cancelled() -> bool:
    """
    Tell whether somebody cancelled the current task.

    A `CancelledError` can come from elsewhere too, such as the result of a
    future that was cancelled.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _raise(exc: BaseException) -> NoReturn:
    raise exc
