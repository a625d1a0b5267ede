"""
CSV, JSON lines, and files that are neither.
"""

import csv
import datetime
import io
import json
import tracemalloc

from itertools import pairwise

import hypothesis
import orjson
import pytest

from hypothesis import strategies as st

from bankconnect_async.cli.input import rows as _rows
from bankconnect_async.cli.input.parameters import build_request
from bankconnect_async.cli.input.rows import (
    BadRow,
    InputFileError,
    InputRow,
    InputRows,
    UntrustedRowsError,
)
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models import UNSET, Consent, Metadata


JUNE = datetime.date(2026, 6, 30)


def read(data):
    """
    Read all rows of some bytes or of a text.
    """
    data = data.encode() if isinstance(data, str) else data
    return list(InputRows(io.BytesIO(data), name="links.csv"))


def read_one(data):
    """
    Read the only row.
    """
    (row,) = read(data)
    return row


def refuse_month_first(data):
    """
    Check the dates of some bytes that can be read twice.
    """
    rows = InputRows(io.BytesIO(data), name="links.csv")
    rows.refuse_month_first(lambda: io.BytesIO(data))


def ids(rows):
    """
    Return the link ids of the rows by line number.
    """
    return {
        row.line: row.request.link_id if isinstance(row, InputRow) else None
        for row in rows
    }


def fields(data):
    """
    Return the problems of the only row by field.
    """
    row = read_one(data)
    assert isinstance(row, BadRow)
    return row.error.fields


