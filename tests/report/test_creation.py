"""
Which records of a journal count, and when they were written.
"""

import asyncio
import datetime
import json

import pytest

from bankconnect_async import (
    AsyncBankConnect,
    CampaignReport,
    JournalError,
    report_journals,
)
from bankconnect_async.journal import Journal
from bankconnect_async.sandbox import Fault, Sandbox


def creation(*paths):
    """Report what journals hold, and check that every record counts once."""
    found = report_journals(*paths).creation
    assert found.records == (
        found.created + found.failed + found.repeated + found.stale
    )
    return found


class TestWhatCounts:
    """One outcome for each row"""

    def test_a_batch(self, tmp_path):
        """
        The report of a batch agrees with the statistics of the batch.
        """
        path = tmp_path / "out.jsonl"

        async def run():
            async with (
                Sandbox() as sandbox,
                AsyncBankConnect(
                    sandbox.api_key,
                    base_url=sandbox.base_url,
                    redirect_url=None,
                ) as bank,
            ):
                sandbox.faults.script(Fault.status(400))
                async with bank.create_sessions(
                    ["a", "b", "", "c"], journal=Journal(path), concurrency=1
                ) as outcomes:
                    async for _ in outcomes:
                        pass
                return outcomes.stats()

        stats = asyncio.run(run())
        found = creation(path)
        assert (found.created, found.errors) == (2, dict(stats.failures))
        assert found.created == stats.created
        assert found.latency.count == 2
        assert 0 < found.latency.p50 <= found.latency.max < 60
        assert sum(each.created for each in found.rate) == 2
        assert sum(each.failed for each in found.rate) == 2

    def test_later_success(self, write_journal, created, failed):
        """
        A session replaces the failures of its link id, wherever they are.
        """
        found = creation(
            write_journal(
                failed("a", error="RateLimitError"),
                failed("a", error="ServerError"),
                created("a"),
                failed("a", error="ServerError"),
            )
        )
        assert (found.created, found.errors, found.stale) == (1, {}, 3)

    def test_later_failure(self, write_journal, failed):
        """
        Of several failures the latest counts.
        """
        found = creation(
            write_journal(
                failed("a", error="RateLimitError", delivery="rejected"),
                failed("a", error="ServerError"),
                failed("b", error="RateLimitError", delivery="rejected"),
            )
        )
        assert found.errors == {"ServerError": 1, "RateLimitError": 1}
        assert (found.uncertain, found.stale) == (1, 1)

    def test_repeated_link_id(self, write_journal, created, failed, repeated):
        """
        A row that repeats a link id counts apart, once for all runs, and
        replaces nothing.
        """
        found = creation(
            write_journal(
                repeated("a", 3),
                failed("a", 1),
                repeated("a", 3),
                created("a", 1),
                repeated("b", 5),
            )
        )
        assert (found.created, found.failed, found.repeated) == (1, 0, 2)
        assert (found.rows, found.stale) == (3, 2)

    def test_unreadable_link_id(self, write_journal, created, failed):
        """
        A row without a readable link id counts by its line, until a later
        run reads it.
        """
        bad = {"error": "InvalidRequestError", "request": None}
        found = creation(
            write_journal(
                failed(None, 2, **bad),
                failed(None, 3, **bad),
                failed(None, 2, **bad),
                created("b", 3),
            )
        )
        assert (found.created, found.failed, found.stale) == (1, 1, 2)

    def test_corrected_row(self, write_journal, created, failed):
        """
        An invalid row is replaced by a later record of its line or of its
        link id, as either may have been corrected.
        """
        bad = {"error": "InvalidRequestError", "request": None}
        found = creation(
            write_journal(
                failed("1.2E+11", 2, **bad),
                failed("b", 3, **bad),
                failed("c", 4, **bad),
                created("120000000000", 2),
                created("b", 9),
                failed("c", 4, **bad),
            )
        )
        assert (found.created, found.failed, found.stale) == (2, 1, 3)

    def test_several_journals(self, write_journal, created, failed):
        """
        The journals of shards are one, and their APIs are named.
        """
        found = creation(
            write_journal(failed("a"), created("b"), name="1"),
            write_journal(created("a", api="other/v1"), name="2"),
        )
        assert (found.created, found.failed) == (2, 0)
        assert found.apis == ("api.example/v1", "other/v1")

    def test_many_names_of_errors(self, write_journal, failed):
        """
        A file with any number of names of errors takes little memory.
        """
        found = creation(
            write_journal(
                *(failed(f"c{each}", error=f"E{each}") for each in range(1200))
            )
        )
        assert (found.failed, found.errors["other"]) == (1200, 200)


