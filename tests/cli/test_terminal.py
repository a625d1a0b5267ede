"""
Foreign texts cannot act on a terminal or a spreadsheet.
"""

import csv
import datetime
import io
import json
import subprocess
import sys

from decimal import Decimal

import attrs
import pytest

from yarl import URL

from bankconnect_async import BadRequestError, Failed, Session
from bankconnect_async.batch import Created
from bankconnect_async.journal.records import encode_record
from bankconnect_async.models import Rows
from bankconnect_async.tables import encode_csv, encode_json


#: Colours, titles, a direction and invisible characters.
HOSTILE = (
    "a\x1b[31mb\x9b2Jc\u202ed\u2066e\u200bf\u061cg\u200eh\ufeffi\x7fj\u2028k"
)


def is_harmless(text: str) -> bool:
    """Tell whether a terminal only shows *text*."""
    return text.replace("\n", "").isprintable()


@attrs.frozen
class Row:
    """A row of a table."""

    text: str
    amount: Decimal | None = None
    day: datetime.date | None = None


def cells(*texts: str) -> list[str]:
    """Write texts as cells of a table, and read them again."""
    raw = encode_csv(Rows(Row, map(Row, texts)))
    return [row["text"] for row in csv.DictReader(io.StringIO(raw.decode()))]


class TestTables:
    """
    `encode_csv` and `encode_json`.
    """

    @pytest.mark.parametrize(
        "text",
        [
            *("=cmd", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"),
            *(
                "\uff1dcmd",
                "\uff0b1",
                "\uff0d1",
                "\uff20SUM",
                "\ufe661",
                "\ufe621",
                "\ufe631",
                "\ufe6b1",
                "\u22121",
            ),
            *(
                " =cmd",
                "\u3000\uff1dcmd",
                "\u200b=cmd",
                "\ufeff\uff1dcmd",
                "\u200d=1",
            ),
        ],
    )
    def test_makes_no_formula(self, text):
        """
        A text that a spreadsheet might run begins with an apostrophe.
        """
        (cell,) = cells(text)

        assert cell.startswith("'")

    def test_makes_no_formula_where_cells_are_parted_otherwise(self):
        """
        A formula after a semicolon, a tab or a line end gets an apostrophe,
        too.
        """
        texts = "a;=cmd", "a\t\uff1dcmd", "a;b", "a\tb\r\n=2", "a\n@b"
        assert cells(*texts) == [
            "a;'=cmd",
            "a\t'\uff1dcmd",
            "a;b",
            "a\tb\r\n'=2",
            "a\n'@b",
        ]

    @pytest.mark.parametrize("text", ["a=b", "1-2", "a @ b", "", "UPI/9", "é"])
    def test_leaves_plain_texts_alone(self, text):
        """
        Texts that are no formulas stay unchanged.
        """
        assert cells("x", text) == ["x", text]

    def test_keeps_letters_that_are_joined(self):
        """
        Joiners of Indian scripts are kept, and other invisible characters are
        not.
        """
        assert cells("क\u094d\u200dष", HOSTILE)[0] == "क\u094d\u200dष"
        assert is_harmless(cells("x", HOSTILE)[1])

    def test_writes_json_that_a_terminal_takes(self):
        """
        JSON escapes what a terminal would run, with the same meaning.
        """
        document = {"name": HOSTILE, "smile": "\U000e0041😀", "a": "ж"}

        raw = encode_json(document).decode()

        assert is_harmless(raw)
        assert "😀" in raw
        assert "ж" in raw
        assert json.loads(raw) == document

    def test_writes_json_of_any_kind(self):
        """
        A number above 64 bits, half a surrogate pair and 900 levels are
        written unchanged.
        """
        deep: object = []
        for _ in range(900):
            deep = [deep, {"k": 1}]
        document = {
            "number": 2**70,
            "half \ud800": "\udfff",
            "amount": Decimal("1.10"),
            "none": None,
            "empty": [{}, []],
        }

        raw = encode_json({**document, "deep": deep})
        again = json.loads(raw, parse_float=Decimal)

        assert again.pop("deep") == deep
        assert again == document

    def test_writes_both_ways_alike(self):
        """
        Both JSON writers indent alike.
        """
        document = {"a": [1, {"b": "x"}, []], "c": {}, "d": Decimal("1.50")}

        plain = encode_json(document).decode()
        other = encode_json({**document, "a": [2**70]})

        assert plain.splitlines()[-3:] == other.decode().splitlines()[-3:]
        assert plain.startswith('{\n  "a": [\n    1,\n')
        assert other.startswith(b'{\n  "a": [\n    1180591620717411303424\n')


class TestRecords:
    """
    Lines of a journal.
    """

    def test_hold_nothing_that_acts(self):
        """
        A record on a terminal is harmless, and keeps its content.
        """
        url = f"https://x.example/{HOSTILE.replace(' ', '')}"
        session = Session(
            link_id="क😀",
            redirect_url=URL(url, encoded=True),
            session_id="s",
            attempts=1,
        )
        created = Created(index=0, item="c", request=None, session=session)
        failed = Failed(
            index=0,
            item=HOSTILE,
            request=None,
            error=BadRequestError(HOSTILE, fields={HOSTILE: (HOSTILE,)}),
        )

        records = [
            encode_record(each, line=1, api="a/v1", request=None).decode()
            for each in (created, failed)
        ]

        assert all(map(is_harmless, records))
        assert json.loads(records[0])["redirect_url"] == url
        assert json.loads(records[1])["link_id"] == HOSTILE


class TestCommands:
    """
    Output of commands.
    """

    def test_show_files_and_reasons_on_a_harmless_line(self, tmp_path):
        """
        The name of a file cannot act on the terminal that shows its error.
        """
        path = tmp_path / "a\x1b[31m\x9b2J\u202e.csv"
        path.write_text("no_link_id\nx\n")

        done = subprocess.run(
            [
                *(sys.executable, "-m", "bankconnect_async.cli", "batch"),
                *(path, "--output", tmp_path / "out", "--sandbox"),
            ],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )

        assert done.returncode == 2
        assert ".csv" in done.stderr
        assert is_harmless(done.stdout + done.stderr)

    def test_show_urls_that_a_terminal_takes(self, bankconnect, monkeypatch):
        """
        A URL is percent-encoded where it is not printable, and exact in JSON.
        """
        session = Session(
            link_id="c",
            redirect_url=URL(f"https://x.example/é{HOSTILE}", encoded=True),
            session_id="s",
            attempts=1,
        )

        async def create(*_, **__):
            return session

        monkeypatch.setattr("bankconnect_async.cli.session._create", create)

        plain = bankconnect("session", "c", "--sandbox")
        as_json = bankconnect("session", "c", "--sandbox", "--json")

        assert is_harmless(plain.out + as_json.out)
        assert "/éa%1B[31mb%C2%9B2Jc%E2%80%AEd" in plain.out
        assert json.loads(as_json.out)["redirect_url"] == session.url
