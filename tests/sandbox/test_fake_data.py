"""
Fake data: the same for the same link id, and consistent.
"""

import calendar
import datetime
import io
import itertools
import xml.etree.ElementTree as ET
import zipfile

import aiohttp
import pypdf
import pytest

from hypothesis import given
from hypothesis import strategies as st

from bankconnect_async.sandbox import Sandbox, statement_pdf
from bankconnect_async.sandbox.data_api.statements import UploadedStatement
from bankconnect_async.sandbox.fake_data import ledgers as _ledgers
from bankconnect_async.sandbox.fake_data.ledgers import (
    Span,
    fake_account,
    gaps,
)
from bankconnect_async.sandbox.http.storage import Storage
from bankconnect_async.testing import FakeClock


KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}
EPOCH = 1775026114.0
YEAR = Span(start=datetime.date(2025, 4, 1), end=datetime.date(2026, 3, 31))
DAYS = st.dates(datetime.date(2020, 1, 1), datetime.date(2030, 12, 31))


def signed(row):
    """Return what a row does to the balance."""
    return row.amount if row.side == "credit" else -row.amount


class TestLedger:
    """
    Transactions without the sandbox.
    """

    @pytest.mark.long
    @given(st.text(max_size=30))
    def test_adds_up(self, link_id):
        """
        Each balance follows from the previous one and is never negative.
        """
        account = fake_account(link_id, "axis")
        rows = _ledgers.transactions(account, [YEAR])

        for before, after in itertools.pairwise(rows):
            assert after.balance == before.balance + signed(after)
            assert before.day <= after.day
        assert min(row.balance for row in rows) > 0
        assert min(row.amount for row in rows) >= 0
        assert len({row.hash for row in rows}) == len(rows)

    @pytest.mark.long
    @given(st.text(max_size=30), DAYS, st.integers(0, 400))
    def test_any_days_show_the_same(self, link_id, start, length):
        """
        A short range shows what a longer one shows of its days.
        """
        account = fake_account(link_id, "hdfc")
        end = start + datetime.timedelta(days=length)
        span = Span(start=start, end=end)
        wider = Span(start=start.replace(day=1), end=end)

        assert _ledgers.transactions(account, [span]) == [
            row
            for row in _ledgers.transactions(account, [wider])
            if row.day in span
        ]

    @given(DAYS, st.lists(st.tuples(DAYS, st.integers(0, 90)), max_size=4))
    def test_gaps(self, start, covered):
        """
        A day is in a gap if it is in no span.
        """
        within = Span(start=start, end=start + datetime.timedelta(days=60))
        spans = [
            Span(start=day, end=day + datetime.timedelta(days=length))
            for day, length in covered
        ]
        found = list(gaps(within, spans))

        for number in range(61):
            day = start + datetime.timedelta(days=number)
            is_covered = any(day in span for span in spans)
            assert any(day in gap for gap in found) is not is_covered
        assert all(gap.start <= gap.end for gap in found)

    def test_whose(self):
        """
        Every owner has a separate account at each bank.
        """
        ids = {
            fake_account(owner, bank, number).account_id
            for owner in "ab"
            for bank in ("axis", "hdfc")
            for number in (None, "123456", "654321")
        }

        assert len(ids) == 12

    @pytest.mark.long
    def test_bounded(self):
        """
        The cache of months is bounded.
        """
        for number in range(200):
            _ledgers.transactions(fake_account(str(number), "axis"), [YEAR])
        info = _ledgers._month.cache_info()

        assert info.currsize <= info.maxsize <= 1000


@pytest.fixture(name="processed")
async def _processed(http):
    """
    Send a request about a processed entity of an ordinary sandbox.
    """
    clock = FakeClock(epoch=EPOCH)
    async with Sandbox("entity", clock=clock, processing_time=0) as sandbox:
        data = aiohttp.FormData({"link_id": "a", "bank_name": "axis"})
        pdf = statement_pdf("axis", "a", to_date=datetime.date(2026, 3, 31))
        data.add_field("file", pdf, filename="a.pdf")
        base = f"{sandbox.base_url}/v1"
        async with http.post(
            f"{base}/statement/upload/", data=data, headers=KEY
        ) as answer:
            entity_id = (await answer.json())["entity_id"]

        async def ask(name):
            async with http.get(
                f"{base}/entity/{entity_id}/{name}/", headers=BOTH
            ) as answer:
                return await answer.json()

        ask.clock = clock
        ask.pdf = pdf
        ask.sandbox = sandbox
        yield ask


