"""
The report as a page, which needs neither a network nor scripts.
"""

import datetime
import functools
import html

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from bankconnect_async._templates import render

from .charts import Column, bar, columns, round_up
from .figures import CreationReport, JourneyReport, LatencyBucket, RatePoint
from .units import (
    duration,
    number,
    quantiles,
    share,
    three_digits,
    time,
)


_render = functools.partial(render, str(__package__))
# Slices without a row, above which a plot leaves most of them out.
_LONGEST_PAUSE: Final = 20
_BREAK: Final = 4


def render_report(
    creation: CreationReport | None, journeys: JourneyReport | None
) -> str:
    """
    Return the whole page.

    Args:
        creation: The figures of journals, if there are any.
        journeys: The figures of a store, if there is one.
    """
    sections = [
        *([] if creation is None else _creation_sections(creation)),
        *([] if journeys is None else _journey_sections(journeys)),
    ]
    return _render("report.html", {"sections": "".join(sections)})


def _creation_sections(report: CreationReport) -> Iterator[str]:
    rows = report.rows
    yield _section(
        "Sessions created",
        _facts(_creation_facts(report)),
        _table(
            "Rows by their outcome",
            ("Outcome", "Rows", "Share"),
            [
                (name, number(count), share(count, rows))
                for name, count in (
                    ("created", report.created),
                    ("failed", report.failed),
                    ("repeated link id", report.repeated),
                )
            ],
            bars=[
                bar(report.created, rows),
                bar(report.failed, rows, part=1),
                bar(report.repeated, rows, part=1),
            ],
        ),
    )
    yield _section(
        "Errors",
        _counts("Failed rows by their latest error", "Error", report.errors)
        if report.errors
        else "<p>No row failed.</p>",
        f"<p>Of these, {number(report.uncertain)} may have a session all the "
        f"same: reconcile them with the vendor.</p>"
        if report.uncertain
        else "",
    )
    yield _section("Latency", *_latency(report))
    yield _section("Rate over time", *_rate(report.rate))


def _creation_facts(report: CreationReport) -> Iterator[tuple[str, str]]:
    yield "API", ", ".join(report.apis) or "none"
    if report.first_at is not None and report.last_at is not None:
        yield "first record", time(report.first_at)
        yield "last record", time(report.last_at)
    yield "records", number(report.records)
    yield "stale records, left out", number(report.stale)


def _latency(report: CreationReport) -> Iterator[str]:
    if not report.latency.count:
        yield (
            "<p>Unknown: the records are of an earlier version, or none is of "
            "a session.</p>"
        )
        return
    buckets = report.latencies
    bars = list(_latency_columns(buckets))
    most = max(each.count for each in buckets)
    # Half of it is a whole number, too.
    top = max(round_up(most), 2.0)
    facts = quantiles(report.latency)
    plot = columns(
        bars,
        top=top,
        label="Columns: sessions by latency; "
        + ", ".join(f"{name} {text}" for name, text in facts)
        + ". The table below has the numbers.",
        marks=(),
    )
    yield _figure(
        "Sessions by the duration of the attempt that created them",
        plot,
        y=(f"{top:,.0f}", f"{top / 2:,.0f}", "0"),
        x=(duration(buckets[0].above), _range_end(buckets[-1])),
    )
    yield _table("Quantiles", ("Quantile", "Latency"), facts)
    yield _details(
        _table(
            "Sessions by latency",
            ("Above", "Up to", "Sessions"),
            [
                (duration(each.above), _range_end(each), number(each.count))
                for each in buckets
            ],
        )
    )


def _range_end(bucket: LatencyBucket) -> str:
    return "longer" if bucket.up_to is None else duration(bucket.up_to)


def _latency_columns(buckets: Sequence[LatencyBucket]) -> Iterator[Column]:
    at = 0
    for before, bucket in zip((None, *buckets), buckets, strict=False):
        # Empty ranges are left out of the report, not of the plot.
        if before is not None and before.up_to != bucket.above:
            at += 1
        yield Column(
            at=at,
            parts=(bucket.count,),
            title=f"{duration(bucket.above)} to {_range_end(bucket)}: "
            f"{number(bucket.count)} sessions",
        )
        at += 1


