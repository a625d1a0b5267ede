"""
The Session API of each documented dialect, as tables.
"""

import functools

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import attrs

from bankconnect_async._codec.browser_messages import Dialect
from bankconnect_async.sandbox.http.errors import (
    ApiError,
    JsonObject,
    render_coded,
    render_plain,
)

from .combined_rules import (
    TODAY,
    YESTERDAY,
    Check,
    bank_with_mode,
    both_dates,
    complete_recurrence,
    dates_in_order,
    ends_by,
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
    One dialect of the endpoint.

    Attributes:
        dialect: In which the journeys of its sessions report. Those of v2
            do so as in the session flow, whatever v1 speaks.
        rules: Wire name to what its value must be; others are ignored.
        checks: What must hold between parameters that are good by
            themselves.
        write: Puts a refusal into the dialect's error body.
        tells_id: The session id is a UUID and stands in the answer.
        has_token: The journey's URL carries a token.
    """

    dialect: Dialect
    rules: Mapping[str, Rule]
    checks: tuple[Check, ...]
    write: Callable[[ApiError], JsonObject]
    tells_id: bool
    has_token: bool = False

    @property
    def has_codes(self) -> bool:
        """Whether its errors have codes."""
        return self.write is render_coded


# Each table follows its column of the contract's "Parameters". Where that
# page and another contradict each other, its own page decides.
_SEED_RULES: Final[Mapping[str, Rule]] = {
    "link_id": as_text(max_length=500, too_long="INVALID_REQUEST"),
    "redirect_url": as_url(max_length=200),
    "from_date": as_date,
    "to_date": as_date,
    "bank_name": as_bank_name,
}
_CURRENT_RULES: Final[Mapping[str, Rule]] = {
    **_SEED_RULES,
    "logo_url": as_url(),
    "mode": as_choice("pdf", "aa", "online"),
    "mobile_number": as_mobile_number,
    "journey_mode": as_text(max_length=50),
}
_ENTITY_RULES: Final[Mapping[str, Rule]] = {
    **_CURRENT_RULES,
    "aa_journey_mode": as_choice("only_once", "only_recurring"),
    "aa_recurring_tenure_month_count": as_tenure(24),
    "aa_recurring_frequency_unit": as_choice("year", "month", "day", "hour"),
    "aa_recurring_frequency_value": as_aa_number("Frequency value", 3),
}
_SESSION_FLOW_RULES: Final[Mapping[str, Rule]] = {
    **_CURRENT_RULES,
    "bank_name": as_known_bank,
    "session_expiry": as_session_expiry,
    "accept_anything": as_boolean,
    "is_mobile_field_editable": as_boolean,
    "metadata": as_metadata,
}
_SESSION_RULES: Final[Mapping[str, Rule]] = {
    **_SESSION_FLOW_RULES,
    "aa_journey_mode": as_choice("only_recurring", "once_with_recurring"),
    "aa_recurring_tenure_month_count": as_tenure(84),
    "aa_recurring_tenure_month": as_tenure(84),
    "aa_recurring_frequency_unit": as_choice("year", "month", "day", "hour"),
    "aa_recurring_frequency_value": as_aa_number("Frequency value", 5),
}
_V2_RULES: Final[Mapping[str, Rule]] = {
    **_SESSION_FLOW_RULES,
    "bank": as_known_bank,
    "aa_journey_code": as_choice(
        "BCAA001",
        "BCAA002",
        "BCAA003",
        "BCAA004",
        code="INVALID_AA_PARAMETER",
    ),
    "consents": as_consents,
}
_SESSION_FLOW_CHECKS: Final = (
    both_dates,
    dates_in_order(TODAY),
    ends_by(TODAY, "today"),
    bank_with_mode,
    mode_of_bank,
)

_V1: Final[Mapping[Dialect, DialectRules]] = {
    "seed": DialectRules(
        dialect="seed",
        rules=_SEED_RULES,
        checks=(dates_in_order(YESTERDAY),),
        write=render_plain,
        tells_id=False,
    ),
    "entity": DialectRules(
        dialect="entity",
        rules=_ENTITY_RULES,
        checks=(
            dates_in_order(YESTERDAY),
            ends_by(YESTERDAY, "yesterday"),
        ),
        write=functools.partial(render_plain, numbered=True),
        tells_id=False,
    ),
    "session": DialectRules(
        dialect="session",
        rules=_SESSION_RULES,
        checks=(*_SESSION_FLOW_CHECKS, complete_recurrence),
        write=render_coded,
        tells_id=True,
    ),
}
_V2: Final = DialectRules(
    dialect="session",
    rules=_V2_RULES,
    checks=_SESSION_FLOW_CHECKS,
    write=render_coded,
    tells_id=True,
    has_token=True,
)


def rules_for(dialect: Dialect, version: Version) -> DialectRules:
    """
    Choose the rules: those of v1 differ by dialect, those of v2 do not.
    """
    return _V2 if version == "v2" else _V1[dialect]