class TestAgreement:
    """
    The responses of the endpoints agree.
    """

    async def test_months(self, processed):
        """
        Monthly figures are sums over the transactions.
        """
        rows = (await processed("transactions"))["transactions"]
        fields = (await processed("monthly_analysis"))["monthly_analysis"]
        months = list(fields["amt_credit"])

        assert len(months) == 7
        for name in months:
            of_month = [
                row
                for row in rows
                if f"{calendar.month_abbr[int(row['date'][5:7])]}"
                f"-{row['date'][:4]}" == name
            ]
            credits_ = [
                row["amount"]
                for row in of_month
                if row["transaction_type"] == "credit"
            ]
            upi = [
                row["amount"]
                for row in of_month
                if row["transaction_type"] == "debit"
                and row["transaction_channel"] == "upi"
            ]
            assert fields["cnt_transactions"][name] == len(of_month)
            assert fields["cnt_credit"][name] == len(credits_)
            assert fields["amt_credit"][name] == pytest.approx(sum(credits_))
            assert fields["amt_upi_debit"][name] == pytest.approx(sum(upi))
            assert fields["closing_balance"][name] == of_month[-1]["balance"]
            assert fields["total_amount_of_salary"][name] > 0
        for before, after in itertools.pairwise(months):
            assert (
                fields["closing_balance"][before]
                == (fields["opening_balance"][after])
            )

    @pytest.mark.parametrize("name", ["salary", "lender_transactions"])
    async def test_among_the_transactions(self, processed, name):
        """
        Salaries and loans are among the transactions.
        """
        rows = (await processed("transactions"))["transactions"]
        hashes = {row["hash"] for row in rows}
        found = (await processed(name))["transactions"]

        assert len(found) == 7
        assert {row["hash"] for row in found} <= hashes

    async def test_recurring(self, processed):
        """
        A recurring series has one amount, in several months.
        """
        hashes = {
            row["hash"]
            for row in (await processed("transactions"))["transactions"]
        }
        sets = (await processed("recurring_transactions"))["transactions"]

        assert sets["credit_transactions"]
        assert len(sets["debit_transactions"]) >= 3
        for each in sets["credit_transactions"] + sets["debit_transactions"]:
            rows = each["transactions"]
            assert {row["amount"] for row in rows} == {each["median"]}
            assert {row["hash"] for row in rows} <= hashes
            assert (each["start_date"], each["end_date"]) == (
                rows[0]["date"],
                rows[-1]["date"],
            )

    async def test_top_five(self, processed):
        """
        The top of a month has five rows at most, the largest first.
        """
        rows = (await processed("transactions"))["transactions"]
        top = (await processed("top_credits_debits"))["top_5_credit_debit"]
        march = [
            row["amount"]
            for row in rows
            if row["date"].startswith("2026-03")
            and row["transaction_type"] == "debit"
        ]

        assert (
            list(top["top_5_debit"]["Mar-26"].values())
            == (sorted(march, reverse=True)[:5])
        )

    async def test_shares(self, processed):
        """
        Shares are whole numbers that sum to 100.
        """
        shares = [
            entry["percentage"]
            for entry in (await processed("get_expense_categories"))[
                "categories"
            ]
        ]

        assert sum(shares) == 100
        assert all(type(share) is int for share in shares)

    async def test_score(self, processed):
        """
        A score is from 300 to 900.
        """
        (entry,) = (await processed("score"))["score"]

        assert 300 <= int(entry["score"]) <= 900

    async def test_same_elsewhere(self, processed, http):
        """
        Another sandbox has the same data for the same link id.
        """
        rows = (await processed("transactions"))["transactions"]
        clock = FakeClock(epoch=EPOCH)
        async with Sandbox(clock=clock, processing_time=0) as other:
            data = aiohttp.FormData(
                {
                    "link_id": "a",
                    "bank_name": "axis",
                    "file_url": "https://files.example/statement.pdf",
                }
            )
            base = f"{other.base_url}/v1"
            async with http.post(
                f"{base}/statement/upload/", data=data, headers=KEY
            ) as answer:
                entity_id = (await answer.json())["entity_id"]
            async with http.get(
                f"{base}/entity/{entity_id}/transactions/", headers=BOTH
            ) as answer:
                same = (await answer.json())["transactions"]

        longest = {row["hash"]: row for row in same}
        assert [
            longest.get(row["hash"]) for row in rows if row["date"] > "2025-10"
        ] == [row for row in rows if row["date"] > "2025-10"]


