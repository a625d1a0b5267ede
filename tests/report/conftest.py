"""
Journals of batches that never ran.
"""

import datetime
import json

import pytest


NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


def at(seconds):
    """Return a time as a record has it."""
    return f"{NOON + datetime.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture(scope="session")
def noon():
    """The time of the first record."""
    return NOON


@pytest.fixture(scope="session")
def created():
    """Makes a record of a session."""

    def make(link_id, line=1, *, after=0, seconds=0.2, **parts):
        return {
            "link_id": link_id,
            "line": line,
            "redirect_url": f"https://journey.example/?session_id={link_id}",
            "session_id": f"session-{link_id}",
            "attempts": 1,
            "api": "api.example/v1",
            "request": "0123456789abcdef",
            "at": at(after),
            "seconds": seconds,
            **parts,
        }

    return make


@pytest.fixture(scope="session")
def failed():
    """Makes a record of a row without a session."""

    def make(  # noqa: PLR0913 - the parts of a record
        link_id,
        line=1,
        *,
        after=0,
        error="ServerError",
        delivery="ambiguous",
        fields=None,
        **parts,
    ):
        return {
            "link_id": link_id,
            "line": line,
            "attempts": 3,
            "error": {
                "type": error,
                "code": None,
                "message": "the server responded with 500",
                "fields": fields or {},
                "status": None,
                "delivery": delivery,
                "retry_after": None,
            },
            "api": "api.example/v1",
            "request": "0123456789abcdef",
            "at": at(after),
            **parts,
        }

    return make


@pytest.fixture(scope="session")
def repeated(failed):
    """Makes a record of a row whose link id an earlier row has."""

    def make(link_id, line, **parts):
        return failed(
            link_id,
            line,
            error="InvalidRequestError",
            delivery="not_sent",
            fields={"link_id": ["was given before, on line 1; remove one"]},
            **parts,
        )

    return make


@pytest.fixture
def write_journal(tmp_path):
    """Writes records to a journal, and returns its path."""

    def write(*records, name="out.jsonl", end="\n"):
        path = tmp_path / name
        lines = (json.dumps(each, separators=(",", ":")) for each in records)
        path.write_text("\n".join(lines) + end)
        return path

    return write