class TestCsv:
    """
    CSV with a header.
    """

    @pytest.mark.parametrize(
        "data",
        [
            "link_id,bank_name\n007,axis\n",
            "link_id,bank_name\n007,axis",
            "link_id,bank_name\r\n007,axis\r\n",
            "\ufefflink_id,bank_name\n007,axis\n",
            '\ufeff"link_id","bank_name"\n"007","axis"\n',
            "link_id;bank_name\n007;axis\n",
            "link_id\tbank_name\n007\taxis\n",
            "bank_name, link_id \naxis,007\n",
        ],
        ids=[
            "plain",
            "no last end",
            "CRLF",
            "BOM",
            "BOM and quotes",
            "semicolons",
            "tabs",
            "blanks in the header",
        ],
    )
    def test_formats_of_spreadsheets(self, data):
        """
        The formats of spreadsheets are read, and leading zeros are kept.
        """
        row = read_one(data)

        assert row.line == 2
        assert row.request.link_id == "007"
        assert row.request.bank_name == "axis"

    def test_line_numbers(self):
        """
        Rows are counted by lines, through quoted line breaks and blank lines.
        """
        rows = read(
            '\nlink_id,extra.note\na,"one\ntwo\n"\n\nb,"x;\r\n""y"""\n,\nc,\n'
        )

        assert ids(rows) == {3: "a", 7: "b", 10: "c"}
        assert rows[0].request.extra == {"note": "one\ntwo\n"}
        assert rows[1].request.extra == {"note": 'x;\r\n"y"'}

    def test_empty_cells(self):
        """
        An empty cell leaves its parameter out.
        """
        row = read_one("link_id,redirect_url,bank_name,session_expiry\na,,,\n")

        assert row.request.redirect_url is UNSET
        assert row.request.bank_name is None
        assert row.request.session_expiry is None

    @pytest.mark.parametrize(
        ("cells", "problem"),
        [
            ("b", "has 1 cell, the header has 3: write empty ones, too"),
            ("b,sbi", "has 2 cells, the header has 3: write empty ones, too"),
            ("b,sbi,,", "has 4 cells, the header has 3: put a value with ','"),
            ("b;sbi;", "has 1 cell, the header has 3"),
        ],
    )
    def test_wrong_number_of_cells(self, cells, problem):
        """
        A row with too few or too many cells is refused.
        """
        rows = read(f"link_id,bank_name,mode\na,,\n{cells}\nc,,\n")

        assert ids(rows) == {2: "a", 3: None, 4: "c"}
        assert problem in str(rows[1].error)

    def test_empty_columns_at_the_end(self):
        """
        Columns without a name at the end are accepted while they are empty.
        """
        rows = read("link_id,bank_name,,\na,axis,,\nb,sbi\nc,,x,\nd,,,,\ne\n")

        assert ids(rows) == {2: "a", 3: "b", 4: None, 5: None, 6: None}
        assert "a value in column 3, which has no name" in str(rows[2].error)
        assert "has 5 cells, the header has 4" in str(rows[3].error)
        assert "has 1 cell, the header has 2" in str(rows[4].error)

    @pytest.mark.parametrize(
        ("first", "delimiter"),
        [
            ("sep=;", ";"),
            ("SEP=,", ","),
            ('"sep=|"', "|"),
            ("sep=\t", "\t"),
            ("\ufeffsep=;\r", ";"),
        ],
    )
    def test_declared_delimiter(self, first, delimiter):
        """
        A first line with the delimiter for Excel is followed, and counted.
        """
        row = read_one(f"{first}\nlink_id{delimiter}mode\n007{delimiter}pdf\n")

        assert row.line == 3
        assert row.request.link_id == "007"
        assert row.request.mode == "pdf"

    def test_header_repeated(self):
        """
        The header of a second file with the same columns costs one row.
        """
        rows = read(
            "link_id,bank_name\na,axis\n\ufefflink_id,bank_name\nb,sbi\n"
        )

        assert ids(rows) == {2: "a", 3: None, 4: "b"}
        assert "repeats the header: remove it" in str(rows[1].error)

    def test_another_header(self):
        """
        The header of a second file with other columns ends the input.
        """
        rows = InputRows(
            io.BytesIO(b"link_id,bank\na,sbi\nbank,link_id\nsbi,b\n"),
            name="links.csv",
        )
        got = []
        with pytest.raises(InputFileError, match="another header on line 3"):
            got.extend(rows)

        assert ids(got) == {2: "a"}

    def test_rows_between_two_quotes(self):
        """
        Each row between two stray quotes is refused under its line number.
        """
        rows = read('link_id,mode\na,pdf\n"b,pdf\nc,pdf\nd,pdf"\ne,pdf\n')

        assert ids(rows) == {2: "a", **dict.fromkeys((3, 4, 5)), 6: "e"}
        for row in rows[2:4]:
            assert "quotes that begin on line 3" in str(row.error)

    def test_line_break_in_a_link_id(self):
        """
        A link id with a line break is refused, and so is its second line.
        """
        rows = read('link_id,mode\n"a\nb",pdf\nc,pdf\n')

        assert ids(rows) == {2: None, 3: None, 4: "c"}
        assert "line break in its link_id: check its" in str(rows[0].error)

    def test_end_of_file_mark(self):
        """
        The byte 0x1A at the end is refused, in a row or on a line of its own.
        """
        rows = read(b"link_id,mode\na,pdf\nb,pdf\x1a")
        assert ids(rows) == {2: "a", 3: None}
        assert "0x1A" in str(rows[1].error)

        rows = read(b"link_id,mode\na,pdf\n\x1a")
        assert ids(rows) == {2: "a", 3: None}
        assert "0x1A" in str(rows[1].error)

    def test_any_link_id(self):
        """
        Link ids that look damaged are accepted if the option allows it.
        """
        data = b"link_id,mode\n '00123,pdf\nNaN,pdf\na\tb,pdf\n"
        rows = list(
            InputRows(io.BytesIO(data), name="x", allow_any_link_id=True)
        )

        assert ids(rows) == {2: " '00123", 3: "NaN", 4: None}

    def test_bad_rows_among_good(self):
        """
        Each bad row has its line and reason, and does not affect others.
        """
        rows = read(
            b"link_id,from_date,redirect_url\n"
            b"a,01/01/2026,https://lender.example/\n"
            b",01/01/2026,\n"
            b"b,31/02/2026,\n"
            b"c,,ftp://lender.example\n"
            b"d,,,,\n"
            b"e,,\xff\n"
            b"a,,\n"
            b"f\0,,\n"
            b"g,2026-01-01,\n"
        )

        assert ids(rows) == {
            2: "a",
            **dict.fromkeys((3, 4, 5, 6, 7, 9)),
            # Only the batch finds repeated link ids.
            8: "a",
            10: "g",
        }
        reasons = {
            row.line: (row.link_id, str(row.error))
            for row in rows
            if isinstance(row, BadRow)
        }
        assert reasons == {
            3: (None, "link_id: must not be blank"),
            4: (
                "b",
                "from_date: '31/02/2026' is not a date: use DD/MM/YYYY or "
                "YYYY-MM-DD",
            ),
            5: (
                "c",
                "redirect_url: is not an absolute http or https URL, such as "
                "https://lender.example/return",
            ),
            6: (
                "d",
                "row: has 5 cells, the header has 3: put a value with ',' in "
                "it in quotes",
            ),
            7: (
                "e",
                "row: holds bytes that are not UTF-8: save the file in UTF-8",
            ),
            9: ("f\0", "row: holds a NUL byte: export the file again"),
        }

    @pytest.mark.parametrize(
        "bad", ['"b', 'b"b,"c', '"b"b', '"' + "b" * 140_000]
    )
    def test_unbalanced_quote(self, bad):
        """
        A quote without its partner costs its own row and none below it.
        """
        rows = read(f'link_id,extra.note\na,"axis"\n{bad}\nc,"x\ny"\nd,sbi\n')

        assert ids(rows) | {3: None} == {2: "a", 3: None, 4: "c", 6: "d"}
        assert len(rows) == 4

    def test_quote_open_to_the_end(self):
        """
        The rows below a quote that is never closed are read.
        """
        below = "".join(f"customer-{number}\n" for number in range(9_999))
        rows = read('link_id\n"oops\n' + below)

        assert isinstance(rows[0], BadRow)
        assert "check its quotes" in str(rows[0].error)
        assert len(rows) == 10_000
        assert all(isinstance(row, InputRow) for row in rows[1:])
        assert [row.line for row in rows] == list(range(2, 10_002))

    def test_long_line(self):
        """
        A line of 10 MB is a bad row, stays out of memory, and costs no other
        row.
        """
        data = b"link_id\na\n" + b"x" * 10_000_000 + b"\nb\n"
        tracemalloc.start()
        try:
            rows = read(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert ids(rows) == {2: "a", 3: None, 4: "b"}
        assert "longer than" in str(rows[1].error)
        assert peak < 5_000_000

    def test_extra(self):
        """
        A column extra.NAME gives the parameter NAME as a text.
        """
        row = read_one("link_id,extra.branch\na,007\n")

        assert row.request.extra == {"branch": "007"}

    @hypothesis.given(
        st.lists(
            st.text(
                st.characters(
                    exclude_categories=["Cs"], exclude_characters="\0\r"
                ),
                min_size=1,
            ).filter(lambda text: not text.isspace()),
            min_size=1,
            unique=True,
        ),
        st.sampled_from(",;\t"),
        st.sampled_from(["\n", "\r\n"]),
        st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    )
    def test_written_by_a_spreadsheet(self, link_ids, delimiter, end, quoting):
        """
        A link id from a CSV writer is read exactly, or refused.
        """
        file = io.StringIO()
        writer = csv.writer(
            file, delimiter=delimiter, lineterminator=end, quoting=quoting
        )
        writer.writerow(["link_id", "bank_name"])
        expected = {}
        for link_id in link_ids:
            writer.writerow([link_id, "axis"])
            try:
                build_request({"link_id": link_id})
            except InvalidRequestError:
                continue
            expected[link_id] = None

        rows = read(file.getvalue())

        taken = [
            row.request.link_id for row in rows if isinstance(row, InputRow)
        ]
        assert taken == list(expected)
        assert {row.line for row in rows} == {
            number
            for number, line in enumerate(file.getvalue().split("\n"), 1)
            if number > 1 and line.strip()
        }


class TestJsonLines:
    """
    JSON objects, one on each line.
    """

    def test_values(self):
        """
        Values of every type are typed, and dates may have both forms.
        """
        row = read_one(
            orjson.dumps(
                {
                    "link_id": "a",
                    "redirect_url": None,
                    "from_date": "2026-01-01",
                    "to_date": "30/06/2026",
                    "bank_name": None,
                    "session_expiry": 60,
                    "accept_anything": True,
                    "aa_recurring_tenure_month": 1.5,
                    "metadata": {"names": ["A", "B"]},
                    "consents": {
                        "BCAA001": {"to_date": "30/06/2026"},
                        "BCAA002": {},
                    },
                    "extra": {"x": [1, {"y": None}]},
                    "extra.z": None,
                }
            )
        )

        request = row.request
        assert row.line == 1
        assert request.redirect_url is None
        assert request.from_date == datetime.date(2026, 1, 1)
        assert request.to_date == JUNE
        assert request.bank_name is None
        assert request.session_expiry == 60
        assert request.accept_anything is True
        assert request.aa_recurring_tenure_month == 1.5
        assert request.metadata == Metadata(names=["A", "B"])
        assert request.consents == {
            "BCAA001": Consent(to_date=JUNE),
            "BCAA002": Consent(),
        }
        assert request.extra == {"x": [1, {"y": None}], "z": None}

    def test_redirect_url_left_out(self):
        """
        Without a redirect URL the client's own applies.
        """
        assert read_one('{"link_id": "a"}').request.redirect_url is UNSET

    def test_line_numbers(self):
        """
        Blank lines are counted and are no rows; a BOM is dropped.
        """
        rows = read(b'\xef\xbb\xbf\r\n{"link_id": "a"}\r\n\n{"link_id": "b"}')

        assert ids(rows) == {2: "a", 4: "b"}

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ('{"link_id": "b"', "is not JSON"),
            ("b", "is not JSON"),
            ("[1]", "is not a JSON object"),
            ("NaN", "is not JSON"),
            ('{"link_id": 7}', "link_id: must be a text, not int"),
            ('{"link_id": 1.23457e11}', "not float: put it in quotes"),
            ('{"link_id": " b"}', "begins or ends with a blank"),
            ('{"link_id": "b\\u200b"}', "U+200B"),
            ('{"link_id": "b\\u0007"}', "control character U+0007"),
            ('{"link_id": "link_id"}', "name of its own column"),
            ('{"link_id": "b", "link_id": "c"}', "has 'link_id' twice"),
            ('{"link_id": "b", "mode": "pdf", "mode": "aa"}', "twice"),
            ('{"link_id": "b", "extra.x": 1, "extra": {"x": 2}}', "twice"),
            (
                '{"link_id": "b", "metadata": {"names": [], "names": ["a"]}}',
                "names",
            ),
            ('{"link_id": "b"}\x1a', "ends with the byte 0x1A"),
            ('{"link_id": null}', "link_id: must not be blank"),
            ("{}", "link_id: must not be blank"),
            ('{"link_id": "b\\ud800"}', "is not JSON"),
            ('{"link_id": "b", "bank": 1e400}', "is not JSON"),
            (
                '{"link_id": "b", "bankname": "x"}',
                "write bank_name, or extra.bankname if",
            ),
            ('{"link_id": "b", "api_key": "k3y"}', "api_key: is a secret"),
            ('{"link_id": "b", "extra": {"API_KEY": "k3y"}}', "must not hold"),
            ('{"link_id": "b", "extra": 5}', "is not a JSON object"),
            ('{"link_id": "b", "extra.x": 18446744073709551616}', "64 bits"),
            ('{"link_id": "b", "extra.x": [-1e30]}', "64 bits"),
            ('{"link_id": "b", "session_expiry": 1.5}', "not float"),
            ('{"link_id": "b", "session_expiry": true}', "not bool"),
            ('{"link_id": "b", "mode": ["pdf"]}', "must be one of"),
            ('{"link_id": "b", "from_date": 20260101}', "not int"),
            ('{"link_id": "b", "metadata": []}', "must be a JSON object"),
            ('{"link_id": "b", "consents": {"C": 1}}', "consents.C: must be"),
            ('{"link_id": "b", "consents": {"C": " "}}', "consents.C: must"),
            (
                '{"link_id": "b", "consents": {"from_date": "03/25/2026"}}',
                "consents.from_date: must be a JSON object",
            ),
            (
                '{"link_id": "b", "extra.x": ' + "[" * 40 + "]" * 40 + "}",
                "is nested deeper than 32 levels",
            ),
            (
                '{"link_id": "b", "extra.x": ' + "[" * 2000 + "]" * 2000 + "}",
                "is not JSON",
            ),
            ('{"link_id": "b", "x": "' + "x" * 2**20 + '"}', "longer than"),
            ('{"link_id": "\0"}', "holds a NUL byte"),
        ],
        ids=lambda value: str(value)[:40].replace("\0", "NUL"),
    )
    def test_bad_line(self, line, reason):
        """
        A bad line is one bad row with a reason, and does not affect others.
        """
        good, bad, after = read(
            f'{{"link_id": "a"}}\n{line}\n{{"link_id": "c"}}'
        )

        assert ids([good, after]) == {1: "a", 3: "c"}
        assert isinstance(bad, BadRow)
        assert bad.line == 2
        assert reason in str(bad.error)
        assert "k3y" not in str(bad.error)

    def test_text_that_looks_like_a_key(self):
        """
        A text that looks like a key is no repeated key.
        """
        row = read_one(
            r'{"link_id": "a", "extra.x": "\"mode\": 1, \"mode\": 2"}'
        )

        assert row.request.extra == {"x": '"mode": 1, "mode": 2'}

    def test_later_byte_order_mark(self):
        """
        A byte order mark before a later line is dropped.
        """
        rows = read('\ufeff{"link_id": "a"}\n\ufeff{"link_id": "b"}\n')

        assert ids(rows) == {1: "a", 2: "b"}

    def test_written_by_a_data_frame(self):
        """
        Whole numbers with decimals, as pandas writes them, are accepted.
        """
        row = read_one('{"link_id": "a", "session_expiry": 30.0}')

        assert row.request.session_expiry == 30

    def test_undecodable(self):
        """
        Bytes that are not UTF-8 make a bad row.
        """
        good, bad = read(b'{"link_id": "a"}\n{"link_id": "\xff"}\n')

        assert isinstance(good, InputRow)
        assert "not UTF-8" in str(bad.error)

    def test_all_problems_at_once(self):
        """
        One error reports all problems of a row.
        """
        line = {
            "link_id": "",
            "from_date": "soon",
            "session_expiry": 1,
            "consents": {
                "C": {"from_date": "x", "when": "y"},
                "D": {"to_date": 1},
            },
            "metadata": {"names": "one", "nick": ""},
            "nope": 1,
        }

        assert set(fields(json.dumps(line))) == {
            "link_id",
            "from_date",
            "session_expiry",
            "consents.C.from_date",
            "consents.C.when",
            "consents.D.to_date",
            "metadata.names",
            "metadata.nick",
            "nope",
        }


