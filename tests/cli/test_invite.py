"""
``bankconnect invite``.
"""

import csv
import json
import stat

import pytest

from yarl import URL

from bankconnect_async.web import CallbackProtocol, WebRequest


BASE = "https://lender.example/bank"
SECRET = "correct horse battery staple long enough"


@pytest.fixture(name="out")
def _out(tmp_path, monkeypatch):
    """Set the environment of a service, and return the path of an output."""
    monkeypatch.setenv("BANKCONNECT_CALLBACK_URL", BASE)
    monkeypatch.setenv("BANKCONNECT_SIGNING_KEY", SECRET)
    return tmp_path / "merge.csv"


@pytest.fixture(name="invite")
def _invite(bankconnect, tmp_path, out):
    """Run the command on a file with some content."""

    def invite(content, *args):
        source = tmp_path / "links.csv"
        source.write_text(content)
        return bankconnect(
            *("invite", source, "--output", out, "--invitation-id", "spring"),
            *args,
        )

    return invite


def opened(url):
    """Return the invitation of a link."""
    path = URL(url, encoded=True).raw_path
    return CallbackProtocol(BASE, secret=SECRET).parse_invitation(
        WebRequest(path=path)
    )


def test_csv(invite, out):
    """
    The rows keep their columns, and get a link that has only its own.
    """
    result = invite(
        "extra.email;link_id;from_date;to_date\n"
        'a@b.example;kündin-1;01/01/2026;"30/06/2026"\n'
        "c@d.example;customer-2;;\n"
    )

    assert (result.code, result.out) == (0, "")
    assert "2 invitations" in result.err
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with out.open(newline="") as file:
        first, second = csv.DictReader(file, delimiter=";")
    assert first["extra.email"] == "a@b.example"
    assert first["from_date"] == "01/01/2026"
    invitation = opened(first["invitation_url"])
    assert invitation.link_id == "kündin-1"
    assert invitation.invitation_id == "spring"
    assert invitation.parameters.keys() == {"from_date", "to_date"}
    assert opened(second["invitation_url"]).parameters == {}


def test_carriage_returns(invite, out):
    """
    A cell that contains a carriage return stays one cell.
    """
    result = invite('link_id,extra.note\nc-1,"a\rb"\n')

    assert result.code == 0
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["extra.note"] == "a\rb"


def test_json_lines(invite, out):
    """
    JSON lines stay JSON lines.
    """
    row = {"link_id": "a", "extra": {"name": "Ada"}, "bank_name": "axis"}
    result = invite(json.dumps(row))

    (merged,) = map(json.loads, out.read_text().splitlines())
    assert result.code == 0
    assert opened(merged.pop("invitation_url")).parameters == {
        "bank_name": "axis"
    }
    assert merged == {"link_id": "a", "bank_name": "axis", "extra.name": "Ada"}


def test_unknown_bank(invite, out):
    """
    A bank that the vendor does not document is a warning.
    """
    result = invite("link_id,bank_name\na,hdcf bank\n")

    assert result.code == 0
    assert "warning: line 2: bank_name: 'hdcf bank'" in result.err
    assert out.exists()


def test_bad_rows(invite, out):
    """
    With a bad row nothing is written, and the first ones are named.
    """
    rows = "".join(f"a{number},fax\n" for number in range(30))
    result = invite(f"link_id,mode\nfine,pdf\n{rows}")

    assert (result.code, result.out) == (1, "")
    assert "line 3: mode: must be one of pdf, aa, online" in result.err
    assert "and 10 more" in result.err
    assert "30 rows are wrong: nothing was written" in result.err
    assert [path.name for path in out.parent.iterdir()] == ["links.csv"]


@pytest.mark.parametrize(
    ("args", "code"), [((), 2), (("--allow-http",), 0)], ids=str
)
def test_plain_http(invite, args, code):
    """
    Links without TLS are refused, unless the user allows them.
    """
    result = invite(
        "link_id\na\n", "--callback-url", "http://lender.example/bank", *args
    )

    assert result.code == code
    assert ("uses plain http" in result.err) is bool(code)
    assert "allow_http=" not in result.err


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("link_id,mobile_number\na,98", "extra.NAME to have it in the output"),
        ("link_id,email\na,b", "has unknown columns: 'email'"),
        ('{"link_id": "a", "session_expiry": 60}', "session_expiry: cannot"),
        (f"link_id\n{'a' * 200}", "redirect_url: has"),
    ],
)
def test_not_in_a_link(invite, out, content, problem):
    """
    A column that cannot be in a link is refused, with what to do.
    """
    result = invite(content)

    assert result.code in {1, 2}
    assert problem in result.err
    assert not out.exists()


def test_repeated_link_id(invite, out):
    """
    Two people never share a link: a repeated link id is an error.
    """
    result = invite("link_id,extra.name\na,Asha\nb,Ben\na,Ravi\n")

    assert result.code == 1
    assert "line 4: link_id: was given before, on line 2" in result.err
    assert not out.exists()


def test_long_link_ids_in_frames(invite):
    """
    Without a return URL a link id may be longer.
    """
    assert invite(f"link_id\n{'a' * 200}", "--inline-frame").code == 0


def test_output_that_is_a_link(invite, out):
    """
    Nothing is written over a link, wherever it leads.
    """
    out.symlink_to(out.with_name("nowhere"))

    result = invite("link_id\na\n")

    assert result.code == 2
    assert "merge.csv: exists already and is not overwritten" in result.err
    assert out.is_symlink()


def test_existing_output(invite, out):
    """
    A file that exists is kept.
    """
    out.write_text("mine")

    result = invite("link_id\na\n")

    assert result.code == 2
    assert "name another --output" in result.err
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("CALLBACK_URL", "", "is missing: set"),
        ("CALLBACK_URL", "lender.example", "is not an absolute URL"),
        ("SIGNING_KEY", "", "BANKCONNECT_SIGNING_KEY is not set"),
        ("SIGNING_KEY", "hunter2", "must be 32 bytes or more"),
    ],
)
def test_settings(invite, monkeypatch, name, value, problem):
    """
    A missing or bad variable is named, without its value.
    """
    monkeypatch.setenv(f"BANKCONNECT_{name}", value)

    result = invite("link_id\na\n")

    assert result.code == 2
    assert f"BANKCONNECT_{name}" in result.err
    assert problem in result.err
    assert "hunter2" not in result.err
