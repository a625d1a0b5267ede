"""
Tables of the Session API in each documented dialect.
"""

import functools

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import attrs

from bankconnect_async._codec.browser_messages import Dialect
from bankconnect_async.sandbox.http.endpoints import ErrorRenderer
from bankconnect_async.sandbox.http.errors import render_coded, render_plain

from .combined_rules import (
    TODAY,
    YESTERDAY,
    Check,
    bank_with_mode,
    both_dates,
    complete_recurrence,
    dates_in_order,
    ends_by,
    max_dates_in_order,
    mode_of_bank,
)
from .field_rules import (
    Rule,
    as_aa_number,
    as_bank_name,
    as_boolean,
    as_choice,
    as_consents,
    as_date,
    as_known_bank,
    as_metadata,
    as_mobile_number,
    as_session_expiry,
    as_tenure,
    as_text,
    as_url,
)


Version: TypeAlias = Literal["v1", "v2"]


@attrs.frozen(kw_only=True)
class DialectRules:
    """
    The rules of one dialect of the endpoint.

    Attributes:
        dialect: The dialect of the journeys' events. Sessions of v2 use that
            of the session flow, whatever dialect v1 has.
        fields: The rule of each parameter by wire name; other parameters are
            ignored.
        checks: The rules between parameters that are valid by themselves.
        render: Renders the dialect's error bodies.
        has_id: Whether the session id is a UUID and part of the response.
        has_token: Whether the journey's URL has a token.
    """

    dialect: Dialect
    fields: Mapping[str, Rule]
    checks: tuple[Check, ...]
    render: ErrorRenderer
    has_id: bool = False
    has_token: bool = False

    @property
    def has_codes(self) -> bool:
        """Whether its errors have codes."""
        return self.render is render_coded


def _aa_rules(*, tenure: int, frequency: int) -> dict[str, Rule]:
    return {
        # No page has all three; clients send each to any flow (U-08).
        "aa_journey_mode": as_choice(
            "only_once", "only_recurring", "once_with_recurring"
        ),
        "aa_recurring_tenure_month_count": as_tenure(tenure),
        "aa_recurring_frequency_unit": as_choice(
            "year", "month", "day", "hour"
        ),
        "aa_recurring_frequency_value": as_aa_number(
            "Frequency value", frequency
        ),
    }


# Each table follows its column of the contract's "Parameters". Where that
# page contradicts another, the column's own page decides.
_SEED_FIELDS: Final[Mapping[str, Rule]] = {
    "link_id": as_text(max_length=500, too_long="INVALID_REQUEST"),
    "redirect_url": as_url(max_length=200),
    "from_date": as_date,
    "to_date": as_date,
    "bank_name": as_bank_name,
}
_CURRENT_FIELDS: Final[Mapping[str, Rule]] = {
    **_SEED_FIELDS,
    "logo_url": as_url(),
    "mode": as_choice("pdf", "aa", "online"),
    "mobile_number": as_mobile_number,
    "journey_mode": as_text(max_length=50),
    "program_id": as_text(),
    "aa_vendor": as_text(),
}
_ENTITY_FIELDS: Final[Mapping[str, Rule]] = {
    **_CURRENT_FIELDS,
    **_aa_rules(tenure=24, frequency=3),
}
_SESSION_FLOW_FIELDS: Final[Mapping[str, Rule]] = {
    **_CURRENT_FIELDS,
    "bank_name": as_known_bank,
    "session_expiry": as_session_expiry,
    "accept_anything": as_boolean,
    "is_mobile_field_editable": as_boolean,
    "metadata": as_metadata,
    "max_from_date": as_date,
    "max_to_date": as_date,
}
_SESSION_FIELDS: Final[Mapping[str, Rule]] = {
    **_SESSION_FLOW_FIELDS,
    **_aa_rules(tenure=84, frequency=5),
    "aa_recurring_tenure_month": as_tenure(84),
}
_V2_FIELDS: Final[Mapping[str, Rule]] = {
    **_SESSION_FLOW_FIELDS,
    "bank": as_known_bank,
    "aa_journey_code": as_choice(
        *(f"BCAA00{number}" for number in range(1, 5)),
        code="INVALID_AA_PARAMETER",
    ),
    "consents": as_consents,
}
_SESSION_FLOW_CHECKS: Final = (
    both_dates,
    dates_in_order(TODAY),
    max_dates_in_order,
    ends_by(TODAY, "today"),
    bank_with_mode,
    mode_of_bank,
)

_V1: Final[Mapping[Dialect, DialectRules]] = {
    "seed": DialectRules(
        dialect="seed",
        fields=_SEED_FIELDS,
        checks=(dates_in_order(YESTERDAY),),
        render=render_plain,
    ),
    "entity": DialectRules(
        dialect="entity",
        fields=_ENTITY_FIELDS,
        # Its page says yesterday; clients send today (U-04).
        checks=(dates_in_order(YESTERDAY), ends_by(TODAY, "today")),
        render=functools.partial(render_plain, numbered=True),
    ),
    "session": DialectRules(
        dialect="session",
        fields=_SESSION_FIELDS,
        checks=(*_SESSION_FLOW_CHECKS, complete_recurrence),
        render=render_coded,
        has_id=True,
    ),
}
_V2: Final = DialectRules(
    dialect="session",
    fields=_V2_FIELDS,
    checks=_SESSION_FLOW_CHECKS,
    render=render_coded,
    has_id=True,
    has_token=True,
)


def rules_for(dialect: Dialect, version: Version) -> DialectRules:
    """
    Return the rules of a dialect: those of v2 are the same in all.
    """
    return _V2 if version == "v2" else _V1[dialect]
