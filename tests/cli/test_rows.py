"""
CSV and JSON lines of all kinds, and files that are neither.
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

from bankconnect_async.cli._rows import (
    BadRow,
    InputFileError,
    Row,
    read_rows,
)
from bankconnect_async.schema import UNSET, Consent, Metadata


JUNE = datetime.date(2026, 6, 30)


def read(data):
    """
    Read all rows of some bytes or of a text.
    """
    data = data.encode() if isinstance(data, str) else data
    return list(read_rows(io.BytesIO(data), name="links.csv"))


def read_one(data):
    """
    Read the only row.
    """
    (row,) = read(data)
    return row


def ids(rows):
    """
    Return the link id of each row, under its line number.
    """
    return {
        row.line: row.request.link_id if isinstance(row, Row) else None
        for row in rows
    }


def fields(data):
    """
    Read the only row, a bad one, and tell what is wrong with what.
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
    def test_habits(self, data):
        """
        What spreadsheets write is read, and leading zeros survive.
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
            '\nlink_id,extra.note\na,"one\ntwo\n"\n\nb,"x;\r\n""y"""\n,\nc\n'
        )

        assert ids(rows) == {3: "a", 7: "b", 10: "c"}
        assert rows[0].request.extra == {"note": "one\ntwo\n"}
        assert rows[1].request.extra == {"note": 'x;\r\n"y"'}

    def test_empty_cells(self):
        """
        An empty cell is a parameter not given, in a short row too.
        """
        full, short = read(
            "link_id,redirect_url,bank_name,session_expiry\na,,,\nb\n"
        )

        for row in (full, short):
            assert row.request.redirect_url is UNSET
            assert row.request.bank_name is None
            assert row.request.session_expiry is None

    def test_bad_rows_among_good(self):
        """
        Each bad row is one item with its line and reason, and no other is
        touched.
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
            # Whoever has all link ids of a batch knows that it is a second.
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
            6: ("d", "row: has 5 cells, the header has 3"),
            7: ("e", "row: holds bytes that are not UTF-8"),
            9: ("f\0", "row: holds a NUL byte"),
        }

    @pytest.mark.parametrize(
        "bad", ['"b', 'b"b,"c', '"b"b', '"' + "b" * 140_000]
    )
    def test_unbalanced_quote(self, bad):
        """
        A quote without its partner costs its own row and none below it.
        """
        rows = read(f'link_id,bank_name\na,"axis"\n{bad}\nc,"x\ny"\nd,sbi\n')

        assert ids(rows) | {3: None} == {2: "a", 3: None, 4: "c", 6: "d"}
        assert len(rows) == 4

    def test_quote_open_to_the_end(self):
        """
        The rows below a quote that is never closed are read all the same.
        """
        below = "".join(f"customer-{number}\n" for number in range(9_999))
        rows = read('link_id\n"oops\n' + below)

        assert isinstance(rows[0], BadRow)
        assert "check its quotes" in str(rows[0].error)
        assert len(rows) == 10_000
        assert all(isinstance(row, Row) for row in rows[1:])
        assert [row.line for row in rows] == list(range(2, 10_002))

    def test_long_line(self):
        """
        A line of 10 MB is a bad row, is never held, and costs no other row.
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
        A column extra.NAME is passed on as NAME, as a text.
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
        What a CSV writer wrote is read back as it was.
        """
        file = io.StringIO()
        writer = csv.writer(
            file, delimiter=delimiter, lineterminator=end, quoting=quoting
        )
        writer.writerow(["link_id", "bank_name"])
        writer.writerows([link_id, "axis"] for link_id in link_ids)

        rows = read(file.getvalue())

        assert [row.request.link_id for row in rows] == link_ids


class TestJsonLines:
    """
    JSON objects, one on each line.
    """

    def test_values(self):
        """
        Values of every type arrive typed, dates in both writings.
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
        A redirect URL that is not there is the client's to give.
        """
        assert read_one('{"link_id": "a"}').request.redirect_url is UNSET

    def test_line_numbers(self):
        """
        Blank lines are counted and are no rows; a BOM does no harm.
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
        A bad line is one bad row that says why, and no other is touched.
        """
        good, bad, after = read(
            f'{{"link_id": "a"}}\n{line}\n{{"link_id": "c"}}'
        )

        assert ids([good, after]) == {1: "a", 3: "c"}
        assert isinstance(bad, BadRow)
        assert bad.line == 2
        assert reason in str(bad.error)
        assert "k3y" not in str(bad.error)

    def test_undecodable(self):
        """
        Bytes that are no UTF-8 make a bad row.
        """
        good, bad = read(b'{"link_id": "a"}\n{"link_id": "\xff"}\n')

        assert isinstance(good, Row)
        assert "not UTF-8" in str(bad.error)

    def test_all_problems_at_once(self):
        """
        Everything that is wrong with a row is said in one go.
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
            (b"PK\x03\x04\x14\0\0\0\n", "is binary"),
            (b'[{"link_id": "a"}]', "is a JSON array"),
            (b"[\n", "is a JSON array"),
            (b'{\n  "link_id": "a"\n}\n', "goes over several lines"),
            (b"link_id\ra\rb\r", "end in CR alone"),
            (b"customer-1,axis\n", "is neither CSV with a link_id column"),
            (b'"link_id\na\n', "is neither CSV with a link_id column"),
            (b"%PDF-1.7\n%\xe2\xe3\n", "is neither CSV"),
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
        It is one error that begins with the name and says what is wrong.
        """
        with pytest.raises(InputFileError) as caught:
            read(data)

        assert str(caught.value).startswith("links.csv: ")
        assert problem in str(caught.value)
        assert "k3y" not in str(caught.value)
        assert "customer-1" not in str(caught.value)

    def test_before_the_first_row(self):
        """
        The head is judged when the file is opened, not when rows are taken.
        """
        with pytest.raises(InputFileError):
            read_rows(io.BytesIO(b"link_id,pan\n"), name="x")

    @pytest.mark.parametrize("good", [b"", b"link_id\na\nb\n"])
    def test_unreadable(self, good):
        """
        A disk that fails, at once or later, is an error with a name.
        """

        class Broken(io.BytesIO):
            def readline(self, size=-1):
                line = super().readline(size)
                if line:
                    return line
                raise OSError(5, "Input/output error")

        with pytest.raises(InputFileError, match=r"^x: cannot be read.*Input"):
            list(read_rows(Broken(good), name="x"))


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

    assert all(isinstance(row, Row | BadRow) for row in rows)
    assert all(one.line < two.line for one, two in pairwise(rows))


def test_constant_memory():
    """
    A file of any length takes the same memory.
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
            assert sum(1 for _ in read_rows(stream, name="x")) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) - peak(2_000) < 50_000
