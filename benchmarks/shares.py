"""
The shares of a session's CPU time: the sockets', aiohttp's, each layer's.

    python -m benchmarks shares

A timer interrupts the process after each few milliseconds of its CPU time
(`ITIMER_PROF`), and the innermost frame that belongs to a layer gets the
sample. So C functions and the standard library count for the code that calls
them; only asyncio is a layer of its own.
"""

import argparse
import signal

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import aiohttp
import attrs

import bankconnect_async

from .contenders import CONTENDERS, NAIVE, Setting, Target
from .measure import Block, Opened, opened, summarize, take_turns
from .report import PAGE, ROOT, pyplot, replace_block, save, say, table
from .serving import serve


#: The layers, from the system up to the calling code, and their colours.
LAYERS: Final = {
    "system calls": "#343a40",
    "event loop": "#868e96",
    "aiohttp": "#f08c00",
    "_http": "#0b7285",
    "_codec": "#1098ad",
    "_resources": "#22b8cf",
    "batch": "#5f3dc4",
    "journal": "#9775fa",
    "other modules": "#99e9f2",
    "caller": "#dee2e6",
}
#: The contenders that are measured beside naive code.
SHOWN: Final = (
    "tuned aiohttp",
    "create_session",
    "create_sessions",
    "create_sessions, journal",
    "bare protocol",
)
_US: Final = "create_sessions"
_BARE: Final = "bare protocol"
_PACKAGE: Final = Path(bankconnect_async.__file__).parent
_BENCHMARKS: Final = Path(__file__).parent
_SITE: Final = Path(aiohttp.__file__).parent.parent
# What the benchmark itself does between two blocks.
_OUTSIDE: Final = "outside"
# aiohttp and the packages that it is made of.
_AIOHTTP: Final = frozenset(
    {
        "aiohttp",
        "aiohappyeyeballs",
        "aiosignal",
        "frozenlist",
        "multidict",
        "propcache",
        "yarl",
    }
)
# Functions of asyncio that do little more than call the system.
_SYSTEM: Final = frozenset(
    {
        "select",
        "write",
        "_read_ready__data_received",
        "_write_ready",
        "_write_send",
        "_write_sendmsg",
    }
)
# The kernel looks at the time 100 to 1,000 times a second, and no more.
_SECONDS: Final = 0.001
_PICTURE: Final = "shares.svg"


@attrs.frozen(kw_only=True)
class Shares:
    """
    The shares of a contender's CPU time.

    Attributes:
        name: The name of the contender.
        ratio: The ratio of its CPU time to that of naive code.
        samples: The number of samples of each layer.
    """

    name: str
    ratio: float
    samples: Counter[str]

    def cost(self, layer: str) -> float:
        """Return a layer's part of the ratio."""
        return self.ratio * self.samples[layer] / self.samples.total()


