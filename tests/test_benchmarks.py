"""
The arithmetic of `benchmarks`, without measuring anything.
"""

import asyncio
import json

from collections import Counter

import aiohttp
import pytest

from bankconnect_async._codec.session_requests import encode_session
from bankconnect_async.batch.outcomes import duplicate_error
from benchmarks import contenders, growth, history, measure, medians, shares
from benchmarks import report as reports


def cells(row):
    """Return the texts in a row of a table."""
    return [cell.strip() for cell in row.split("|")[1:-1]]


def part(rows, *, cpu=100.0, yardstick=1000.0, peak=50.0):
    """Return a part of a batch."""
    return growth.Part(
        rows=rows, cpu=cpu, yardstick=yardstick, peak=peak, size=rows * 300
    )


def test_growth_has_a_line_for_each_power_of_ten():
    """
    The table compares each power of ten with the first, row by row.
    """
    parts = [part(50_000), part(100_000, cpu=110.0)]
    # The machine is half as fast, and a row takes 16 bytes.
    parts += [
        part(1_000_000, cpu=210.0, yardstick=2000.0, peak=50 + 900 * 16 / 1024)
    ]
    resume = growth.Resume(
        rows=1_000_000, opened=5.0, seconds=12.5, cpu=11.0, peak=70.0
    )

    text = growth.render(parts, resume)

    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [cells(row) for row in rows[2:]] == [
        ["100,000", "105", "1.00", "0.98 - 1.02", "50", "-", "30"],
        ["1,000,000", "210", "1.00", "1.00 - 1.00", "64", "16.4", "300"],
    ]
    assert "12.5 s for each million, at most 30" in text


@pytest.mark.parametrize(
    ("function", "layer"),
    [
        (encode_session, "_codec"),
        (duplicate_error, "batch"),
        (aiohttp.BasicAuth.decode, "aiohttp"),
        (asyncio.BaseEventLoop.call_soon, "event loop"),
        (
            asyncio.selector_events._SelectorSocketTransport.write,
            "system calls",
        ),
        (contenders.Setting.body, "caller"),
        (json.dumps, None),
    ],
)
def test_layers_of_functions(function, layer):
    """
    A function belongs to its layer; the standard library to its callers.
    """
    assert shares.layer_of(function.__code__) == layer


def test_shares_add_up_to_the_ratio():
    """
    The parts of a contender's ratio add up to it, and are compared by layer.
    """
    ours = shares.Shares(
        name="create_sessions",
        ratio=0.8,
        samples=Counter({"aiohttp": 60, "_http": 30, "caller": 10}),
    )
    bare = shares.Shares(
        name="bare protocol", ratio=0.2, samples=Counter({"caller": 5})
    )

    text = shares.render([ours, bare])

    assert sum(map(ours.cost, shares.LAYERS)) == pytest.approx(0.8)
    assert text.endswith(
        "`create_sessions` takes 0.80, and the bare protocol 0.20. "
        "Between them: aiohttp +0.48, _http +0.24, caller -0.12."
    )


def run_of(ratio, *, point=0.9, above=15.0):
    """Return the report of a run."""
    result = measure.Result(
        name="create_sessions, journal",
        cpu=100 * ratio,
        ratio=ratio,
        low=ratio - 0.05,
        high=ratio + 0.05,
        rate=1e6 / ratio,
        p50=None,
        p99=None,
        pairs=80,
    )
    about = {
        "date": "2026-11-30",
        "commit": "0123456",
        "machine": "A processor, 2 cores",
        "versions": "Python 3.12.1, aiohttp 3.14.5",
        "server": "nginx",
    }
    return reports.Report(
        about=about,
        tables={"plain": [result]},
        curves={"parameters": [{"parameters": 22, "x naive": point}]},
        imports={"bankconnect_async": above},
    )


def test_published_figures_are_medians_of_runs():
    """
    A report of several runs has the median of each figure, and their ratios.
    """
    runs = [run_of(0.8, point=0.7), run_of(0.6), run_of(0.7, above=30.0)]

    report = medians.median_report(runs)

    result = report.find("create_sessions, journal")
    assert (result.ratio, result.p50) == (0.7, None)
    assert (result.low, result.high) == pytest.approx((0.65, 0.75))
    assert result.runs == [0.8, 0.6, 0.7]
    assert report.about == runs[0].about | {"runs": "3"}
    assert report.curves["parameters"] == [{"parameters": 22, "x naive": 0.9}]
    assert report.imports == {"bankconnect_async": 15.0}
    assert "0.60 - 0.80" in reports.render(report)


def test_a_published_run_is_a_row_of_the_record(tmp_path):
    """
    Each run is one row; one that is published again stays one.
    """
    path = tmp_path / "history.csv"
    first = run_of(0.7)
    history.append(path, first.about, {"reading_open": history.Figure(11.7)})
    for _ in range(2):
        rows = history.append(path, first.about, history.figures_of(first))

    assert [row.get("reading_open") for row in rows] == ["11.7", None]
    assert history.read(path)[1] == {
        "date": "2026-11-30",
        "commit": "0123456",
        "machine": "A processor, 2 cores",
        "python": "3.12.1",
        "aiohttp": "3.14.5",
        "server": "nginx",
        "runs": "1",
        "reading_open": "",
        "create_sessions_journal": "0.7",
        "create_sessions_journal_q1": "0.65",
        "create_sessions_journal_q3": "0.75",
        "create_session_22_parameters": "0.9",
        "import_ms": "15",
    }


def test_targets_are_met_or_missed():
    """
    The report says of each target that was measured whether it was met.
    """
    missed = run_of(0.764, point=0.86, above=15.4)
    missed.curves["parameters"][0]["create_sessions x naive"] = 0.7

    lines = reports.render(missed).splitlines()

    start = lines.index("### Targets")
    assert [cells(row) for row in lines[start + 4 : start + 8]] == [
        ["create_sessions, journal, x naive", "0.76", "0.76", "met"],
        ["create_session, 22 parameters, x naive", "0.86", "0.85", "missed"],
        ["create_sessions, 22 parameters, x naive", "0.70", "0.80", "met"],
        ["import, ms above aiohttp's", "15", "15", "met"],
    ]


def test_curves_show_a_batch_beside_single_calls():
    """
    One in flight and all parameters are measured with a batch, too.
    """
    report = run_of(0.7)
    report.curves["requests in flight"] = [
        {"requests in flight": 1, "create_sessions x naive": 0.91}
    ]

    figures = history.figures_of(report)

    assert figures["create_sessions_1_in_flight"].value == 0.91
    assert "create_session_1_in_flight" not in figures
