"""
Faults as the command line writes them.
"""

import functools
import inspect
import re

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from bankconnect_async.errors import ConfigurationError

from .catalogue import Fault


_FACTORIES: Final[Mapping[str, Callable[..., Fault]]] = {
    "refuse": Fault.refuse,
    "slow-accept": Fault.slow_accept,
    "reset": Fault.reset,
    "eof": Fault.eof,
    "stall": Fault.stall,
    "truncate": Fault.truncate,
    "garbage": Fault.garbage,
    "html": Fault.html,
    "empty": Fault.empty,
    "redirect": Fault.redirect,
    "hang-up": Fault.hang_up,
}
_GOOD: Final = "ok"
_STATUS: Final = re.compile(r"[1-9]\d\d", re.ASCII)
# Each word of a fault, as a keyword argument.
_WORDS: Final[Mapping[str, tuple[str, Any]]] = {
    "after": ("after", True),
    "head": ("within", "head"),
    "body": ("within", "body"),
    "date": ("as_date", True),
}
_RETRY_AFTER: Final = "retry-after="


@attrs.frozen(kw_only=True)
class FaultSpec:
    """
    One argument of the command line.

    Attributes:
        prefix: The prefix of the link ids; `None` for all requests.
        faults: The faults in order; `None` is a good response. A single
            fault always applies.
        chance: The chance of a single fault, up to 1.
    """

    prefix: str | None
    faults: tuple[Fault | None, ...]
    chance: float


def parse_spec(text: str) -> FaultSpec:
    """
    Parse ``[PREFIX*=]FAULT[@CHANCE]`` or ``[PREFIX*=]FAULT,FAULT...``.

    Raises:
        ConfigurationError: If it is neither.
    """
    prefix, star, rest = text.rpartition("*=")
    names, at, chance = rest.partition("@")
    try:
        faults = tuple(map(_parse_fault, names.split(",")))
        spec = FaultSpec(
            prefix=prefix if star else None,
            faults=faults,
            chance=float(chance) if at else 1.0,
        )
    except ValueError as exc:
        problem = str(exc)
    else:
        if not at or (len(faults) == 1 and faults != (None,)):
            return spec
        problem = "a chance is that of one fault"
    raise ConfigurationError(fields={"fault": (f"{text}: {problem}",)})


def _parse_fault(text: str) -> Fault | None:
    name, *words = text.strip().split(":")
    if name == _GOOD and not words:
        return None
    make = _FACTORIES.get(name)
    if _STATUS.fullmatch(name):
        make = functools.partial(Fault.status, int(name))
    if make is None:
        known = ", ".join((_GOOD, *_FACTORIES))
        raise ValueError(f"{name!r} is none of {known} or a status")
    parameters = inspect.signature(make).parameters
    arguments: dict[str, Any] = {}
    for word in words:
        argument, value = _parse_word(word)
        if argument not in parameters or argument in arguments:
            raise ValueError(f"{name} takes no {word!r} here")
        arguments[argument] = value
    return make(**arguments)


def _parse_word(word: str) -> tuple[str, Any]:
    if word in _WORDS:
        return _WORDS[word]
    if word.startswith(_RETRY_AFTER):
        return "retry_after", float(word.removeprefix(_RETRY_AFTER))
    return "seconds", float(word)