class TestBalances:
    """
    `eod_balances` of the session flow.
    """

    async def test_every_day(self, create, http):
        """
        Each calendar day until the last transaction has a balance.
        """
        clock = FakeClock(epoch=EPOCH)
        async with Sandbox("session", clock=clock) as sandbox:
            session = await create(
                sandbox, from_date="10/10/2025", to_date="31/03/2026"
            )
            await sandbox.play(session.session_id, "success")
            url = f"{sandbox.base_url}/v1/session_data/{session.session_id}"
            await http.post(f"{url}/initiate_processing/", headers=BOTH)
            sandbox.finish(session.session_id)
            async with http.get(f"{url}/insights/", headers=BOTH) as answer:
                (account,) = (await answer.json())["accounts"]

        data = account["data"]
        eod = data["eod_balances"]
        last = data["transactions"][-1]
        assert eod["Months_order"] == [
            "Oct-25",
            "Nov-25",
            "Dec-25",
            "Jan-26",
            "Feb-26",
            "Mar-26",
        ]
        assert eod["start_date"][0] == "01-Oct-25"
        assert [len(eod[month]) for month in eod["Months_order"]] == [
            31,
            30,
            31,
            31,
            28,
            31,
        ]
        assert eod["Oct-25"][:9] == [None] * 9
        assert None not in eod["Nov-25"]
        assert eod["Mar-26"][27] == last["balance"]
        assert eod["Mar-26"][28:] == [None] * 3
        (first,) = data["transactions"][:1]
        change = first["amount"] * (
            1 if first["transaction_type"] == "credit" else -1
        )
        assert eod["starting_balance"] == pytest.approx(
            first["balance"] - change
        )


