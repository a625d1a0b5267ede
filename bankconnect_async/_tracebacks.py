"""
Errors without the frames that hold secrets.
"""

import functools
import inspect

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from .errors import BankConnectError


P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class ArgumentError(TypeError):
    """
    A wrong argument beside secret ones.
    """


def hide_frames(function: Callable[P, T]) -> Callable[P, T]:
    """
    Raise the errors of a function or coroutine without its frames.

    Their locals hold secrets, which a traceback with locals would print. Any
    other exception, such as a cancellation, keeps the frames: a coroutine has
    to delete its secret arguments before it awaits.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (BankConnectError, ArgumentError) as error:
            failure = without_frames(error)
        finally:
            del args, kwargs
        raise failure

    @functools.wraps(function)
    async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            try:
                running = cast("Any", function)(*args, **kwargs)
            finally:
                del args, kwargs
            return await running
        except (BankConnectError, ArgumentError) as error:
            failure = without_frames(error)
        raise failure

    if inspect.iscoroutinefunction(function):
        return cast("Callable[P, T]", call_async)
    return call


def without_frames(error: E) -> E:
    """
    Return an error without its traceback and without its context.
    """
    error.__context__ = None
    return error.with_traceback(None)