class Sampler:
    """
    Counts the layers in which this process spends its CPU time.

    Attributes:
        samples: The number of samples of each layer.
    """

    def __init__(self) -> None:
        self.samples: Counter[str] = Counter()
        self._layers: dict[CodeType, str | None] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take samples meanwhile; in the main thread only."""
        before = signal.signal(signal.SIGPROF, self._on_signal)
        signal.setitimer(signal.ITIMER_PROF, _SECONDS, _SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)

    def _on_signal(self, _: int, frame: FrameType | None) -> None:
        while frame is not None:
            code = frame.f_code
            if code not in self._layers:
                self._layers[code] = layer_of(code)
            if (layer := self._layers[code]) is not None:
                if layer != _OUTSIDE:
                    self.samples[layer] += 1
                return
            frame = frame.f_back


def layer_of(code: CodeType) -> str | None:
    """
    Return the layer of a function; `None` if it has that of its caller.

    Args:
        code: The code of the function.
    """
    file = Path(code.co_filename)
    if file.is_relative_to(_PACKAGE):
        folder = file.relative_to(_PACKAGE).parts[0]
        return folder if folder in LAYERS else "other modules"
    if file.is_relative_to(_BENCHMARKS):
        return "caller" if file.name == "contenders.py" else _OUTSIDE
    if file.parent.name == "asyncio" or file.name == "selectors.py":
        is_system = code.co_name in _SYSTEM
        return "system calls" if is_system else "event loop"
    if file.is_relative_to(_SITE):
        package = file.relative_to(_SITE).parts[0]
        return "aiohttp" if package in _AIOHTTP else None
    return None


def measure(target: Target, rounds: int, size: int) -> list[Shares]:
    """
    Measure the shares of all contenders, in turns with naive code.

    Args:
        target: The server.
        rounds: The number of rounds, of four blocks each.
        size: The number of sessions in a block.
    """
    setting = Setting(target=target)
    found: list[Shares] = []
    with opened(NAIVE, setting) as naive:
        base = Sampler()
        for contender in CONTENDERS:
            if contender.name not in SHOWN:
                continue
            say(f"shares: {contender.name}")
            sampler = Sampler()
            with opened(contender, setting) as other:
                pairs = take_turns(
                    partial(_run, naive, base, size),
                    partial(_run, other, sampler, size),
                    rounds,
                )
                result = summarize(contender.name, list(pairs))
            found.append(
                Shares(
                    name=contender.name,
                    ratio=result.ratio,
                    samples=sampler.samples,
                )
            )
    found.insert(0, Shares(name=NAIVE.name, ratio=1, samples=base.samples))
    return found


def _run(ready: Opened, sampler: Sampler, size: int) -> Block:
    with sampler.running():
        return ready.run(size)


def render(found: Sequence[Shares]) -> str:
    """
    Return the shares as a table, and what lies above the bare protocol.

    Args:
        found: The shares of each contender.
    """
    header = ["x naive", *(each.name for each in found)]
    rows = [
        [layer, *(_number(each.cost(layer)) for each in found)]
        for layer in LAYERS
    ]
    rows.append(["together", *(_number(each.ratio) for each in found)])
    rows.append(["samples", *(f"{each.samples.total():,}" for each in found)])
    return f"{table(header, rows)}\n\n{_explain(found)}"


def _number(cost: float) -> str:
    return f"{cost:.3f}" if cost else "-"


def _explain(found: Sequence[Shares]) -> str:
    ours, bare = (
        next(each for each in found if each.name == name)
        for name in (_US, _BARE)
    )
    more = {layer: ours.cost(layer) - bare.cost(layer) for layer in LAYERS}
    listed = ", ".join(
        f"{layer} {cost:+.2f}"
        for layer, cost in sorted(more.items(), key=lambda item: -item[1])
        if round(cost, 2)
    )
    return (
        f"`{_US}` takes {ours.ratio:.2f}, and the {_BARE} {bare.ratio:.2f}. "
        f"Between them: {listed}."
    )


def draw(found: Sequence[Shares], path: Path) -> None:
    """Draw a bar for each contender, with the layers from left to right."""
    figure, axes = pyplot().subplots(figsize=(8, 0.45 * len(found) + 1.8))
    names = [each.name for each in found]
    left = [0.0] * len(found)
    for layer, color in LAYERS.items():
        costs = [each.cost(layer) for each in found]
        # A legend leaves out labels with an underscore in front.
        label = layer.removeprefix("_")
        axes.barh(names, costs, left=left, color=color, label=label)
        left = [sum(pair) for pair in zip(left, costs, strict=True)]
    for place, each in enumerate(found):
        axes.text(each.ratio, place, f" {each.ratio:.2f}", va="center")
    axes.invert_yaxis()
    axes.set_title("CPU time of a session by layer", loc="left")
    axes.set_xlabel("CPU time, as a multiple of naive aiohttp's")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        ncols=5,
        fontsize=8,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
    )
    save(figure, path)


def run(options: argparse.Namespace) -> None:
    """Measure the shares, print them, and draw them."""
    with serve() as service:
        found = measure(service.plain, options.rounds, options.size)
    options.output.mkdir(parents=True, exist_ok=True)
    draw(found, options.output / _PICTURE)
    print(text := render(found))
    if options.publish:
        draw(found, ROOT / "docs" / _PICTURE)
        replace_block(PAGE, "shares", text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add = parser.add_argument
    add("--rounds", type=int, default=10, help="of four blocks each")
    add("--size", type=int, default=2000, help="sessions in a block")
    add("--publish", action="store_true", help="write them into the README")
