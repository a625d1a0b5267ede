"""
Numbers, shares, durations and times as texts.
"""

import datetime

from typing import Final

from bankconnect_async.stats import Latency


# The units of durations, largest first, in seconds.
_UNITS: Final = (
    (86_400, "d"),
    (3600, "h"),
    (60, "min"),
    (1, "s"),
    (1e-3, "ms"),
)
_NEARLY_ONE: Final = 0.9995
# From here on there are three digits without any after the point.
_HUNDRED: Final = 100
# The percentages beyond which one digit after the point says none or all.
_SMALL: Final = 0.1
_LARGE: Final = 99.95


def number(value: int) -> str:
    """Return a number with separators of thousands."""
    return f"{value:,}"


def share(part: int, whole: int) -> str:
    """Return a share in percent; empty of nothing."""
    if not whole:
        return ""
    percent = 100 * part / whole
    # A few of a million are neither none nor all.
    if part and percent < _SMALL:
        return "< 0.1 %"
    if part != whole and percent >= _LARGE:
        return "> 99.9 %"
    return f"{percent:.1f} %"


def three_digits(value: float) -> str:
    """Return a number with three digits at least, and no exponent."""
    return f"{value:,.0f}" if value >= _HUNDRED else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a duration with three digits and its unit."""
    # What would be rounded to a whole larger unit is one.
    size, unit = next(
        (each for each in _UNITS if seconds >= each[0] * _NEARLY_ONE),
        _UNITS[-1],
    )
    return f"{three_digits(seconds / size)} {unit}"


def time(at: datetime.datetime) -> str:
    """Return a time to the second, in UTC."""
    return f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def quantiles(latency: Latency) -> list[tuple[str, str]]:
    """Return the names and the texts of quantiles."""
    return [
        ("50 %", duration(latency.p50)),
        ("90 %", duration(latency.p90)),
        ("99 %", duration(latency.p99)),
        ("longest", duration(latency.max)),
    ]
