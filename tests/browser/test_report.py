"""
The page of a report in a real browser.
"""

import datetime
import re

import pytest

from bankconnect_async import CampaignReport, Latency
from bankconnect_async.report import (
    CreationReport,
    JourneyReport,
    LatencyBucket,
    RatePoint,
)


pytestmark = pytest.mark.asyncio(loop_scope="session")

NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
HOSTILE = '"><img src=//x.example onerror=alert(1)><script>alert(2)</script>'
LATENCY = Latency(count=9, p50=0.2, p90=0.5, p99=1.5, max=4000)

WIDTH = "document.documentElement.scrollWidth"
OPEN_DETAILS = """
() => document.querySelectorAll("details").forEach((each) => each.open = true)
"""
# Elements whose content is wider than they are, and so cut off or overlapping.
CLIPPED = """
() => [...document.querySelectorAll("body *")]
  .filter((each) => !each.closest("svg") && each.clientWidth
    && each.scrollWidth > each.clientWidth)
  .map((each) => each.outerHTML)
"""
# The colours of texts and of columns beside those of their backgrounds.
COLOURS = """
() => {
  const style = (name) => getComputedStyle(document.querySelector(name));
  const card = style("section").backgroundColor;
  return [
    [style("h1").color, style("body").backgroundColor, 4.5],
    [style("section").color, card, 4.5],
    [style("caption").color, card, 4.5],
    [style(".part-0").fill, card, 3],
    [style(".part-1").fill, card, 3],
  ];
}
"""


@pytest.fixture(name="address", scope="module")
def _address(tmp_path_factory):
    """Write a report with long and with hostile texts."""
    points = [
        RatePoint(
            at=NOON + datetime.timedelta(seconds=15 * place),
            seconds=15,
            created=300_000 + place * 1000,
            failed=place * 100,
        )
        for place in (*range(50), *range(1000, 1010))
    ]
    report = CampaignReport(
        creation=CreationReport(
            apis=("a-rather-long-name-of-a-host.example/v1", HOSTILE),
            records=123_456_789,
            created=123_000_000,
            errors={"E" * 120: 456_000, HOSTILE: 700, "ServerError": 1},
            uncertain=456_000,
            repeated=88,
            stale=1,
            latency=LATENCY,
            latencies=(
                LatencyBucket(above=0.15, up_to=0.2, count=123_000_000),
                LatencyBucket(above=0.3, up_to=0.5, count=7),
                LatencyBucket(above=700.0, up_to=None, count=1),
            ),
            rate=tuple(points),
            first_at=points[0].at,
            last_at=points[-1].at,
        ),
        journeys=JourneyReport(
            states={"created": 1_000_000, "completed": 123_456},
            exited=17,
            problems={HOSTILE: 12, "p" * 80: 5},
            ambiguous=3,
            completion=LATENCY,
        ),
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report.to_html())
    return path.as_uri()


def contrast(one, other):
    """Return the contrast of two colours by WCAG 2."""

    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (
            part / 12.92
            if part <= 0.04045
            else ((part + 0.055) / 1.055) ** 2.4
            for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


async def test_fits(page, address):
    """
    The page fits screens and phones, in light and in dark, without a request.
    """
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    await page.goto(address)
    await page.evaluate(OPEN_DETAILS)

    for width in (1280, 390):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate(WIDTH) <= width
        assert await page.evaluate(CLIPPED) == []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        for one, other, least in await page.evaluate(COLOURS):
            assert contrast(one, other) >= least, (scheme, one, other)
    assert [url for url in requests if not url.startswith("data:")] == [
        address
    ]
    assert await page.locator("script, img").count() == 0


async def test_structure(page, address):
    """
    Plots have a description and a table; tables a caption and headers.
    """
    await page.goto(address)

    assert await page.get_by_role("heading", level=1).count() == 1
    headings = await page.get_by_role("heading", level=2).all_inner_texts()
    assert headings == [
        "Sessions created",
        "Errors",
        "Latency",
        "Rate over time",
        "Journeys",
        "Exits and errors of journeys",
    ]
    plots = page.get_by_role("img")
    assert await plots.count() == 2
    for name in await plots.evaluate_all(
        "all => all.map((each) => each.getAttribute('aria-label'))"
    ):
        assert name.endswith("The table below has the numbers.")
    figures = page.locator("section:has(figure)")
    assert await figures.locator("details table").count() == 2
    tables = await page.locator("table").count()
    assert await page.locator("table > caption").count() == tables
    assert await page.locator("th:not([scope])").count() == 0
