"""
Rows of responses as Arrow tables, and as files.
"""

import csv
import datetime
import io
import json
import pickle
import resource
import stat

from decimal import Decimal

import attrs
import duckdb
import hypothesis
import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from hypothesis import strategies as st
from pyarrow import parquet

from bankconnect_async import (
    ConfigurationError,
    DecodeError,
    InfoEvent,
    InvalidRequestError,
    Rows,
    arrow_schema,
    models,
    tables,
)
from bankconnect_async._codec import responses
from bankconnect_async._resources.files import PartFile
from bankconnect_async._resources.statement_kinds import (
    ENTITY_KINDS,
    SESSION_KINDS,
)
from bankconnect_async.models import (
    Account,
    AccountPredictors,
    RecurringSet,
    Transaction,
)
from bankconnect_async.tables import encode_table, write_file, write_table


#: The responses of both flows that hold rows, with their models.
SAMPLES = {
    "accounts.response": models.Accounts,
    "banks_catalogue.response": models.BankCatalogue,
    "expense_categories.response": models.ExpenseCategories,
    "get_pdfs.response.entity": models.StoredPdfs,
    "identity.response": models.Identities,
    "predictors.response": models.Predictors,
    "recurring_transactions.response": models.RecurringTransactions,
    "salary.response": models.SalaryTransactions,
    "score.response": models.Scores,
    "session_data.insights.response": models.Insights,
    "session_data.session_status.response.completed": models.SessionStatus,
    "session_data.progress.response.completed": models.SessionProgress,
    "transactions.response": models.Transactions,
    "xlsx_report.response": models.Reports,
}


def transactions(*rows: str) -> Rows[Transaction]:
    """Decode transactions from JSON texts."""
    raw = f'{{"entity_id":"e","transactions":[{",".join(rows)}]}}'
    return responses.decode(models.Transactions, raw.encode()).transactions


def rows_within(value):
    """Find all rows in a value."""
    if isinstance(value, tuple):
        if isinstance(value, Rows):
            yield value
        for each in value:
            yield from rows_within(each)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from rows_within(getattr(value, field.name))


ROW = (
    '{"date":"2026-01-08 09:30:00","amount":1234.10,"balance":-5,'
    '"transaction_note":"=HYPERLINK(1)","account_id":"a","hash":"h",'
    '"transaction_type":"debit","later_field":1}'
)


