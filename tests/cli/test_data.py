"""
``bankconnect fetch``, ``wait`` and ``upload`` against prepared responses.
"""

import csv
import http.server
import io
import json
import threading

from typing import ClassVar

import pytest


S = "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"
E = "f5057fee-4c3e-4459-82dd-21250b729601"


@pytest.fixture(name="responses")
def _responses(monkeypatch):
    """Return the responses by path, and the requests under "requests"."""
    responses, requests = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            length = int(self.headers.get("Content-Length", 0))
            path = self.path.removeprefix("/bank-connect/v1/")
            requests.append((path, self.rfile.read(length)))
            queued = responses.get(path.partition("?")[0], [(404, b"{}")])
            status, body = queued.pop(0) if queued[1:] else queued[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name in the base class

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        base_url = f"http://127.0.0.1:{server.server_port}/bank-connect"
        monkeypatch.setenv("BANKCONNECT_BASE_URL", base_url)
        monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
        responses["requests"] = requests
        yield responses
        server.shutdown()
        thread.join()


def transactions(*rows):
    """Return a response with transactions, with numbers as given."""
    texts = ",".join(rows)
    return [(200, f'{{"entity_id":"e","transactions":[{texts}]}}'.encode())]


ROW = (
    '{"date":"2026-01-08 00:00:00","amount":1234.10,"balance":-5,'
    '"transaction_note":"=HYPERLINK(1)","account_id":"a","hash":"h",'
    '"transaction_type":"debit"}'
)


class TestFetch:
    """
    ``bankconnect fetch``.
    """

    def test_writes_json_as_it_was_sent(self, responses, bankconnect):
        """
        No digit of an amount is lost.
        """
        responses[f"entity/{E}/transactions/"] = transactions(ROW)

        result = bankconnect("fetch", E)

        assert result.code == 0
        assert '"amount": 1234.10' in result.out
        assert json.loads(result.out) == [json.loads(ROW)]

    def test_writes_a_table(self, responses, bankconnect, tmp_path):
        """
        A table has a header, exact amounts and no formulas.
        """
        responses[f"entity/{E}/transactions/"] = transactions(ROW, ROW)
        path = tmp_path / "out.csv"

        result = bankconnect("fetch", E, "--format", "csv", "--output", path)

        assert (result.code, result.out) == (0, "")
        assert path.stat().st_mode & 0o777 == 0o600
        first, second = csv.DictReader(io.StringIO(path.read_text()))
        assert first == second
        assert first["amount"] == "1234.10"
        assert first["balance"] == "-5"
        assert first["date"] == "2026-01-08 00:00:00"
        assert first["transaction_note"] == "'=HYPERLINK(1)"
        assert first["category"] == ""
        assert "raw" not in first

    def test_overwrites_nothing(self, responses, bankconnect, tmp_path):
        """
        An existing file stays unchanged.
        """
        responses[f"entity/{E}/transactions/"] = transactions()
        (tmp_path / "out").write_text("old")

        result = bankconnect("fetch", E, "--output", tmp_path / "out")

        assert result.code == 2
        assert "exists already" in result.err
        assert (tmp_path / "out").read_text() == "old"
        nowhere = bankconnect("fetch", E, "--output", tmp_path / "a" / "b")
        assert "No such file" in nowhere.err

    def test_filters(self, responses, bankconnect):
        """
        The request holds the account and the days.
        """
        responses[f"entity/{E}/transactions/"] = transactions(
            ROW, ROW.replace("01-08", "02-08")
        )

        result = bankconnect(
            *("fetch", E, "--account-id", "a"),
            *("--from-date", "2026-02-01", "--to-date", "2026-02-28"),
        )

        (row,) = json.loads(result.out)
        assert row["date"].startswith("2026-02-08")
        assert responses["requests"][0][0].endswith("?account_id=a")

    COUNTS: ClassVar = {
        "accounts": 1,
        "transactions": 1,
        "identity": 1,
        "fraud": 2,
        "pdfs": 1,
    }

    @pytest.mark.parametrize("format_", ["json", "csv"])
    @pytest.mark.parametrize("what", COUNTS)
    def test_fetches_from_a_session(
        self, responses, bankconnect, sample, what, format_
    ):
        """
        Most data of a session are in its insights.
        """
        for path, name in (
            ("insights", "session_data.insights.response"),
            (
                "session_status",
                "session_data.session_status.response.completed",
            ),
            ("get_pdfs", "get_pdfs.response.session"),
        ):
            body = sample(f"{name}.json")
            responses[f"session_data/{S}/{path}/"] = [(200, body)]

        result = bankconnect(
            *("fetch", S, "--flow", "session"),
            *("--what", what, "--format", format_),
        )

        assert result.code == 0
        rows = (
            json.loads(result.out)
            if format_ == "json"
            else list(csv.DictReader(io.StringIO(result.out)))
        )
        assert len(rows) == self.COUNTS[what]
        if what == "transactions":
            assert rows[0]["account_id"]
            assert rows[0]["amount"] in {24000.0, "24000.0"}

    def test_filters_insights(self, responses, bankconnect, sample):
        """
        The filters apply to the insights of a session, too.
        """
        responses[f"session_data/{S}/insights/"] = [
            (200, sample("session_data.insights.response.json"))
        ]
        for filters, count in (
            (("--account-id", "b7b3ff7b-623d-48df-8cd5-8cc6f137bdc5"), 1),
            (("--account-id", "another"), 0),
            (("--from-date", "2026-01-31"), 1),
            (("--from-date", "31/01/2026"), 1),
            (("--to-date", "2026-01-30"), 0),
        ):
            result = bankconnect("fetch", S, "--flow", "session", *filters)

            assert len(json.loads(result.out)) == count

    @pytest.mark.parametrize("what", ["predictors", "monthly-analysis"])
    def test_large_analyses_are_no_tables(
        self, responses, bankconnect, sample, what
    ):
        """
        Analyses are printed as JSON, and refused as a table.
        """
        for path, name in (
            ("predictors", "predictors"),
            ("monthly_analysis_updated", "monthly_analysis_updated"),
        ):
            body = sample(f"{name}.response.json")
            responses[f"entity/{E}/{path}/"] = [(200, body)]

        good = bankconnect("fetch", E, "--what", what)
        bad = bankconnect("fetch", E, "--what", what, "--format", "csv")

        assert json.loads(good.out)["entity_id"] == E
        assert bad.code == 2
        assert "is no table" in bad.err

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (("--what", "insights"), "the entity flow has no insights"),
            (
                ("--what", "score", "--flow", "session"),
                "the session flow has no score",
            ),
            (
                ("--what", "accounts", "--from-date", "31/01/2026"),
                "accounts cannot be filtered by from_date",
            ),
            (("--from-date", "01/31/2026"), "is not a date: use DD/MM/YYYY"),
            (
                ("--flow", "session", "--what", "pdfs", "--account-id", "a"),
                "pdfs cannot be filtered",
            ),
            (
                (
                    *("--flow", "session", "--what", "insights"),
                    *("--to-date", "2026-01-01"),
                ),
                "insights cannot be filtered",
            ),
        ],
    )
    def test_unknown_data(self, responses, bankconnect, args, message):
        """
        Unknown data and filters are refused before any request.
        """
        result = bankconnect("fetch", E, *args)

        assert result.code == 2
        assert message in result.err
        assert responses["requests"] == []

    def test_opens_no_store(
        self, responses, bankconnect, monkeypatch, tmp_path
    ):
        """
        The store of the environment is for commands that create sessions.
        """
        path = tmp_path / "sessions.db"
        monkeypatch.setenv("BANKCONNECT_STORE", str(path))
        responses[f"entity/{E}/transactions/"] = transactions('{"amount":1}')
        result = bankconnect("fetch", E)

        assert result.code == 0, result.err
        assert not path.exists()

    def test_unknown_id(self, responses, bankconnect):
        """
        An unknown id is reported in one line, without advice on sessions.
        """
        result = bankconnect("fetch", E)

        assert (result.code, result.out) == (1, "")
        assert result.err.count("\n") == 1
        assert "404" in result.err
        assert f"entity {E}: " in result.err
        result = bankconnect("wait", S, "--flow", "session")
        assert f"session {S}: " in result.err
        responses[f"entity/{E}/transactions/"] = [(200, b"<html>")]
        assert "session may exist" not in bankconnect("fetch", E).err

    def test_writes_huge_numbers_shortly(self, responses, bankconnect):
        """
        A number with a large exponent keeps its exponent.
        """
        row = '{"amount":1e99999,"balance":1e3}'
        responses[f"entity/{E}/transactions/"] = transactions(row)

        result = bankconnect("fetch", E, "--format", "csv")

        assert "1E+99999" in result.out
        assert ",1000," in result.out