class TestStorage:
    """
    Stored files behind pre-signed links.
    """

    @pytest.fixture(name="link")
    async def _link(self, processed):
        """A link to the uploaded file."""
        (entry,) = (await processed("get_pdfs"))["statements"]
        return entry["pdf_url"]

    async def test_upload(self, http, processed, link):
        """
        The link returns the uploaded file without our headers.
        """
        async with http.get(link) as answer:
            content = await answer.read()

        assert answer.status == 200
        assert content == processed.pdf
        assert answer.content_type == "application/pdf"
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["ETag"]

    @pytest.mark.parametrize("header", ["x-api-key", "server-hash"])
    async def test_leak(self, http, link, header):
        """
        A request that carries a secret is refused.
        """
        async with http.get(link, headers={header: "x"}) as answer:
            assert answer.status == 400

    @pytest.mark.parametrize(
        ("header", "part"),
        [
            ("bytes=0-9", slice(0, 10)),
            ("bytes=10-", slice(10, None)),
            ("bytes=-10", slice(-10, None)),
            ("bytes=5-99999999", slice(5, None)),
        ],
    )
    async def test_range(self, http, processed, link, header, part):
        """
        A range request returns a part of it.
        """
        async with http.get(link, headers={"Range": header}) as answer:
            content = await answer.read()

        expected = processed.pdf[part]
        start = processed.pdf.index(expected)
        size = len(processed.pdf)
        assert (answer.status, content) == (206, expected)
        assert answer.headers["Content-Range"] == (
            f"bytes {start}-{start + len(expected) - 1}/{size}"
        )

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Range": "bytes=99999999-"}, 416),
            ({"Range": "bytes=-0"}, 416),
            ({"Range": "bytes=9-5"}, 200),
            ({"Range": "bytes=-"}, 200),
            ({"Range": "lines=1-2"}, 200),
            ({"Range": "bytes=0-9", "If-Range": '"old"'}, 200),
            ({"If-Match": '"old"'}, 412),
            ({"If-None-Match": "TAG"}, 304),
            ({"Range": "bytes=0-9", "If-Range": "TAG"}, 206),
        ],
    )
    async def test_conditions(self, http, link, headers, status):
        """
        Conditions are those of object storage.
        """
        async with http.head(link) as answer:
            tag = answer.headers["ETag"]
        given = {
            name: tag if value == "TAG" else value
            for name, value in headers.items()
        }
        async with http.get(link, headers=given) as answer:
            assert answer.status == status

    async def test_hour(self, http, processed, link):
        """
        A link is valid for an hour.
        """
        processed.clock.now += 3599
        async with http.get(link) as answer:
            good = answer.status
        processed.clock.now += 1
        async with http.get(link) as answer:
            late = answer.status

        assert (good, late) == (200, 403)

    async def test_thirty_days(self, processed):
        """
        After 30 days the file is gone and has no link.
        """
        processed.clock.now += 30 * 86400
        (entry,) = (await processed("get_pdfs"))["statements"]

        assert entry["pdf_url"] == ""

    @pytest.mark.parametrize("change", ["x", "&expires=99999999999"])
    async def test_forged(self, http, link, change):
        """
        A forged link is refused.
        """
        async with http.get(link + change) as answer:
            assert answer.status == 403 if change == "x" else True
        async with http.get(link.replace("expires=", "expires=9")) as answer:
            assert answer.status == 403

    async def test_workbook(self, http, processed):
        """
        A workbook opens, and has the transactions.
        """
        rows = (await processed("transactions"))["transactions"]
        (report,) = (await processed("xlsx_report"))["reports"]
        async with http.get(report["link"]) as answer:
            content = await answer.read()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
            sheet = ET.fromstring(  # noqa: S314 - our own
                archive.read("xl/worksheets/sheet1.xml").decode()
            )

        space = sheet.tag.partition("}")[0] + "}"
        found = list(sheet.iter(f"{space}row"))
        assert len(found) == len(rows) + 1
        assert answer.content_type.endswith("spreadsheetml.sheet")

    async def test_generated(self, create, http):
        """
        A file that was uploaded on the page is generated when it is read.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            await sandbox.play(session.session_id, "success")
            url = f"{sandbox.base_url}/v1/session_data/{session.session_id}"
            await http.post(f"{url}/initiate_processing/", headers=BOTH)
            sandbox.finish(session.session_id)
            async with http.get(f"{url}/get_pdfs/", headers=BOTH) as answer:
                (stored,) = (await answer.json())["statements"]
            async with http.get(f"{url}/insights/", headers=BOTH) as answer:
                insights = await answer.json()
            async with http.get(stored["pdf_url"]) as answer:
                pdf = await answer.read()
            async with http.get(
                insights["aggregate_xml_report_url"]
            ) as answer:
                report = ET.fromstring(  # noqa: S314 - our own
                    await answer.text()
                )
            async with http.get(
                insights["aggregate_xlsx_report_url"]
            ) as answer:
                assert answer.status == 200

        (account,) = insights["accounts"]
        assert pypdf.PdfReader(io.BytesIO(pdf)).pages
        assert len(list(report.iter("transaction"))) == len(
            account["data"]["transactions"]
        )

    async def test_gone(self, create, http):
        """
        Files of a deleted session cannot be downloaded.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            data = aiohttp.FormData({"upload_type": "PDF"})
            data.add_field("session_id", session.session_id)
            data.add_field("file", statement_pdf(), filename="a.pdf")
            await http.post(
                f"{sandbox.base_url}/v1/statement/upload_session/",
                data=data,
                headers=KEY,
            )
            url = f"{sandbox.base_url}/v1/session_data/{session.session_id}"
            await http.post(f"{url}/initiate_processing/", headers=BOTH)
            sandbox.finish(session.session_id)
            async with http.get(f"{url}/insights/", headers=BOTH) as answer:
                insights = await answer.json()
            async with http.get(f"{url}/get_pdfs/", headers=BOTH) as answer:
                (stored,) = (await answer.json())["statements"]
            await http.delete(f"{url}/delete/", headers=BOTH)
            links = [
                stored["pdf_url"],
                insights["aggregate_xml_report_url"],
                insights["aggregate_xlsx_report_url"],
            ]
            statuses = []
            for link in links:
                async with http.get(link) as answer:
                    statuses.append(answer.status)

        assert statuses == [404, 404, 404]

    def test_capacity(self):
        """
        The oldest uploads are dropped when the storage is full.
        """
        day = datetime.datetime.now(tz=datetime.UTC)
        statements = [
            UploadedStatement(
                account=fake_account("a", "axis"),
                span=Span(start=day.date(), end=day.date()),
                source="pdf",
                received_at=day,
            )
            for _ in range(4)
        ]
        storage = Storage(
            origin=lambda: "http://127.0.0.1",
            now=day.timestamp,
            find=lambda _: b"fake",
            capacity=10,
        )

        for statement in statements:
            storage.store_upload("a", statement, b"12345")

        assert [
            storage.read(
                storage.presigned_url(f"a/{statement.statement_id}.pdf")
            )
            for statement in statements
        ] == [b"fake", b"fake", b"12345", b"12345"]


