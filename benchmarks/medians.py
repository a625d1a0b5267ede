"""
One report of several runs, because a single run may be lucky.
"""

import statistics

from collections.abc import Sequence
from typing import Any

import attrs

from .report import Report


def median_report(reports: Sequence[Report]) -> Report:
    """
    Return a report whose figures are the medians of several.

    Its quartiles are medians of quartiles, and each result has the ratios of
    all runs.

    Args:
        reports: The reports of the runs, which measured the same.
    """
    found = Report.from_dict(median_of([*map(attrs.asdict, reports)]))
    found.about["runs"] = str(len(reports))
    for transport, results in found.tables.items():
        found.tables[transport] = [
            attrs.evolve(
                result,
                runs=[
                    each.ratio
                    for report in reports
                    if (each := report.find(result.name, transport))
                ],
            )
            for result in results
        ]
    return found


def median_of(values: Sequence[Any]) -> Any:
    """
    Return the median of each number in structures of the same shape.

    Args:
        values: The structures; what is no number comes from the first one.
    """
    first = values[0]
    if isinstance(first, dict):
        return {
            key: median_of([value[key] for value in values]) for key in first
        }
    if isinstance(first, list):
        return [median_of(each) for each in zip(*values, strict=True)]
    if isinstance(first, int | float):
        return statistics.median(values)
    return first