class TestWait:
    """
    ``bankconnect wait``.
    """

    def test_waits(self, responses, bankconnect, sample):
        """
        Progress goes to stderr and the end to stdout.
        """
        responses[f"session_data/{S}/progress/"] = [
            (200, sample("session_data.progress.response.completed.json"))
        ]
        responses[f"session_data/{S}/session_status/"] = [
            (
                200,
                sample("session_data.session_status.response.completed.json"),
            )
        ]

        result = bankconnect("wait", S, "--flow", "session")

        assert (result.code, result.out) == (0, "completed\n")
        assert result.err == "statements: 2 completed\n"

    def test_names_the_failed_statement(self, responses, bankconnect):
        """
        The command fails, and names the failed statement and the reason.
        """
        progress = [
            {
                "statement_id": "st",
                "status": "failed",
                "message": "no luck",
                "transaction_status": None,
            }
        ]
        body = json.dumps({"entity_id": E, "progress": progress}).encode()
        responses[f"entity/{E}/identity/"] = [(200, body)]

        result = bankconnect("wait", E)

        assert (result.code, result.out) == (1, "")
        assert "statements: 1 failed" in result.err
        assert "statement st failed: no luck" in result.err

    def test_times_out(self, responses, bankconnect):
        """
        The command fails when its time is up.
        """
        body = json.dumps({"entity_id": E, "progress": None}).encode()
        responses[f"entity/{E}/transactions/"] = [(200, body)]
        responses[f"entity/{E}/identity/"] = [(200, body)]

        result = bankconnect("wait", E, "--timeout", "0.05")

        assert result.code == 1
        assert "not over in time" in result.err


