"""
How the cost of a session changes with what surrounds it.
"""

import json

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

import attrs

from .contenders import BATCH, NAIVE, OURS, Contender, Setting, Target
from .measure import compare
from .report import say
from .serving import Service, serve_ours
from .solo import peak_memory


#: What is varied, and the costs at that point.
Point = dict[str, float]

_CONCURRENCIES: Final = (1, 3, 10, 30, 100, 300, 1000)
_DELAYS: Final = (0, 1, 10, 50, 200)
_COUNTS: Final = (1_000, 10_000, 100_000, 1_000_000)
_LONG: Final = 1_000_000


def all_parameters() -> dict[str, Any]:
    """Return a value for every documented parameter."""
    from bankconnect_async import Consent, Metadata

    return {
        "bank_name": "axis",
        "from_date": date(2026, 1, 1),
        "to_date": date(2026, 6, 30),
        "mode": "aa",
        "mobile_number": "9876543210",
        "session_expiry": 60,
        "accept_anything": True,
        "bank": "axis",
        "logo_url": "https://lender.example/logo.png",
        "journey_mode": "multi_pdf",
        "is_mobile_field_editable": False,
        "aa_journey_mode": "only_recurring",
        "aa_recurring_tenure_month_count": 6,
        "aa_recurring_tenure_month": 6.0,
        "aa_recurring_frequency_unit": "month",
        "aa_recurring_frequency_value": 1,
        "aa_journey_code": "BCAA001",
        "consents": {"BCAA001": Consent(from_date=date(2026, 1, 1))},
        "metadata": Metadata(names=("A. Customer",)),
        "extra": {"new_parameter": "value"},
    }


def measure_curves(
    service: Service, rounds: int, *, full: bool
) -> dict[str, list[Point]]:
    """
    Measure all curves.

    Args:
        service: The server where it need not be late.
        rounds: For each point.
        full: Whether to create a million sessions.
    """
    curves = {
        "requests in flight": _by_concurrency(service.plain, rounds),
        "parameters": _by_size(service.plain, rounds),
        "latency, ms": _by_delay(rounds),
        "sessions": _by_count(service.plain, full=full),
    }
    found = {}
    for name, points in curves.items():
        say(f"curve: cost by {name}")
        found[name] = [{name: value, **point} for value, point in points]
    return found


def _by_concurrency(
    target: Target, rounds: int
) -> Iterator[tuple[float, Point]]:
    for connections in _CONCURRENCIES:
        setting = Setting(target=target, connections=connections)
        yield connections, _compare(setting, rounds, OURS, BATCH)


def _by_delay(rounds: int) -> Iterator[tuple[float, Point]]:
    for delay in _DELAYS:
        with serve_ours(delay / 1e3) as target:
            yield delay, _compare(Setting(target=target), rounds, OURS)


def _by_size(target: Target, rounds: int) -> Iterator[tuple[float, Point]]:
    parameters = all_parameters()
    for count in (0, 3, 8, len(parameters)):
        given = dict(list(parameters.items())[:count])
        setting = Setting(
            target=target, parameters=given, written=_written(given)
        )
        # Beside link_id and redirect_url.
        yield count + 2, _compare(setting, rounds, OURS, BATCH)


def _written(parameters: Mapping[str, Any]) -> dict[str, Any]:
    from bankconnect_async import SessionRequest
    from bankconnect_async._codec.session_requests import encode_session

    request = SessionRequest(link_id="-", redirect_url=None, **parameters)
    body: dict[str, Any] = json.loads(encode_session(request, "key"))
    return {
        name: value
        for name, value in body.items()
        if name not in {"link_id", "api_key"}
    }


def _by_count(target: Target, *, full: bool) -> Iterator[tuple[float, Point]]:
    for count in _COUNTS:
        if count < _LONG or full:
            peak, cpu = peak_memory(BATCH, target, count)
            yield count, {"create_sessions µs": cpu, "peak MiB": peak}


def _compare(setting: Setting, rounds: int, *contenders: Contender) -> Point:
    # Each connection is to be used more than once in a block.
    size = max(OURS.size, 2 * setting.connections)
    base, *others = (
        attrs.evolve(each, size=size) for each in (NAIVE, *contenders)
    )
    *found, naive = compare(base, others, setting, rounds)
    return {
        **{f"{each.name} µs": each.cpu for each in found},
        "naive aiohttp µs": naive.cpu,
        **{_ratio_of(each.name): each.ratio for each in found},
    }


def _ratio_of(name: str) -> str:
    return "x naive" if name == OURS.name else f"{name} x naive"
