"""
``bankconnect batch --check`` and the options that say how a batch runs.
"""

import json

import pytest

from bankconnect_async.sandbox import Fault


INLINE = "--inline-frame"
DATES = b"link_id,from_date,to_date\n"


@pytest.fixture(name="check")
def _check(bankconnect, tmp_path):
    """Check some bytes without any setting."""

    def run(data: bytes, *args: object):
        source = tmp_path / "links.csv"
        source.write_bytes(data)
        return bankconnect("batch", source, "--check", *args)

    return run


class TestCheck:
    """
    ``--check``.
    """

    def test_good_input(self, check):
        """
        A good input needs no key, no redirect URL and no output.
        """
        result = check(b"link_id\na\nb\n")

        assert (result.code, result.out) == (0, "")
        assert result.err == (
            "checked 2 rows, 0 of them invalid; nothing was sent\n"
        )

    def test_names_every_problem(self, check):
        """
        Bad values, damaged ids and duplicates are named with their lines.
        """
        result = check(
            DATES + b"a,31/02/2026,2026-03-01\n"
            b"b,2026-01-01,2026-02-01\nb,2026-01-01,2026-02-01\n"
            b"1.23457E+11,,\nc,\n"
        )

        assert result.code == 1
        *lines, last = result.err.splitlines()
        assert [line.partition(":")[0] for line in lines] == [
            *("line 2", "line 4", "line 5", "line 6")
        ]
        assert "was given before, on line 3" in lines[1]
        assert last.startswith("checked 5 rows, 4 of them invalid")

    def test_problems_for_programs(self, check):
        """
        The JSON names the lines, the link ids and the problems.
        """
        result = check(DATES + b"a,31/02/2026,\nb,,\nb,,\n", "--json")

        first, second = json.loads(result.out)["problems"]
        assert (first["line"], first["link_id"]) == (2, "a")
        assert [*first["fields"]] == ["from_date"]
        assert second["line"] == 4
        assert "was given before" in second["fields"]["link_id"][0]

    def test_unknown_banks(self, check):
        """
        A bank that the vendor does not document is a warning, once.
        """
        rows = b"link_id,bank_name\na,hdcf bank\nb,hdcf bank\nc,AXIS\n"
        result = check(rows)

        assert result.code == 0
        warning, _ = result.err.splitlines()
        assert warning.startswith("warning: line 2: bank_name: 'hdcf bank' ")
        assert "(did you mean HDFC?)" in warning

    def test_follows_the_rules_of_a_run(self, check, batch):
        """
        A run refuses the same rows for the same reasons.
        """
        data = DATES + b"a,x,\n,,\nb,,\nb,,\n=1,,\n" + b"c" * 300 + b",,\n"

        checked = check(data)
        ran = batch(data, "--sandbox")

        assert checked.err.splitlines()[:-1] == [
            f"line {line}: {record['error']['message']}"
            for line, record in sorted(ran.by_line().items())
            if "error" in record
        ]

    def test_signed_links_limit_link_ids(self, check, monkeypatch):
        """
        With a signing key, a link id must fit into the signed URL.
        """
        data = b"link_id\n" + b"c" * 150 + b"\n"
        assert check(data).code == 0
        monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", "https://a.example/r")
        monkeypatch.setenv("BANKCONNECT_SIGNING_KEY", "k" * 32)

        result = check(data)

        assert result.code == 1
        assert result.err.startswith("line 2: redirect_url: has 271 char")

    def test_sends_nothing(self, check, service, tmp_path):
        """
        Nothing arrives at the server, and the output is not made.
        """
        output = tmp_path / "out.jsonl"

        result = check(b"link_id\na\n", "--output", output, "--json")

        assert json.loads(result.out) == {
            "valid": 1,
            "invalid": 0,
            "failures": {},
            "problems": [],
        }
        assert service.created() == 0
        assert not output.exists()

    def test_a_run_needs_an_output(self, bankconnect, tmp_path):
        """
        Without --check, the output is required.
        """
        (tmp_path / "links.csv").write_bytes(b"link_id\na\n")

        result = bankconnect("batch", tmp_path / "links.csv", "--sandbox")

        assert result.code == 2
        assert "Missing option '--output'" in result.err


class TestParameters:
    """
    ``--param``.
    """

    def test_fills_rows_without_a_value(self, batch, service):
        """
        A row's own value wins, and an empty cell has none.
        """
        data = b"link_id,bank_name\na,hdfc\nb,\n"

        ran = batch(data, INLINE, "--param", "bank_name=axis")

        assert ran.result.code == 0
        sent = {
            each.link_id: each.parameters["bank_name"]
            for each in service.sessions.values()
        }
        assert sent == {"a": "hdfc", "b": "axis"}

    def test_counts_as_a_column(self, batch):
        """
        A redirect URL may be given to all rows.
        """
        param = "redirect_url=https://lender.example/return"

        assert batch(b"link_id\na\n", "--sandbox", "--param", param)

    @pytest.mark.parametrize(
        ("param", "message"),
        [
            ("bank_nam=axis", "bank_nam: is unknown; write bank_name, or"),
            ("from_date=2026-02-31", "from_date: "),
            ("api_key=x", "api_key: is a secret"),
            ("link_id=x", "link_id: comes from the rows"),
            ("axis", "--param takes NAME=VALUE"),
        ],
    )
    def test_is_checked_before_any_row(self, check, param, message):
        """
        A bad parameter is one error, and not one for each row.
        """
        result = check(b"link_id\na\nb\n", "--param", param)

        assert result.code == 2
        assert message in result.err
        assert "line" not in result.err


class TestRetries:
    """
    ``--attempts`` and ``--delivery``.
    """

    @pytest.mark.parametrize(
        ("options", "attempts"),
        [
            ((), 3),
            (("--attempts", "2"), 2),
            (("--delivery", "at-most-once"), 1),
        ],
    )
    def test_limit_attempts(self, batch, service, options, attempts):
        """
        They decide how often a request is sent that may have arrived.
        """
        service.faults.script(*[Fault.status(500)] * 5)

        (record,) = batch(b"link_id\na\n", INLINE, *options).records

        assert record["attempts"] == attempts


class TestKeepCreated:
    """
    ``--keep-created``.
    """

    def test_takes_changed_rows_as_done(self, batch, service):
        """
        Rows that have a session are skipped though they were changed.
        """
        batch(DATES + b"a,2026-01-01,2026-02-01\nb,,\n", INLINE)
        changed = DATES + b"a,2026-01-01,2026-03-01\nb,,\nc,,\n"

        refused = batch(changed, INLINE)
        ran = batch(changed, INLINE, "--keep-created")

        assert refused.result.code == 2
        assert "--keep-created to take such inputs" in refused.result.err
        assert ran.result.code == 0
        assert "skipped 2 created before" in ran.result.err
        assert "skipped 1 rows that were changed" in ran.result.err
        assert service.created() == 3