class TestUpload:
    """
    ``bankconnect upload``.
    """

    @pytest.fixture(name="pdf")
    def _pdf(self, tmp_path):
        """Return a file to upload."""
        path = tmp_path / "x.pdf"
        path.write_bytes(b"%PDF-1.4")
        return path

    @pytest.fixture(name="uploads")
    def _uploads(self, responses, sample):
        """Accept uploads of both flows, and return the requests."""
        for path, flow in (
            ("upload", "entity"),
            ("upload_session", "session"),
        ):
            body = sample(f"upload.{flow}.response.json")
            responses[f"statement/{path}/"] = [(200, body)]
        return responses["requests"]

    @pytest.mark.parametrize(
        "option", ["--link-id", "--entity-id", "--session-id"]
    )
    def test_uploads(self, uploads, bankconnect, pdf, monkeypatch, option):
        """
        The response is printed; the password comes from the environment.
        """
        monkeypatch.setenv("BANKCONNECT_PDF_PASSWORD", "pdf-secret")

        result = bankconnect(
            "upload", pdf, option, "some-id", "--bank-name", "axis"
        )

        assert result.code == 0
        assert json.loads(result.out)["statement_id"]
        ((_, body),) = uploads
        assert b"pdf-secret" in body
        assert b"some-id" in body
        assert b"%PDF-1.4" in body

    @pytest.mark.parametrize(
        "args", [(), ("--link-id", "a", "--session-id", "b")]
    )
    def test_needs_one_owner(self, responses, bankconnect, pdf, args):
        """
        An upload needs exactly one owner.
        """
        result = bankconnect("upload", pdf, *args)

        assert result.code == 2
        assert "give exactly one of" in result.err

    def test_refused_statement(self, responses, bankconnect, sample, pdf):
        """
        A refused statement is reported in one line.
        """
        body = sample("error.upload.session.password_incorrect.json")
        responses["statement/upload_session/"] = [(400, body)]

        result = bankconnect("upload", pdf, "--session-id", S)

        assert result.code == 1
        assert "PASSWORD_INCORRECT" in result.err