class TestArrow:
    """
    `Rows.to_arrow` and `arrow_schema`.
    """

    @pytest.mark.parametrize("name", SAMPLES)
    def test_has_one_schema(self, sample, name):
        """
        Tables of no row, of one row and of a full response have equal schemas.
        """
        document = responses.decode(SAMPLES[name], sample(f"{name}.json"))

        found = list(rows_within(document))

        assert any(found)
        for rows in found:
            schema = arrow_schema(rows.row_type)
            for part in ((), rows[:1], rows):
                table = Rows(rows.row_type, part).to_arrow()
                assert table.schema == schema
                assert table.num_rows == len(part)
                table.validate(full=True)

    def test_types_columns(self):
        """
        Money is exact, times are times, and unknown fields are left out.
        """
        table = transactions(ROW).to_arrow()

        assert table.schema.field("amount").type == pa.decimal128(38, 18)
        assert table.schema.field("date").type == pa.timestamp("us")
        assert table.schema.field("category").type == pa.string()
        (row,) = table.to_pylist()
        assert row["amount"] == Decimal("1234.10")
        assert row["date"] == datetime.datetime(2026, 1, 8, 9, 30)  # noqa: DTZ001
        assert row["category"] is None
        assert "later_field" not in row
        assert "raw" not in row

    def test_nests_lists_and_objects(self):
        """
        Lists, objects and documents inside of rows keep their values.
        """
        inside = Transaction(amount=Decimal("1.5"))
        sets = Rows(
            RecurringSet,
            [RecurringSet(transactions=(inside, inside)), RecurringSet()],
        )
        figures = Rows(
            AccountPredictors,
            [AccountPredictors(predictors={"avg": Decimal("1.10")})],
        )

        first, second = sets.to_arrow().column("transactions").to_pylist()

        assert [each["amount"] for each in first] == [Decimal("1.5")] * 2
        assert second == []
        (text,) = figures.to_arrow().column("predictors").to_pylist()
        assert text == '{"avg":1.10}'

    def test_keeps_the_time_of_the_vendor(self):
        """
        Times that the vendor sends in UTC have that zone; others stay as they
        are printed, even if they should get a zone one day.
        """
        row = '{"date":"2026-01-08T00:00:00+05:30"}'
        raw = b'[{"last_updated":"2026-03-04T07:37:27.976531Z"}]'
        accounts = responses.decode_rows(Account, raw).to_arrow()

        (date,) = transactions(row).to_arrow().column("date").to_pylist()
        (updated,) = accounts.column("last_updated").to_pylist()

        assert date == datetime.datetime(2026, 1, 8)  # noqa: DTZ001
        assert updated.isoformat() == "2026-03-04T07:37:27.976531+00:00"

    @hypothesis.given(
        st.lists(
            st.tuples(
                st.integers(-(10**15) + 1, 10**15 - 1), st.integers(0, 17)
            ),
            max_size=30,
        )
    )
    @hypothesis.settings(max_examples=50, deadline=None)
    def test_keeps_fifteen_digits(self, numbers):
        """
        Numbers of up to 15 digits equal their JSON texts.
        """
        texts = [f"{Decimal(n).scaleb(-places):f}" for n, places in numbers]
        rows = transactions(*(f'{{"amount":{text}}}' for text in texts))

        amounts = rows.to_arrow().column("amount").to_pylist()

        assert amounts == [Decimal(text) for text in texts]
        assert list(map(float, amounts)) == list(map(float, texts))

    def test_repeated_times_keep_their_hours(self):
        """
        The same instant in two time zones is two times of a day.
        """
        texts = ["2026-01-08T09:30:00+05:30", "2026-01-08T04:00:00Z", "", "-"]
        rows = transactions(*(f'{{"date":"{text}"}}' for text in texts * 3))

        column = rows.to_arrow().column("date").cast("string").to_pylist()

        assert (
            column
            == [
                "2026-01-08 09:30:00.000000",
                "2026-01-08 04:00:00.000000",
                None,
                None,
            ]
            * 3
        )

    def test_rounds_digits_that_no_money_has(self):
        """
        A number with more digits than the column is rounded.
        """
        rows = transactions(
            '{"amount":0.1234567890123456789}',
            '{"amount":1e-99999}',
            # pyarrow ends the process at this one.
            '{"amount":1e-2147483647}',
            "{}",
        )

        assert rows.to_arrow().column("amount").to_pylist() == [
            Decimal("0.123456789012345679"),
            0,
            0,
            None,
        ]

    @pytest.mark.parametrize(
        "rows",
        [
            transactions('{"amount":1e99999}'),
            transactions('{"amount":1e20}'),
            Rows(Transaction, [Transaction(amount="a lot")]),
            Rows(Transaction, [Transaction(amount=Decimal("NaN"))]),
        ],
    )
    def test_refuses_values_without_a_place(self, rows):
        """
        The error names the column, and not the value.
        """
        with pytest.raises(DecodeError, match=r"decimal128.* @ amount$"):
            rows.to_arrow()

    def test_needs_the_extra(self, monkeypatch):
        """
        Without pyarrow, the error says how to install it.
        """
        monkeypatch.setattr("bankconnect_async.models.arrow.pyarrow", None)

        for convert in (
            transactions().to_arrow,
            lambda: arrow_schema(Transaction),
            lambda: encode_table(transactions(), "parquet"),
        ):
            with pytest.raises(ConfigurationError, match=r"async\[tables\]"):
                convert()

    def test_events_are_no_rows(self):
        """
        A class that is no row has no schema.
        """
        with pytest.raises(TypeError, match="no column can hold event_name"):
            arrow_schema(InfoEvent)


