"""
``bankconnect forget``.
"""

import asyncio
import datetime
import gzip
import json

import pytest

from bankconnect_async import (
    SessionEntry,
    SessionKey,
    SQLiteSessionStore,
)


NOW = datetime.datetime.now(datetime.UTC)
OLD = NOW - datetime.timedelta(days=400)
KEY = "k" * 32


@pytest.fixture(name="path")
def _path(tmp_path, monkeypatch):
    """The path of a store of three customers, one of them long ago."""
    path = tmp_path / "sessions.db"

    async def fill():
        async with SQLiteSessionStore(path, encryption_keys=KEY) as store:
            await store.add(
                [
                    SessionEntry(
                        entry_id=str(number),
                        key=SessionKey(api_id="a", link_id=link_id),
                        session_id=f"session-{number}",
                        created_at=created_at,
                    )
                    for number, (link_id, created_at) in enumerate(
                        [
                            ("customer-4", NOW),
                            ("customer-42", NOW),
                            ("customer-42", OLD),
                            ("customer-5", OLD),
                        ]
                    )
                ]
            )

    asyncio.run(fill())
    monkeypatch.setenv("BANKCONNECT_STORE_KEYS", KEY)
    return path


def left_in(path):
    """Return the ids of the entries that are left."""

    async def read():
        async with SQLiteSessionStore(path, encryption_keys=KEY) as store:
            return {entry.entry_id async for entry in store.entries()}

    return asyncio.run(read())


def test_link_id(bankconnect, path):
    """
    One customer is erased, and the command says what it cannot know.
    """
    result = bankconnect("forget", "customer-42", "--store", path)

    assert result.code == 0
    assert result.out.splitlines() == [
        "2 sessions erased: session-1, session-2",
        "journals, inputs, statements and other files may still hold it: "
        "look with --journal FILE and --statements DIR",
    ]
    assert left_in(path) == {"0", "3"}


def test_environment(bankconnect, path, monkeypatch):
    """
    The store comes from the environment, also as a URL.
    """
    monkeypatch.setenv("BANKCONNECT_STORE", f"sqlite:///{path}")

    result = bankconnect("forget", "customer-4", "--json")

    assert json.loads(result.out) == {
        "erased": 1,
        "session_ids": ["session-0"],
        "entity_ids": [],
        "files": {},
        "statements": [],
    }
    assert left_in(path) == {"1", "2", "3"}


def test_before(bankconnect, path):
    """
    Retention erases what is old, of all customers or of one.
    """
    day = (NOW - datetime.timedelta(days=100)).strftime("%d/%m/%Y")

    first = bankconnect(
        "forget", "customer-42", "--before", day, "--store", path
    )
    second = bankconnect("forget", "--before", day, "--store", path)

    assert first.out.startswith("1 session erased: session-2\n")
    assert second.out.startswith("1 session erased: session-3\n")
    assert left_in(path) == {"0", "1"}


def test_files(bankconnect, path, tmp_path):
    """
    Files that still hold the customer are listed with their lines, and the
    exit code says so.
    """
    journal = tmp_path / "campaign.jsonl"
    journal.write_text(
        '{"link_id": "customer-4"}\n'
        "\n"
        '{"link_id": "customer-42"}\n'
        '{"x": {"y": ["mail of customer-42."]}}\n'
        '{"link_id": "\\u0063ustomer-42"}\n'
        '{"link_id": "a-customer-42"}\n'
    )
    packed = tmp_path / "input.csv.gz"
    packed.write_bytes(
        gzip.compress(b"link_id,bank\ncustomer-42,axis\ncustomer-421,x\n")
    )
    empty = tmp_path / "empty.csv"
    empty.touch()

    files = [
        word
        for each in (journal, packed, empty)
        for word in ("--journal", each)
    ]
    result = bankconnect(
        "forget", "customer-42", "--store", path, *files, "--json"
    )
    again = bankconnect("forget", "customer-42", "--store", path, *files)

    assert result.code == again.code == 1
    found = json.loads(result.out)
    assert (found["erased"], found["files"]) == (
        2,
        {str(journal): [3, 4, 5], str(packed): [2], str(empty): []},
    )
    assert again.out.splitlines() == [
        "0 sessions erased",
        f"{journal}: still holds customer-42: line 3, 4, 5",
        f"{packed}: still holds customer-42: line 2",
        f"{empty}: holds no customer-42",
    ]


