"""
Consents to pull data again (Account Aggregator).
"""

import datetime
import uuid

from collections.abc import Mapping
from typing import Any, Final

import attrs

from bankconnect_async.sandbox.banks import EXAMPLE_BANK, bank_of
from bankconnect_async.sandbox.fake_data.ledgers import fake_account
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.journey.session_table import SessionTable
from bankconnect_async.sandbox.records import SandboxSession


_SPACE: Final = uuid.UUID("7c8e0f2a-6c5e-4d6a-9c43-53b1a1d7f0aa")
_PERIODS: Final[Mapping[str, datetime.timedelta]] = {
    "hour": datetime.timedelta(hours=1),
    "day": datetime.timedelta(days=1),
    "month": datetime.timedelta(days=30),
    "year": datetime.timedelta(days=365),
}
#: Journeys that end in a consent to come back (session-api, AA parameters).
_RECURRING: Final = {"only_recurring", "once_with_recurring"}
_RECURRING_CODES: Final = {"BCAA002", "BCAA003", "BCAA004"}
_TENURE: Final = 24


class ConsentError(Exception):
    """
    A consent cannot be used.

    Attributes:
        code: Why, in the vendor's codes.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@attrs.define(eq=False)
class Consents:
    """
    The consents that were shown, and when they were used.
    """

    _sessions: dict[str, SandboxSession] = attrs.field(
        init=False, factory=dict
    )
    _uses: dict[str, list[datetime.datetime]] = attrs.field(
        init=False, factory=dict
    )

    def of(self, session: SandboxSession) -> list[JsonObject]:
        """
        Show the consents of a session: one, if its journey was recurring.
        """
        asked = session.parameters
        if not (
            asked.get("aa_journey_mode") in _RECURRING
            or asked.get("aa_journey_code") in _RECURRING_CODES
        ):
            return []
        consent_id = str(uuid.uuid5(_SPACE, session.session_id))
        self._sessions[consent_id] = session
        bank = bank_of_consent(session)
        unit, value = _frequency(asked)
        return [
            {
                "consent_id": consent_id,
                "bank_name": bank,
                "masked_account_number": fake_account(
                    session.link_id, bank
                ).masked,
                "tenure_month_count": asked.get(
                    "aa_recurring_tenure_month_count",
                    asked.get("aa_recurring_tenure_month", _TENURE),
                ),
                "frequency_unit": unit,
                "frequency_value": value,
            }
        ]

    def use(
        self, consent_id: object, journeys: SessionTable
    ) -> SandboxSession:
        """
        Use a consent, and return the session that it was given in.

        Raises:
            ConsentError: If that is not allowed. A consent is revoked when
                its session is deleted, and overused if it is used more often
                than its frequency says.
        """
        session = self._sessions.get(str(consent_id))
        if session is None:
            raise ConsentError("INVALID_CONSENT_ID")
        if journeys.is_deleted(session.session_id):
            raise ConsentError("CONSENT_REVOKED")
        unit, value = _frequency(session.parameters)
        now = journeys.now()
        uses = [
            at
            for at in self._uses.get(str(consent_id), ())
            if now - at < _PERIODS[unit]
        ]
        if len(uses) >= value:
            raise ConsentError("CONSENT_OVERUSED")
        self._uses[str(consent_id)] = [*uses, now]
        return session


def bank_of_consent(session: SandboxSession) -> str:
    """
    Return the bank whose data a consent is about.
    """
    return (bank_of(session.parameters) or EXAMPLE_BANK).lower()


def _frequency(asked: Mapping[str, Any]) -> tuple[str, int]:
    return (
        asked.get("aa_recurring_frequency_unit", "day"),
        asked.get("aa_recurring_frequency_value", 3),
    )