class TestLibraries:
    """
    Libraries that read Arrow tables.
    """

    def test_pandas_reads(self):
        """
        Pandas gets equal types from an empty and a full response.
        """
        empty, full = (
            rows.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)
            for rows in (transactions(), transactions(ROW, ROW))
        )

        assert (empty.dtypes == full.dtypes).all()
        assert full.amount.sum() == Decimal("2468.20")
        assert pd.concat([empty, full]).date.dt.year.tolist() == [2026, 2026]

    def test_polars_reads(self):
        """
        Polars gets equal types from an empty and a full response.
        """
        empty, full = (
            pl.from_arrow(rows.to_arrow())
            for rows in (transactions(), transactions(ROW, ROW))
        )

        assert empty.schema == full.schema
        assert pl.concat([empty, full])["amount"].sum() == Decimal("2468.20")

    def test_duckdb_reads(self):
        """
        DuckDB computes with exact amounts.
        """
        table = transactions(ROW, ROW).to_arrow()

        with duckdb.connect() as database:
            database.register("statement", table)
            found = database.sql(
                "SELECT sum(amount), min(date) FROM statement"
            ).fetchall()

        assert found == [
            (Decimal("2468.20"), datetime.datetime(2026, 1, 8, 9, 30))  # noqa: DTZ001
        ]


class TestRows:
    """
    `Rows` as tuples.
    """

    def test_are_tuples(self):
        """
        Rows equal plain tuples, and are made of them.
        """
        (row,) = rows = transactions(ROW)

        assert rows == (row,)
        assert hash(rows) == hash((row,))
        assert repr(rows) == repr((row,))
        document = models.Transactions(entity_id="e", transactions=(row,))
        assert document.transactions.row_type is Transaction
        assert document.transactions.to_arrow().num_rows == 1

    def test_survive_pickling(self):
        """
        Rows from another process convert, too.
        """
        rows = pickle.loads(pickle.dumps(transactions(ROW)))

        assert rows == transactions(ROW)
        assert rows.to_arrow().equals(transactions(ROW).to_arrow())


