"""
A short comparison with naive aiohttp code, for every run of the tests.

It prints the median ratio of CPU time, or several: a ratio above the limit
that it is given is measured again, because it may be somebody else's fault.
"""

import json
import sys

from .contenders import CONTENDERS, NAIVE, Setting
from .measure import opened, summarize, take_turns
from .serving import serve_ours


_ROUNDS = 6
_TRIES = 3


def is_watched() -> bool:
    """Tell whether something slows this process down that users have not."""
    if sys.gettrace() or sys.getprofile() or sys.flags.dev_mode:
        return True
    monitoring = getattr(sys, "monitoring", None)
    return monitoring is not None and any(map(monitoring.get_tool, range(6)))


def main(name: str, limit: float) -> None:
    """Compare the contender *name*, and print the ratios as JSON."""
    assert not is_watched(), "a tracer or development mode is on"
    (contender,) = (each for each in CONTENDERS if each.name == name)
    ratios: list[float] = []
    with serve_ours() as target:
        setting = Setting(target=target)
        with (
            opened(NAIVE, setting) as naive,
            opened(contender, setting) as ours,
        ):
            while len(ratios) < _TRIES and min(ratios, default=9) > limit:
                pairs = list(take_turns(naive.run, ours.run, _ROUNDS))
                ratios.append(summarize(name, pairs).ratio)
    print(json.dumps(ratios))
