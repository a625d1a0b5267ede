"""
Faults in the words of the command line.
"""

import functools
import inspect
import re
import types

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from bankconnect_async.errors import ConfigurationError

from .catalogue import Fault


_MAKERS: Final[Mapping[str, Callable[..., Fault]]] = {
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
# Each word of a fault, as an argument by name.
_WORDS: Final[Mapping[str, tuple[str, Any]]] = types.MappingProxyType(
    {
        "after": ("after", True),
        "head": ("within", "head"),
        "body": ("within", "body"),
        "date": ("as_date", True),
    }
)
_RETRY_AFTER: Final = "retry-after="


@attrs.frozen(kw_only=True)
class FaultSpec:
    """
    One argument of the command line.

    Attributes:
        prefix: Of the link ids it is for; `None` for all requests.
        faults: In turn, `None` is a good answer; a single one stands.
        chance: Of a single one, up to 1.
    """

    prefix: str | None
    faults: tuple[Fault | None, ...]
    chance: float


def parse_spec(text: str) -> FaultSpec:
    """
    Read ``[PREFIX*=]FAULT[@CHANCE]`` or ``[PREFIX*=]FAULT,FAULT...``.

    Raises:
        ConfigurationError: If it makes no sense.
    """
    prefix, star, said = text.rpartition("*=")
    said, at, chance = said.partition("@")
    faults = tuple(_read_fault(text, each) for each in said.split(","))
    if at and (len(faults) > 1 or faults == (None,)):
        raise _nonsense(text, "a chance is that of one fault")
    return FaultSpec(
        prefix=prefix if star else None,
        faults=faults,
        chance=_read_number(text, chance) if at else 1.0,
    )


def _read_fault(text: str, said: str) -> Fault | None:
    name, *words = said.strip().split(":")
    if name == _GOOD and not words:
        return None
    make = _maker(text, name)
    known = inspect.signature(make).parameters
    arguments: dict[str, Any] = {}
    for word in words:
        argument, value = _read_word(text, word)
        if argument not in known or argument in arguments:
            raise _nonsense(text, f"{name} takes no {word!r} here")
        arguments[argument] = value
    return make(**arguments)


def _maker(text: str, name: str) -> Callable[..., Fault]:
    if _STATUS.fullmatch(name):
        return functools.partial(Fault.status, int(name))
    if name not in _MAKERS:
        known = ", ".join((_GOOD, *_MAKERS))
        raise _nonsense(text, f"{name!r} is none of {known} or a status")
    return _MAKERS[name]


def _read_word(text: str, word: str) -> tuple[str, Any]:
    if word in _WORDS:
        return _WORDS[word]
    if word.startswith(_RETRY_AFTER):
        seconds = word.removeprefix(_RETRY_AFTER)
        return "retry_after", _read_number(text, seconds)
    return "seconds", _read_number(text, word)


def _read_number(text: str, said: str) -> float:
    try:
        return float(said)
    except ValueError:
        raise _nonsense(text, f"{said!r} is not understood") from None


def _nonsense(text: str, problem: str) -> ConfigurationError:
    return ConfigurationError(fields={"fault": (f"{text}: {problem}",)})