class TestFiles:
    """
    `write_table` and `encode_table`.
    """

    def test_round_trips_parquet(self, tmp_path):
        """
        A Parquet file has the schema and the values of the table.
        """
        path = tmp_path / "rows.parquet"
        rows = transactions(ROW, "{}")

        write_table(rows, path, "parquet")

        assert parquet.read_table(path).equals(rows.to_arrow())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        write_table(transactions(), path, "parquet")
        assert parquet.read_schema(path) == arrow_schema(Transaction)

    def test_writes_csv_with_fixed_columns(self):
        """
        Columns do not depend on the rows; lists are JSON texts.
        """
        empty, full = (
            encode_table(Rows(Account, rows), "csv").decode()
            for rows in ((), [Account(months=("2026-01",))])
        )

        assert full.startswith(empty)
        (row,) = csv.DictReader(io.StringIO(full))
        assert row["months"] == '["2026-01"]'
        assert row["credit_limit"] == ""

    def test_writes_json_as_it_was_sent(self):
        """
        JSON has all fields, with every digit.
        """
        content = encode_table(transactions(ROW), "json").decode()

        assert json.loads(content) == [json.loads(ROW)]
        assert "1234.10" in content

    def test_every_kind_has_its_columns(self):
        """
        Each kind of data that is a table is written in every format.
        """
        for kind in (*ENTITY_KINDS.values(), *SESSION_KINDS.values()):
            if kind.row_type is not None:
                rows = Rows(kind.row_type, [kind.row_type()])
                header = encode_table(rows, "csv").decode().splitlines()[0]
                names = arrow_schema(kind.row_type).names
                assert header.split(",") == names
                content = io.BytesIO(encode_table(rows, "parquet"))
                assert parquet.read_schema(content).names == names

    def test_writes_workbooks(self):
        """
        In a workbook, numbers are numbers, times are times, and texts are
        never formulas.
        """
        rows = transactions(
            ROW, '{"amount":1e400,"date":"0001-01-01","chq_num":"007"}'
        )

        book = openpyxl.load_workbook(io.BytesIO(encode_table(rows, "xlsx")))
        header, first, second = book.active.iter_rows()

        names = [cell.value for cell in header]
        assert names == arrow_schema(Transaction).names
        cells = dict(zip(names, first, strict=True))
        assert cells["amount"].value == 1234.1
        assert cells["date"].value == datetime.datetime(2026, 1, 8, 9, 30)  # noqa: DTZ001
        assert cells["transaction_note"].value == "=HYPERLINK(1)"
        assert cells["transaction_note"].data_type == "s"
        assert cells["category"].value is None
        cells = dict(zip(names, second, strict=True))
        assert cells["amount"].value == "1E+400"
        assert cells["date"].value == "0001-01-01 00:00:00"
        assert cells["chq_num"].value == "007"

    def test_writes_any_time_into_workbooks(self):
        """
        A time that is in the year 10000 in UTC is a text.
        """
        text = "9999-12-31T23:59:59-23:59"
        account = Account(last_updated=datetime.datetime.fromisoformat(text))

        content = encode_table(Rows(Account, [account]), "xlsx")

        sheet = openpyxl.load_workbook(io.BytesIO(content)).active
        assert text.replace("T", " ") in [cell.value for cell in sheet[2]]

    def test_refuses_texts_that_no_cell_takes(self):
        """
        A text is never cut; the error names its cell.
        """
        rows = Rows(Transaction, [Transaction(hash="x" * 32_768)])

        with pytest.raises(DecodeError, match=r"32767 @ row 1, column 14$"):
            encode_table(rows, "xlsx")

    def test_workbooks_need_the_extra(self, monkeypatch):
        """
        Without XlsxWriter, the error says how to install it.
        """
        encode_table(transactions(), "xlsx")
        monkeypatch.setattr(
            "bankconnect_async.tables.workbook.xlsxwriter", None
        )

        with pytest.raises(ConfigurationError, match=r"async\[tables\]"):
            encode_table(transactions(), "xlsx")

    def test_writes_whole_files_or_none(self, tmp_path):
        """
        A file that cannot be written leaves nothing behind.
        """
        (tmp_path / "folder").mkdir()
        rows = Rows(Transaction, [Transaction(amount=Decimal("1e30"))])

        with pytest.raises(InvalidRequestError):
            write_table(transactions(), tmp_path / "folder", "csv")
        with pytest.raises(DecodeError):
            write_table(rows, tmp_path / "new", "parquet")

        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
        assert tables.FORMATS == ("json", "csv", "parquet", "xlsx")

    def test_a_new_file_replaces_nothing(self, tmp_path, monkeypatch):
        """
        A file that came while a new one was written is kept.
        """
        path = tmp_path / "rows.csv"
        path.write_bytes(b"theirs")
        monkeypatch.setattr(PartFile, "_check_target", lambda _: None)

        with pytest.raises(FileExistsError):
            write_file(b"ours", path, is_new=True)

        assert path.read_bytes() == b"theirs"
        assert list(tmp_path.iterdir()) == [path]
        write_file(b"ours", tmp_path / "new.csv", is_new=True)
        assert (tmp_path / "new.csv").read_bytes() == b"ours"
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_full_disk_leaves_nothing(self, tmp_path):
        """
        The older file stays when there is no room for the new one.
        """
        path = tmp_path / "rows.csv"
        write_table(transactions(ROW), path, "csv")
        old = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(old), limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                write_table(transactions(ROW, ROW), path, "csv")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        assert path.read_bytes() == old
        assert list(tmp_path.iterdir()) == [path]