class TestUnusable:
    """
    Files that are no input at all.
    """

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"", "is empty"),
            (b"\xef\xbb\xbf\r\n \n", "is empty"),
            (b"link_id,bank_name\n", "has a header and no rows"),
            (b"link_id\n\n,\n\n", "has a header and no rows"),
            (b"link_id\n\n\n", "has a header and no rows"),
            ("link_id\na\n".encode("utf-16"), "is UTF-16: save it as CSV"),
            ("link_id\na\n".encode("utf-16-be"), "is UTF-16: save it as CSV"),
            ("link_id\na\n".encode("utf-16-le"), "is UTF-16: save it as CSV"),
            (b"\x7fELF\0\0\n", "is binary"),
            (b"PK\x03\x04\x14\0\0\0\n", "is a ZIP archive or a workbook"),
            (b"PK\x03\x04\x14\0[Content_Types].xml\n", "workbook (.xlsx)"),
            (
                b"PK\x03\x04mimetypeapplication/vnd.oasis.opendocument."
                b"spreadsheetPK",
                "is a workbook (.ods)",
            ),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "old Excel (.xls)"),
            (b"<!DOCTYPE HTML>\n", "is HTML"),
            (b"\n <table><tr><td>link_id\n", "is HTML"),
            (b"<?xml version='1.0'?>\n", "is XML"),
            (b"{\\rtf1\\ansi\n", "is a text with formatting"),
            (b"PAR1\x15\0\n", "is a Parquet file"),
            (b"\x1f\x8b\x08\0\n", "is packed with gzip twice"),
            (b"BZh91AY&SY\n", "is packed with bzip2"),
            ("link_id\na\n".encode("utf-32"), "is UTF-32"),
            (
                "\ufeff\ufefflink_id\na\n".encode(),
                "begins with the invisible character U+FEFF (zero width "
                "no-break space) on line 1: remove it",
            ),
            ("\u200blink_id\na\n".encode(), "invisible character U+200B"),
            ("\u00a0link_id\na\n".encode(), "invisible character U+00A0"),
            (
                '\n\u200b{"link_id": "a"}\n'.encode(),
                "invisible character U+200B (zero width space) on line 2",
            ),
            ("ï»¿link_id\na\n".encode(), "damaged byte order mark"),
            (b"mode,Link ID\npdf,a\n", "column 'Link ID' and no link_id"),
            (b"linkId;mode\na;pdf\n", "column 'linkId' and no link_id"),
            (b",link_id\n0,a\n", "no name for column 1"),
            (b"sep=;\n", "is neither CSV"),
            (b"sep=;\nlink_id;mode\n", "has a header and no rows"),
            (b'[{"link_id": "a"}]', "is a JSON array"),
            (b"[\n", "is a JSON array"),
            (b'{\n  "link_id": "a"\n}\n', "goes over several lines"),
            (b"link_id\ra\rb\r", "end in CR alone"),
            (b"customer-1,axis\n", "is neither CSV with a link_id column"),
            (b'"link_id\na\n', "is neither CSV with a link_id column"),
            (b"%PDF-1.7\n%\xe2\xe3\n", "is a PDF"),
            (b"link_id,caf\xe9\na,b\n", "first line holds bytes that are not"),
            (b"x" * 2**21, "first line is longer than"),
            (b"link_id,api_key\na,k3y\n", "has a column api_key: remove it"),
            (b"link_id,server_hash\na,b\n", "column server_hash"),
            (b"link_id,extra.\na,b\n", "unknown columns: 'extra.'"),
            (b"link_id,pan\na,b\n", "unknown columns: 'pan'"),
            (
                b"link_id,Bank Name\na,b\n",
                "'Bank Name' (did you mean bank_name?)",
            ),
            (b"link_id,,bank\na,b,c\n", "has no name for column 2"),
            (b"link_id,bank,bank\na,b,c\n", "has the column bank twice"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_refused(self, data, problem):
        """
        One error begins with the name and gives the reason.
        """
        with pytest.raises(InputFileError) as caught:
            read(data)

        assert str(caught.value).startswith("links.csv: ")
        assert problem in str(caught.value)
        assert "k3y" not in str(caught.value)
        assert "customer-1" not in str(caught.value)

    def test_before_the_first_row(self):
        """
        The header is checked before the first row is read.
        """
        with pytest.raises(InputFileError):
            InputRows(io.BytesIO(b"link_id,pan\n"), name="x")

    @pytest.mark.parametrize("good", [b"", b"link_id\na\nb\n"])
    def test_unreadable(self, good):
        """
        An error of the disk becomes an error with the name of the input.
        """

        class Broken(io.BytesIO):
            def readline(self, size=-1):
                line = super().readline(size)
                if line:
                    return line
                raise OSError(5, "Input/output error")

        with pytest.raises(InputFileError, match=r"^x: cannot be read.*Input"):
            list(InputRows(Broken(good), name="x"))


class TestDates:
    """
    Columns in which one date shows that none can be trusted.
    """

    FILE = b"link_id,from_date\na,01/02/2026\nb,02/03/2026\nc,%s\nd,\n"

    @pytest.mark.parametrize(
        "date",
        [
            b"01/31/2026",
            b"1/31/2026",
            b"01-31-2026",
            b"01.31.2026",
            b"1/31/2026 0:00",
            b"1/31/26",
            b"2026/31/01",
            b' "01/31/2026"'[1:],
        ],
    )
    def test_month_first(self, date):
        """
        A column with a second number above 12 is refused as a whole.
        """
        data = self.FILE % date

        with pytest.raises(UntrustedRowsError) as caught:
            refuse_month_first(data)

        message = str(caught.value)
        assert message.startswith("links.csv: line 4: from_date is ")
        assert "write it as DD/MM/YYYY or YYYY-MM-DD" in message
        assert message.endswith("Nothing was sent")

    @pytest.mark.parametrize(
        "date", [b"31/01/2026", b"31/02/2026", b"soon", b"2026-12-31"]
    )
    def test_not_month_first(self, date):
        """
        A date with another problem is an error of its row.
        """
        data = self.FILE % date

        refuse_month_first(data)
        assert [row.line for row in read(data)] == [2, 3, 4, 5]

    def test_elsewhere(self):
        """
        Other columns and broken rows may hold such a text.
        """
        data = (
            b"link_id,from_date,extra.note\n"
            b"01/31/2026,01/02/2026,01/31/2026\n"
            b"01/31/2026,01/31/2026\n"
        )
        refuse_month_first(data)

        assert ids(read(data)) == {2: "01/31/2026", 3: None}

    def test_stream(self):
        """
        In a stream the first such row ends the input.
        """
        got = []
        with pytest.raises(
            UntrustedRowsError, match=r"line 4: from_date.*Nothing more is"
        ):
            got.extend(
                InputRows(io.BytesIO(self.FILE % b"01/31/2026"), name="x")
            )

        assert ids(got) == {2: "a", 3: "b"}

    @pytest.mark.parametrize(
        "line",
        [
            b'{"link_id": "b", "to_date": "01/31/2026"}',
            rb'{"link_id": "b", "to_date": "01\/31\/2026"}',
            b'{"link_id": "b", "consents": {"C": {"to_date": "1/31/2026"}}}',
        ],
    )
    def test_json(self, line):
        """
        In JSON lines the dates of one name are a column.
        """
        data = b'{"link_id": "a"}\n' + line

        with pytest.raises(UntrustedRowsError, match=r"line 2: .*to_date is"):
            refuse_month_first(data)

    def test_at_the_edge_of_a_block(self, monkeypatch):
        """
        A date across two blocks of the file is found.
        """
        data = self.FILE % b"01/31/2026"
        for size in range(1, len(data)):
            monkeypatch.setattr(_rows, "_BLOCK", size)
            with pytest.raises(UntrustedRowsError):
                refuse_month_first(data)

    def test_unreadable(self):
        """
        An error of the disk is left to the reading of the rows.
        """

        class Broken(io.BytesIO):
            def read(self, size=-1):
                raise OSError(5, "Input/output error")

        stream = Broken(self.FILE)
        rows = InputRows(io.BytesIO(self.FILE), name="x")
        rows.refuse_month_first(lambda: stream)
        assert stream.closed


# Exports of spreadsheets and data frames.
EXPORTS = {
    "Excel, English, CSV UTF-8": (
        b"\xef\xbb\xbflink_id,session_expiry\r\n00123,30\r\n"
        b"1.23457E+11,30\r\n#N/A,30\r\n2-Jan,30\r\n",
        {2: "00123", 3: None, 4: None, 5: None},
    ),
    "Excel, German": (
        b"link_id;accept_anything\r\nK-1;WAHR\r\n1,23457E+11;FALSCH\r\n"
        b"#NV;WAHR\r\nM\xfcller;WAHR\r\n02. Jan;WAHR\r\n",
        {2: "K-1", 3: None, 4: None, 5: None, 6: None},
    ),
    "Excel, India": (
        b'link_id,from_date\r\n"1,23,456",01-02-2026\r\nA1,28-02-2026\r\n'
        b"########,01-02-2026\r\n",
        {2: None, 3: "A1", 4: None},
    ),
    "Excel, cells forced to text": (
        b'link_id\r\n"=""00123"""\r\n="00124"\r\n\'00125\r\n"""00126"""\r\n',
        {2: None, 3: None, 4: None, 5: None},
    ),
    "LibreOffice": (
        b'"link_id","from_date"\n"00123","2026-02-01"\n"Err:502",\n'
        b'"\xe2\x80\x9c7\xe2\x80\x9d",\n',
        {2: "00123", 3: None, 4: None},
    ),
    "Google Sheets": (
        b"link_id,to_date\r\n1.23457E+11,\r\n#REF!,\r\nA1,30/06/2026\r\n"
        b"1.23457E11,",
        {2: None, 3: None, 4: "A1", 5: None},
    ),
    "pandas": (
        b"link_id,session_expiry,from_date\n123.0,30.0,2026-01-01 00:00:00\n"
        b"A1,30.0,2026-01-01 00:00:00\nnan,,\n<NA>,,\nNone,,NaT\n",
        {2: None, 3: "A1", 4: None, 5: None, 6: None},
    ),
    "CR CR LF": (
        b"link_id\r\r\nA1\r\r\nA2\r\r\n",
        {2: "A1", 3: "A2"},
    ),
    "two exports, one behind the other": (
        b"\xef\xbb\xbflink_id\nA1\n\xef\xbb\xbflink_id\nA2\n",
        {2: "A1", 3: None, 4: "A2"},
    ),
    "copied from a page": (
        "link_id\nA1\u00a0\n\u200bA2\nA\u00ad3\nA4\n".encode(),
        {2: None, 3: None, 4: None, 5: "A4"},
    ),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports(name):
    """
    An export of a program gives its sound rows, and a reason for each other
    row.
    """
    data, expected = EXPORTS[name]
    rows = read(data)

    assert ids(rows) == expected
    for row in rows:
        if isinstance(row, BadRow):
            assert ": " in str(row.error).partition(": ")[2]


@hypothesis.given(
    st.lists(
        st.one_of(
            st.binary(max_size=4),
            st.sampled_from(
                [
                    b"\n",
                    b"\r\n",
                    b",",
                    b'"',
                    b'=""',
                    b" ",
                    b"'",
                    b"a1",
                    b"1.5E+9",
                    b"nan",
                    b"\xc2\xa0",
                    b"\xef\xbb\xbf",
                    b"\x1a",
                    b"link_id",
                ]
            ),
        )
    ).map(b"".join)
)
def test_nothing_changes_silently(data):
    """
    Each line of any bytes gives exactly its text, or an error with its number.
    """
    lines = dict(enumerate((b"link_id\n" + data).split(b"\n"), 1))
    try:
        rows = read(b"link_id\n" + data)
    except InputFileError as error:
        assert "no rows" in str(error)
        rows = []

    assert len({row.line for row in rows}) == len(rows)
    for row in rows:
        if isinstance(row, InputRow):
            cell = lines[row.line].decode().rstrip("\r")
            written = row.request.link_id.replace('"', '""')
            assert cell in {row.request.link_id, f'"{written}"'}
    for number in lines.keys() - {1} - {row.line for row in rows}:
        assert lines[number].strip(b'\r",') == b""


@hypothesis.given(
    st.lists(
        st.sampled_from(
            [
                b"a",
                b"b",
                b'"',
                b",",
                b"\n",
                b"\r\n",
                b"\xff",
                b"\0",
                b"{",
                b"}",
            ]
        )
    ).map(b"".join)
)
@hypothesis.example(b'"')
def test_any_bytes(data):
    """
    Any bytes below a header give rows in order, each good or bad.
    """
    try:
        rows = read(b"link_id,bank\n" + data)
    except InputFileError as error:
        assert "no rows" in str(error)
        return

    assert all(isinstance(row, InputRow | BadRow) for row in rows)
    assert all(one.line < two.line for one, two in pairwise(rows))


@pytest.mark.long
def test_constant_memory():
    """
    The memory does not grow with the file.
    """

    def lines(count):
        yield b"link_id,bank_name\n"
        for number in range(count):
            yield b"customer-%d,axis\n" % number

    class Endless(io.RawIOBase):
        def __init__(self, count):
            self.lines = lines(count)

        def readable(self):
            return True

        def readinto(self, buffer):
            line = next(self.lines, b"")
            buffer[: len(line)] = line
            return len(line)

    def peak(count):
        stream = io.BufferedReader(Endless(count))
        tracemalloc.start()
        try:
            assert sum(1 for _ in InputRows(stream, name="x")) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) - peak(2_000) < 50_000