class TestTimes:
    """Latency and rate"""

    def test_earlier_version(self, write_journal, created, failed):
        """
        Records of an earlier version have no times, and still count.
        """
        old = [created("a"), failed("b")]
        for record in old:
            del record["at"]
        del old[0]["seconds"]

        found = creation(write_journal(*old))
        assert (found.created, found.failed) == (1, 1)
        assert (found.latency.count, found.rate) == (0, ())
        assert found.first_at is found.last_at is None

    def test_latency(self, write_journal, created):
        """
        Latencies are summed up in quantiles and in ranges.
        """
        found = creation(
            write_journal(
                *(
                    created(f"c{place}", seconds=seconds)
                    for place, seconds in enumerate([0.001, 0.2, 0.2, 1e9, 0])
                )
            )
        )
        assert found.latency.max == 1e9
        assert 0.2 <= found.latency.p50 < 0.22
        assert [
            (each.above, each.up_to, each.count) for each in found.latencies
        ] == [
            (0, 0.001, 2),
            (0.15, 0.2, 2),
            (7000, None, 1),
        ]

    def test_rate(self, write_journal, created, failed, noon):
        """
        Rows are counted by the second of their record; empty seconds are left
        out.
        """
        found = creation(
            write_journal(
                created("a", after=7),
                failed("b", after=0),
                created("c", after=7),
            )
        )
        assert [
            (each.at, each.created, each.failed, each.rate)
            for each in found.rate
        ] == [
            (noon, 0, 1, 1),
            (noon + datetime.timedelta(seconds=7), 2, 0, 2),
        ]
        assert found.first_at == noon
        assert found.last_at == noon + datetime.timedelta(seconds=7)

    @pytest.mark.parametrize(
        ("count", "step", "width"),
        [(240, 1, 1), (241, 1, 5), (1000, 60, 300), (300, 86_400 * 3, None)],
    )
    def test_slices(self, write_journal, created, count, step, width):
        """
        A long batch is shown in at most 240 slices, without losing a row.
        """
        found = creation(
            write_journal(
                *(
                    created(f"c{place}", after=place * step)
                    for place in range(count)
                )
            )
        )
        assert len(found.rate) <= 240
        assert {each.seconds for each in found.rate} == {
            width or 2 * 86_400 * 2
        }
        assert sum(each.created for each in found.rate) == count
        times = [each.at for each in found.rate]
        assert times == sorted(times)


class TestFiles:
    """Journals that are no journals"""

    def test_empty(self, tmp_path):
        """
        An empty journal has no rows.
        """
        path = tmp_path / "empty"
        path.touch()
        found = creation(path)
        assert (found.rows, found.apis) == (0, ())

    def test_torn_end(self, write_journal, created):
        """
        The torn last line of a running batch is left out.
        """
        path = write_journal(created("a"), end='\n{"link_id":"b","li')
        assert creation(path).created == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"link_id": 7},
            {"line": "one"},
            {"line": -1},
            {"at": "yesterday"},
            {"at": "2026-03-01T12:00:00"},
            {"at": 7},
            {"at": "1969-12-31T23:59:59Z"},
            {"at": "0001-01-01T00:00:00+23:59"},
            {"at": "9999-12-31T23:59:59-23:59"},
            {"seconds": "long"},
            {"seconds": -1},
            {"request": "?"},
        ],
    )
    def test_no_record(self, write_journal, created, change):
        """
        A line that is no record is an error that names it.
        """
        path = write_journal(created("a"), created("b") | change)
        with pytest.raises(JournalError, match=r"out\.jsonl: line 2 "):
            report_journals(path)

    @pytest.mark.parametrize(
        "error",
        [
            {},
            {"type": 7, "delivery": None, "fields": {}},
            {"type": "InvalidRequestError", "delivery": [], "fields": 7},
        ],
    )
    def test_no_error(self, write_journal, failed, error):
        """
        So is a line whose error is none.
        """
        path = write_journal(failed("a") | {"error": error})
        with pytest.raises(JournalError, match=r"out\.jsonl: line 1 "):
            report_journals(path)

    def test_missing(self, tmp_path):
        """
        A file that cannot be read is an error that names it.
        """
        with pytest.raises(JournalError, match="missing"):
            report_journals(tmp_path / "missing")


def test_to_dict(write_journal, created, failed):
    """
    The figures are an object for JSON.
    """
    path = write_journal(created("a"), failed("b", after=2))
    figures = json.loads(json.dumps(report_journals(path).to_dict()))

    assert figures["journeys"] is None
    figures = figures["creation"]
    assert (figures["rows"], figures["created"], figures["failed"]) == (
        2,
        1,
        1,
    )
    assert figures["first_at"] == "2026-03-01T12:00:00+00:00"
    assert figures["rate"][1] == {
        "at": "2026-03-01T12:00:02+00:00",
        "seconds": 1,
        "created": 0,
        "failed": 1,
    }
    assert CampaignReport().to_dict() == {"creation": None, "journeys": None}
