"""
Consents to fetch data again (Account Aggregator).
"""

import datetime
import uuid

from collections.abc import Mapping
from typing import Any, Final

import attrs

from bankconnect_async.sandbox.banks import EXAMPLE_BANK, bank_of
from bankconnect_async.sandbox.fake_data.ledgers import fake_account
from bankconnect_async.sandbox.http.errors import (
    JsonObject,
    coded_error,
)
from bankconnect_async.sandbox.journey.journey import Journey
from bankconnect_async.sandbox.journey.session_table import SessionTable
from bankconnect_async.sandbox.records import SandboxSession


_NAMESPACE: Final = uuid.UUID("7c8e0f2a-6c5e-4d6a-9c43-53b1a1d7f0aa")
_PERIODS: Final[Mapping[str, datetime.timedelta]] = {
    "hour": datetime.timedelta(hours=1),
    "day": datetime.timedelta(days=1),
    "month": datetime.timedelta(days=30),
    "year": datetime.timedelta(days=365),
}
# Journeys that end in a recurring consent (session-api, AA parameters).
_RECURRING: Final = {
    "aa_journey_mode": {"only_recurring", "once_with_recurring"},
    "aa_journey_code": {"BCAA002", "BCAA003", "BCAA004"},
}
_TENURE: Final = 24


@attrs.define(eq=False)
class Consents:
    """
    The consents that were listed, with the times of their use.
    """

    _sessions: dict[str, SandboxSession] = attrs.field(
        init=False, factory=dict
    )
    _uses: dict[str, list[datetime.datetime]] = attrs.field(
        init=False, factory=dict
    )

    def listed(self, journey: Journey) -> list[JsonObject]:
        """
        Return the consents of a session.

        It has one if its journey is recurring and the customer approved.
        """
        session = journey.session
        parameters = session.parameters
        is_approved = any(each.source == "aa" for each in journey.statements)
        if not is_approved or not any(
            parameters.get(name) in values
            for name, values in _RECURRING.items()
        ):
            return []
        consent_id = str(uuid.uuid5(_NAMESPACE, session.session_id))
        self._sessions[consent_id] = session
        bank = consent_bank(session)
        unit, value = _frequency(parameters)
        return [
            {
                "consent_id": consent_id,
                "bank_name": bank,
                "masked_account_number": fake_account(
                    session.link_id, bank
                ).masked,
                "tenure_month_count": parameters.get(
                    "aa_recurring_tenure_month_count",
                    parameters.get("aa_recurring_tenure_month", _TENURE),
                ),
                "frequency_unit": unit,
                "frequency_value": value,
            }
        ]

    def use(
        self, consent_id: object, journeys: SessionTable
    ) -> SandboxSession:
        """
        Use a consent, and return the session in which it was given.

        The status and the shape of its errors are not documented (U-33).

        Raises:
            ApiError: If the consent is unknown, revoked because its
                session is deleted, or overused because it is used more often
                than its frequency allows.
        """
        session = self._sessions.get(str(consent_id))
        if session is None:
            raise coded_error("consent", "INVALID_CONSENT_ID")
        if journeys.is_deleted(session.session_id):
            raise coded_error("consent", "CONSENT_REVOKED")
        unit, value = _frequency(session.parameters)
        now = journeys.now()
        uses = [
            time
            for time in self._uses.get(str(consent_id), ())
            if now - time < _PERIODS[unit]
        ]
        if len(uses) >= value:
            raise coded_error("consent", "CONSENT_OVERUSED")
        self._uses[str(consent_id)] = [*uses, now]
        return session


def consent_bank(session: SandboxSession) -> str:
    """
    Return the bank whose data a consent is about.
    """
    return (bank_of(session.parameters) or EXAMPLE_BANK).lower()


def _frequency(parameters: Mapping[str, Any]) -> tuple[str, int]:
    return (
        parameters.get("aa_recurring_frequency_unit", "day"),
        parameters.get("aa_recurring_frequency_value", 3),
    )
