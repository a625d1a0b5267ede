"""
``bankconnect fetch --format`` against the sandbox.
"""

import csv
import io
import json
import stat

from decimal import Decimal

import openpyxl
import pytest

from pyarrow import parquet

from bankconnect_async import arrow_schema
from bankconnect_async._resources.statement_kinds import ENTITY_KINDS
from bankconnect_async.models import Transaction
from bankconnect_async.sandbox import statement_pdf
from bankconnect_async.tables import FORMATS


@pytest.fixture(name="entity_id")
def _entity_id(service, bankconnect, tmp_path, monkeypatch):
    """Upload a statement, and wait until it is processed."""
    monkeypatch.setenv("BANKCONNECT_SERVER_HASH", service.server_hash)
    path = tmp_path / "statement.pdf"
    path.write_bytes(statement_pdf())
    options = ("--link-id", "customer-42", "--bank-name", "axis")
    uploaded = bankconnect("upload", path, *options)
    entity_id = json.loads(uploaded.out)["entity_id"]
    assert bankconnect("wait", entity_id).code == 0
    return entity_id


def test_formats_hold_the_same_rows(entity_id, bankconnect, tmp_path):
    """
    JSON, CSV, Parquet and workbooks hold the same transactions.
    """
    for format_ in FORMATS:
        result = bankconnect(
            *("fetch", entity_id, "--format", format_),
            *("--output", tmp_path / format_),
        )
        assert (result.code, result.out, result.err) == (0, "", "")
        assert stat.S_IMODE((tmp_path / format_).stat().st_mode) == 0o600

    documents = json.loads((tmp_path / "json").read_text())
    table = parquet.read_table(tmp_path / "parquet")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "csv").read_text())))
    content = io.BytesIO((tmp_path / "xlsx").read_bytes())
    sheet = openpyxl.load_workbook(content).active
    header, *cells = sheet.iter_rows(values_only=True)

    assert len(documents) > 10
    assert table.schema == arrow_schema(Transaction)
    amounts = table.column("amount").to_pylist()
    assert amounts == [Decimal(str(row["amount"])) for row in documents]
    assert amounts == [Decimal(line["amount"]) for line in lines]
    place = header.index("amount")
    assert list(map(float, amounts)) == [row[place] for row in cells]
    dates = table.column("date").to_pylist()
    assert dates == [row[header.index("date")] for row in cells]
    assert [*lines[0]] == list(header) == table.schema.names


def test_kinds_have_their_columns(entity_id, bankconnect):
    """
    Other kinds of data are tables, too.
    """
    for what in ("accounts", "fraud", "identity", "salary"):
        result = bankconnect(
            "fetch", entity_id, "--what", what, "--format", "csv"
        )

        header = result.out.splitlines()[0]
        assert (
            header.split(",")
            == arrow_schema(ENTITY_KINDS[what].row_type).names
        )


def test_what_is_no_table_has_one_format(service, bankconnect):
    """
    Analyses are JSON only; the message says so before any request.
    """
    result = bankconnect(
        *("fetch", "id", "--what", "predictors", "--format", "parquet")
    )

    assert result.code == 2
    assert "predictors is no table: use --format json" in result.err


def test_the_missing_extra_is_named_before_any_request(
    service, bankconnect, monkeypatch
):
    """
    Without pyarrow nothing is fetched.
    """
    monkeypatch.setattr("bankconnect_async.models.arrow.pyarrow", None)

    result = bankconnect("fetch", "id", "--format", "parquet")

    assert result.code == 2
    assert 'pip install "bankconnect-async[tables]"' in result.err
    assert result.err.count("\n") == 1


def test_a_terminal_gets_no_workbook(service, bankconnect, monkeypatch):
    """
    Bytes of a workbook are not printed on a terminal.
    """
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    result = bankconnect("fetch", "id", "--format", "xlsx")

    assert result.code == 2
    assert "name a file with --output" in result.err
