"""
The stores under test, and what they are given.
"""

import datetime

import pytest

from bankconnect_async import SessionEntry, SessionKey


NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture(scope="session")
def now():
    """A time."""
    return NOW


@pytest.fixture(scope="session")
def make_key():
    """Makes the key of a customer."""

    def make(link_id="customer-42", **parts):
        return SessionKey(
            **{"api_id": "api/v1#1a2b3c4d", "link_id": link_id, **parts}
        )

    return make


@pytest.fixture(scope="session")
def make_entry(make_key):
    """Makes the entry of a session that was created at noon."""
    numbers = iter(range(1_000_000))

    def make(link_id="customer-42", *, key=None, **fields):
        number = next(numbers)
        return SessionEntry(
            **{
                "entry_id": f"entry-{number:06}",
                "key": key or make_key(link_id),
                "session_id": f"session-{number}",
                "redirect_url": f"https://journey.example/{number}?token=t",
                "created_at": NOW,
                "next_check_at": NOW + datetime.timedelta(minutes=15),
                **fields,
            }
        )

    return make


@pytest.fixture(scope="session")
def shared_dsn(postgres):
    """The address of a database that tests share."""
    return postgres.dsn(postgres.create_database())
