"""
Errors without the frames that hold secrets.
"""

import functools

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .errors import BankConnectError


P = ParamSpec("P")
T = TypeVar("T")


def hide_frames(function: Callable[P, T]) -> Callable[P, T]:
    """
    Raise the errors of *function* without its frames.

    Their locals hold secrets, which a traceback with locals would print.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BankConnectError as error:
            failure = error.with_traceback(None)
            failure.__context__ = None
        del args, kwargs
        raise failure

    return call