class TestFaults:
    """
    Faults at the newer endpoints.
    """

    @pytest.fixture(name="upload")
    def _upload(self, http):
        """Upload into a session, and return the status; 0 for none."""

        async def upload(sandbox, session):
            data = aiohttp.FormData({"upload_type": "PDF"})
            data.add_field("session_id", session.session_id)
            data.add_field("file", statement_pdf(), filename="a.pdf")
            url = f"{sandbox.base_url}/v1/statement/upload_session/"
            try:
                async with http.post(url, data=data, headers=KEY) as answer:
                    return answer.status
            except aiohttp.ClientError:
                return 0

        return upload

    @pytest.mark.parametrize("after", [False, True])
    async def test_processed_once(self, create, upload, faults, after):
        """
        A lost response leaves a statement behind; a lost request does not.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            sandbox.faults.script(faults.reset(after=after))
            first = await upload(sandbox, session)
            processed = sandbox.processed("upload_session", "cust-7f31-0042")
            second = await upload(sandbox, session)
            sandbox.faults.clear()

        assert (first, second) == (0, 400 if after else 200)
        assert processed == after
        assert sandbox.processed("upload_session") == 1
        assert sandbox.processed("upload_session", "other") == 0
        assert sandbox.received("cust-7f31-0042") == 3

    async def test_prefix(self, create, upload, faults):
        """
        A fault for a prefix of link ids finds the session's link id.
        """
        async with Sandbox("session") as sandbox:
            slow = await create(sandbox, link_id="slow-1")
            quick = await create(sandbox, link_id="quick-1")
            sandbox.faults.always(faults.status(503), prefix="slow-")
            answers = [
                await upload(sandbox, session) for session in (slow, quick)
            ]

        assert answers == [503, 200]

    async def test_download(self, http, processed, faults):
        """
        An interrupted download can be resumed.
        """
        (entry,) = (await processed("get_pdfs"))["statements"]
        link = entry["pdf_url"]
        processed.sandbox.faults.script(faults.truncate(after=True))
        content = b""
        async with http.get(link) as answer:
            tag = answer.headers["ETag"]
            with pytest.raises(aiohttp.ClientPayloadError):
                while True:
                    content += await answer.content.readany()
        async with http.get(
            link, headers={"Range": f"bytes={len(content)}-", "If-Range": tag}
        ) as answer:
            assert answer.status == 206
            content += await answer.read()

        assert content == processed.pdf