def _rate(points: Sequence[RatePoint]) -> Iterator[str]:
    if not points:
        yield "<p>Unknown: the records are of an earlier version.</p>"
        return
    bars, marks = _rate_columns(points)
    top = round_up(max(each.rate for each in points))
    width = points[0].seconds
    peak = max(points, key=lambda each: each.rate)
    yield _legend(("created", "failed"))
    yield _figure(
        f"Rows per second, in slices of {duration(width)}"
        + ("; a dashed line is a pause" if marks else ""),
        columns(
            bars,
            top=top,
            label=f"Columns: rows per second over time, created and failed; "
            f"at most {three_digits(peak.rate)} at {time(peak.at)}. The table "
            f"below has the numbers.",
            marks=marks,
        ),
        y=(f"{top:,.6g}", f"{top / 2:,.6g}", "0"),
        x=(time(points[0].at), time(points[-1].at)),
    )
    yield _details(
        _table(
            "Rows by the time of their record",
            ("From", "Created", "Failed", "Rows per second"),
            [
                (
                    time(each.at),
                    number(each.created),
                    number(each.failed),
                    three_digits(each.rate),
                )
                for each in points
            ],
        )
    )


def _rate_columns(
    points: Sequence[RatePoint],
) -> tuple[list[Column], list[int]]:
    at, bars, marks = 0, [], []
    before: datetime.datetime | None = None
    for point in points:
        if before is not None:
            step = int((point.at - before).total_seconds()) // point.seconds
            if step > _LONGEST_PAUSE:
                marks.append(at + _BREAK // 2)
                step = _BREAK
            at += step
        before = point.at
        bars.append(
            Column(
                at=at,
                parts=(
                    point.created / point.seconds,
                    point.failed / point.seconds,
                ),
                title=f"{time(point.at)}: {number(point.created)} created, "
                f"{number(point.failed)} failed",
            )
        )
    return bars, marks


def _journey_sections(report: JourneyReport) -> Iterator[str]:
    funnel = report.funnel
    yield _section(
        "Journeys",
        _table(
            "Sessions that came as far as each step, or further",
            ("Step", "Sessions", "Share"),
            [
                (name, number(count), share(count, report.sessions))
                for name, count in funnel.items()
            ],
            bars=[bar(count, report.sessions) for count in funnel.values()],
        ),
        f"<p>{number(report.ambiguous)} more may exist: the response to their "
        f"request was lost.</p>"
        if report.ambiguous
        else "",
        _table(
            "Time from the creation of a session to its statements",
            ("Quantile", "Time"),
            quantiles(report.completion),
        )
        if report.completion.count
        else "",
    )
    yield _section(
        "Exits and errors of journeys",
        _counts("Sessions by their latest problem", "Problem", report.problems)
        if report.problems
        else "<p>No journey met one.</p>",
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{title}</h2>{''.join(parts)}</section>\n"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    pairs = "".join(
        f"<div><dt>{name}</dt><dd>{html.escape(text)}</dd></div>"
        for name, text in facts
    )
    return f"<dl>{pairs}</dl>"


def _counts(caption: str, head: str, counts: Mapping[str, int]) -> str:
    whole = sum(counts.values())
    return _table(
        caption,
        (head, "Rows" if head == "Error" else "Sessions", "Share"),
        [
            (name, number(count), share(count, whole))
            for name, count in counts.items()
        ],
        bars=[bar(count, max(counts.values())) for count in counts.values()],
    )


def _table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    bars: Sequence[str] = (),
) -> str:
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + (f'<td class="bars">{bars[place]}</td>' if bars else "")
        + "</tr>"
        for place, (name, *cells) in enumerate(rows)
    )
    heads = "".join(f'<th scope="col">{text}</th>' for text in head)
    if bars:
        heads += '<td class="bars"></td>'
    return (
        f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _figure(
    caption: str, plot: str, *, y: Sequence[str], x: Sequence[str]
) -> str:
    def axis(name: str, texts: Sequence[str]) -> str:
        spans = "".join(f"<span>{html.escape(text)}</span>" for text in texts)
        return f'<div class="{name}" aria-hidden="true">{spans}</div>'

    return (
        f"<figure><figcaption>{html.escape(caption)}</figcaption>"
        f'<div class="chart">{axis("y", y)}{plot}{axis("x", x)}</div></figure>'
    )


def _legend(names: Sequence[str]) -> str:
    entries = "".join(
        f'<li><span class="key-{place}"></span>{name}</li>'
        for place, name in enumerate(names)
    )
    return f'<ul class="legend">{entries}</ul>'


def _details(table: str) -> str:
    return f"<details><summary>The numbers</summary>{table}</details>"
