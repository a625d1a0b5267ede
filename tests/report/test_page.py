"""
The texts and plots of a report.
"""

import datetime
import html.parser
import re

import pytest

from bankconnect_async import CampaignReport, report_journals
from bankconnect_async.report.charts import round_up
from bankconnect_async.report.units import duration, share, time


class Balance(html.parser.HTMLParser):
    """
    Checks that elements are closed in the order in which they were opened.
    """

    EMPTY = frozenset({"meta", "link"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(report):
    """Return the page of a report, whose elements are balanced."""
    page, balance = report.to_html(), Balance()
    balance.feed(page)
    balance.close()
    assert balance.open == []
    return page


def test_page(write_journal, created, failed):
    """
    The page has the figures, and names no customer.
    """
    page = page_of(
        report_journals(
            write_journal(
                created("customer-1"),
                failed("customer-2", after=3600, error='<b>"&'),
            )
        )
    )
    assert "customer-" not in page
    assert "journey.example" not in page
    assert "&lt;b&gt;&quot;&amp;" in page
    assert "2026-03-01 13:00:00 UTC" in page
    assert "a dashed line is a pause" in page


@pytest.mark.parametrize("records", [[], ["failed"], ["old"]])
def test_missing_figures(write_journal, created, failed, records):
    """
    A page without latencies, rates or rows says so.
    """
    old = {"at": None, "seconds": None}
    made = {"failed": failed("a"), "old": created("a") | old}
    page = page_of(
        report_journals(
            write_journal(*map(made.get, records), end="\n" * bool(records))
        )
    )
    assert "<p>Unknown: the records are of an earlier version" in page


def test_empty_report():
    """
    A report of nothing is a page, too.
    """
    assert "<section>" not in page_of(CampaignReport())


def test_pause(write_journal, created):
    """
    A pause of a month does not squeeze the columns beside it.
    """
    month = 30 * 86_400
    page = page_of(
        report_journals(
            write_journal(
                created("a"), created("b", after=5), created("c", after=month)
            )
        )
    )
    (width,) = re.findall(r'viewBox="0 0 (\d+) 100"', page)[1:]
    assert int(width) == 10


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, ""),
        (0, 3, "0.0 %"),
        (1, 3, "33.3 %"),
        (1, 10**6, "< 0.1 %"),
        (10**6 - 1, 10**6, "> 99.9 %"),
        (7, 7, "100.0 %"),
    ],
)
def test_share(part, whole, text):
    """
    A few of many are neither none nor all.
    """
    assert share(part, whole) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.15, "150 ms"),
        (0.9999, "1 s"),
        (1.5, "1.5 s"),
        (59.99, "1 min"),
        (90, "1.5 min"),
        (7200, "2 h"),
        (86_400 * 14, "14 d"),
        (86_400 * 12345, "12,345 d"),
    ],
)
def test_duration(seconds, text):
    """
    A duration has three digits, and the unit that suits it.
    """
    assert duration(seconds) == text


def test_time():
    """
    Times are in UTC.
    """
    zone = datetime.timezone(datetime.timedelta(hours=5.5))
    at = datetime.datetime(2026, 3, 1, 17, 30, tzinfo=zone)
    assert time(at) == "2026-03-01 12:00:00 UTC"


@pytest.mark.parametrize(
    ("value", "top"),
    [(0.0003, 0.0004), (1, 1), (1.01, 2), (5150, 6000), (9e9, 1e10)],
)
def test_round_up(value, top):
    """
    The upper edge of a plot is a round number.
    """
    assert round_up(value) == pytest.approx(top)