def test_statements(bankconnect, path, tmp_path):
    """
    Files of a collection are listed, by the ids of the store or of the
    journal, also once the customer is erased.
    """
    statements = tmp_path / "statements"
    for name in (
        "transactions/session-0.csv",
        "transactions/session-1.csv",
        "pdfs/session-1.json",
        "pdfs/session-1/a.pdf",
        "accounts/session-10.csv",
        "accounts/session_5~6cb64f1297b11d06.csv",
    ):
        file = statements / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    journal = statements / "collected.jsonl"
    journal.write_text(
        '{"link_id": "customer-4", "id": "session-0"}\n'
        '{"link_id": "customer-42", "id": "session 5"}\n'
    )
    command = ("forget", "customer-42", "--store", path)
    command = (*command, "--statements", statements, "--json")

    first, second = (bankconnect(*command) for _ in range(2))

    assert first.code == second.code == 1
    found, later = json.loads(first.out), json.loads(second.out)
    assert found["session_ids"] == ["session-1", "session-2"]
    assert found["files"] == later["files"] == {str(journal): [2]}
    assert found["statements"] == [
        str(statements / name)
        for name in (
            "accounts/session_5~6cb64f1297b11d06.csv",
            "pdfs/session-1",
            "pdfs/session-1.json",
            "transactions/session-1.csv",
        )
    ]
    assert (later["erased"], later["statements"]) == (
        0,
        found["statements"][:1],
    )


def test_old_records(bankconnect, path, tmp_path):
    """
    With a day alone, records from before it are listed, and those that do not
    tell their time.
    """
    journal = tmp_path / "campaign.jsonl"
    journal.write_text(
        f'{{"link_id": "a", "at": "{OLD.isoformat()}"}}\n'
        f'{{"link_id": "b", "at": "{NOW.isoformat()}"}}\n'
        '{"link_id": "c"}\n'
        '{"link_id": "d", "at": 7}\n' + "no record\n"
    )
    day = (NOW - datetime.timedelta(days=100)).date()

    result = bankconnect(
        *("forget", "--before", day, "--store", path),
        *("--journal", journal, "--json"),
    )

    assert json.loads(result.out)["files"] == {str(journal): [1, 3, 4]}


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "none"), (".", "give that of collect to --statements")],
)
def test_unreadable_file(bankconnect, path, tmp_path, name, message):
    """
    A file that cannot be read is an error before anything is erased.
    """
    result = bankconnect(
        *("forget", "customer-42", "--store", path),
        *("--journal", tmp_path / name),
    )

    assert result.code == 2
    assert message in result.err
    assert "Nothing was erased" in result.err
    assert len(left_in(path)) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("customer-42\n".encode("utf-16"), "is UTF-16"),
        ("customer-42\n".encode("utf-16-le"), "is UTF-16"),
        (b"PK\x03\x04 [Content_Types].xml", "is a workbook (.xlsx)"),
        (b"SQLite format 3\0", "is a SQLite database"),
    ],
    ids=["UTF-16", "no mark", "workbook", "database"],
)
def test_unsearchable_file(bankconnect, path, tmp_path, content, message):
    """
    A file whose text cannot be searched is never said to hold nothing.
    """
    file = tmp_path / "customers"
    file.write_bytes(content)

    result = bankconnect(
        *("forget", "customer-42", "--store", path, "--journal", file)
    )

    assert result.code == 2
    assert f"{file}: {message}" in result.err
    assert "Nothing was erased" in result.err
    assert len(left_in(path)) == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_other_texts(bankconnect, path, tmp_path, encoding):
    """
    A log, a page of HTML and an old encoding of Windows are searched.
    """
    file = tmp_path / "page.html"
    file.write_text("<html>\n<b>Müller-1</b> ß\n", encoding=encoding)

    result = bankconnect(
        *("forget", "Müller-1", "--store", path, "--journal", file, "--json")
    )

    assert json.loads(result.out)["files"] == {str(file): [2]}
    assert result.code == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give LINK_ID, or --before, or both"),
        ([""], "LINK_ID is empty"),
        (["--before", "soon"], "is not a date"),
        (["--before", "2999-01-01"], "lies in the future"),
        (["customer-42"], "no store: set BANKCONNECT_STORE"),
        (["customer-42", "--store", "nowhere.db"], "there is no such store"),
    ],
    ids=["nothing", "empty", "no date", "future", "no store", "missing store"],
)
def test_usage(bankconnect, tmp_path, monkeypatch, args, message):
    """
    What cannot be done is an error that says what to do.
    """
    monkeypatch.chdir(tmp_path)

    result = bankconnect("forget", *args)

    assert result.code == 2
    assert message in result.err


def test_wrong_key(bankconnect, path, monkeypatch):
    """
    A wrong key is one line, and erases nothing.
    """
    monkeypatch.setenv("BANKCONNECT_STORE_KEYS", "w" * 32)

    result = bankconnect("forget", "customer-42", "--store", path)

    assert result.code == 1
    assert "encryption key that is not given" in result.err
    assert "Traceback" not in result.err
