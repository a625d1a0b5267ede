"""
Suggestions for mistyped names of parameters.
"""

import difflib

from collections.abc import Iterable

from .sessions import PARAMETERS


def similar_parameter(name: str) -> str | None:
    """
    Return the documented parameter that is most similar to *name*.
    """
    words = "_".join(name.lower().split())
    return next(iter(difflib.get_close_matches(words, PARAMETERS, n=1)), None)


def describe_unknown(names: Iterable[str]) -> str | None:
    """
    Return the message about the first of *names* that is no parameter.
    """
    for name in names:
        if name in PARAMETERS or name == "extra":
            continue
        similar = similar_parameter(name)
        hint = f" (did you mean {similar}?)" if similar else ""
        return (
            f"{name!r} is no parameter of a session{hint}; an undocumented "
            f"one goes into extra="
        )
    return None
