"""
Values that travel to and from the Session API.

A name on the wire is written once, as the name of the attribute here or in
that attribute's metadata. Values are checked when they are built, so other
code can trust them. A value that a server of *some* documented dialect would
accept is never refused here; the server decides about the rest.
"""

import datetime
import enum
import functools
import math
import re
import unicodedata

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, cast

import attrs

from yarl import URL

from bankconnect_async import models
from bankconnect_async.errors import InvalidRequestError


# Few requests have them: `models` imports their module on first use.
if TYPE_CHECKING:
    from .parameter_groups import Consent, Metadata


class Value:
    """
    A value that converts to a dictionary, and with which pydantic works.

    pydantic takes an instance as it is, and makes one from what `as_dict`
    returns, in Python and from JSON. It serialises the same keys; in JSON, a
    `decimal.Decimal` is a text with all its digits. It believes what it
    reads: messages of browsers and of the vendor have decoders of their own.
    """

    __slots__ = ()

    def as_dict(self) -> dict[str, Any]:
        """
        Return the attributes as a dictionary, without `raw`.

        Values within it become dictionaries, rows become lists, and URLs
        become texts; numbers and times stay as they are. An event or a
        webhook also has the key `type`, the name of its class.

        A repr hides secrets. This does not: the URL of a session and account
        numbers are in it.
        """
        return models.values.as_dict(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: Any) -> Any:
        return models.core_schemas.value_schema(cls, handler)


class Unset(enum.Enum):
    """
    The type of `UNSET`: "not given", where `None` has a meaning of its own.
    """

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET

_Rule: TypeAlias = Callable[[Any], str | None]

# The server judges path, query and fragment.
_URL = (
    r"https?://"
    r"(?:[^\s\x00-\x1f\x7f/?#\\@]*@)?"
    r"(?:\[[0-9a-f:.]+\]|[^\s\x00-\x1f\x7f/?#\\@:\[\]]+)"
    r"(?::[0-9]{1,5})?"
    r"(?:[/?#][^\s\x00-\x1f\x7f]*)?"
)
_PERIODS = ("from_date", "to_date"), ("max_from_date", "max_to_date")
_SECRETS = frozenset({"apikey", "xapikey", "serverhash"})
_NEST = 16
# The categories of blanks and of invisible characters.
_BLANK = frozenset({"Cf", "Zl", "Zp", "Zs"})
# Every JSON parser accepts it, and no tenure has more months.
_LARGEST = 2**31


def _text(*, max_length: int | None = None, is_id: bool = False) -> _Rule:
    def rule(value: object) -> str | None:
        if not isinstance(value, str):
            return f"must be a text, not {type(value).__name__}"
        if not value or value.isspace():
            return "must not be blank"
        if max_length is not None and len(value) > max_length:
            return (
                f"has {len(value)} characters, at most {max_length} are taken"
            )
        # A printable text has a UTF-8 form and no control characters.
        if is_id and value.isprintable():
            return None
        if not is_unicode(value):
            return "holds bytes that are not UTF-8"
        return _unprintable_id(value) if is_id else None

    return rule


def _unprintable_id(value: str) -> str | None:
    categories = list(map(unicodedata.category, value))
    if "Cc" in categories:
        control = value[categories.index("Cc")]
        return f"holds the control character U+{ord(control):04X}: remove it"
    if {*categories} <= _BLANK:
        return "must not be blank"
    return None


def _url(*, max_length: int | None = None) -> _Rule:
    text = _text(max_length=max_length)

    # Most customers of a service return to one address.
    @functools.lru_cache(maxsize=16)
    def judge(value: str) -> str | None:
        if problem := text(value):
            return problem
        if not re.fullmatch(_URL, value, re.IGNORECASE):
            return (
                "is not an absolute http or https URL, such as "
                "https://lender.example/return"
            )
        return None

    def rule(value: object) -> str | None:
        if isinstance(value, str):
            return judge(value)
        return None if isinstance(value, Unset) else text(value)

    return rule


def _whole(minimum: int, maximum: int = _LARGEST) -> _Rule:
    def rule(value: object) -> str | None:
        if type(value) is not int:
            return f"must be a whole number, not {type(value).__name__}"
        return _within(value, minimum, maximum)

    return rule


def _number(minimum: int) -> _Rule:
    def rule(value: object) -> str | None:
        if type(value) is int or (
            type(value) is float and math.isfinite(value)
        ):
            return _within(value, minimum, _LARGEST)
        return f"must be a finite number, not {type(value).__name__}"

    return rule


def _within(value: float, minimum: int, maximum: int) -> str | None:
    if minimum <= value <= maximum:
        return None
    if value < -_LARGEST:
        return f"must be {minimum} or more"
    if value > _LARGEST:
        return f"is larger than anybody takes; must be {minimum} or more"
    upper = "or more" if maximum == _LARGEST else f"to {maximum}"
    return f"is {value}, must be {minimum} {upper}"


def _flag(value: object) -> str | None:
    if not isinstance(value, bool):
        return f"must be True or False, not {type(value).__name__}"
    return None


def date_problem(value: object) -> str | None:
    """
    Return the reason why *value* is not a date, else `None`.
    """
    if isinstance(value, datetime.datetime):
        return "must be a date without a time: use .date()"
    if not isinstance(value, datetime.date):
        return f"must be a datetime.date, not {type(value).__name__}"
    return None


def _choice(*choices: str) -> _Rule:
    def rule(value: object) -> str | None:
        if value not in choices:
            return f"must be one of {', '.join(choices)}"
        return None

    return rule


def _consents(value: object) -> str | None:
    if not isinstance(value, Mapping) or not all(
        type(key) is str and is_unicode(key) and _is_consent(entry)
        for key, entry in value.items()
    ):
        return "must map texts to Consent values or to texts"
    return None


def _is_consent(value: object) -> bool:
    if isinstance(value, str):
        return is_unicode(value)
    return isinstance(value, models.Consent)


def _metadata(value: object) -> str | None:
    if not isinstance(value, models.Metadata):
        return "must be a Metadata"
    return None


def _extra(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return "must map parameter names to values"
    for name, entry in value.items():
        if type(name) is not str or not name or not is_unicode(name):
            return f"has the name {name!r}, which is not a text"
        if problem := _extra_name(name):
            return problem
        if not _is_json(entry, _NEST):
            return f"holds {name} with a value that JSON cannot carry"
    return None


# The requests of a campaign share these names.
@functools.lru_cache(maxsize=64)
def _extra_name(name: str) -> str | None:
    if re.sub("[^a-z0-9]", "", name.lower()) in _SECRETS:
        return f"must not hold {name}: keys and secrets go to the client"
    if name in PARAMETERS:
        return f"holds {name}, which has an argument of its own"
    return None


def is_unicode(text: str) -> bool:
    """
    Return whether *text* has a UTF-8 form.
    """
    # Only lone surrogates, which `surrogateescape` makes of undecodable
    # bytes, have no UTF-8 form.
    return text.isascii() or not re.search("[\ud800-\udfff]", text)


def _is_json(value: object, nest: int) -> bool:
    # Subclasses are refused, because encoders disagree about them.
    if type(value) is dict:
        return nest > 0 and all(
            type(name) is str
            and is_unicode(name)
            and _is_json(entry, nest - 1)
            for name, entry in value.items()
        )
    if type(value) in {list, tuple}:
        entries = cast("Sequence[object]", value)
        return nest > 0 and all(_is_json(entry, nest - 1) for entry in entries)
    if type(value) is int:
        return -(2**63) <= value < 2**64
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is str:
        return is_unicode(value)
    return value is None or type(value) is bool


def _param(rule: _Rule, **kwargs: Any) -> Any:
    return attrs.field(metadata=_rule(rule), **kwargs)


def optional(rule: _Rule, **kwargs: Any) -> Any:
    """
    Define a parameter that may be `None`; `check_fields` applies its *rule*.

    Args:
        rule: The function that returns what is wrong with a value, if
            anything.
        **kwargs: Further arguments of `attrs.field`.
    """
    return _param(rule, default=None, **kwargs)


@functools.cache
def _rules(cls: type[Any]) -> Mapping[str, _Rule]:
    return {
        field.name: field.metadata["rule"]
        for field in attrs.fields(cls)
        if "rule" in field.metadata
    }


def check_fields(value: Any) -> None:
    """
    Check the parameters of *value* by their rules.

    Raises:
        InvalidRequestError: With every bad parameter in `fields`.
    """
    rules = _rules(value.__class__)
    values = value.__dict__
    problems: dict[str, tuple[str, ...]] = {
        name: (problem,)
        for name, entry in values.items()
        if entry is not None and (problem := rules[name](entry)) is not None
    }
    # No other parameter is required.
    if values.get("link_id", "") is None:
        problems["link_id"] = (str(_LINK_ID(None)),)
    for first, last in _PERIODS:
        start, end = values.get(first), values.get(last)
        if (
            start
            and end
            and first not in problems
            and last not in problems
            and start >= end
        ):
            problems[first] = (f"{start} must be before {last} {end}",)
    if problems:
        raise InvalidRequestError(fields=problems)


def _url_text(
    value: str | URL | None | Unset,
) -> str | None | Unset:
    return str(value) if isinstance(value, URL) else value


def _logo_text(value: str | URL | None) -> str | None:
    return str(value) if isinstance(value, URL) else value


def _dict(value: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return dict(value) if isinstance(value, Mapping) else value


_LINK_ID: Final = _text(max_length=500, is_id=True)


def check_link_id(value: object) -> None:
    """
    Check that *value* can be a `link_id`.

    Raises:
        InvalidRequestError: If it cannot; the reason is in `fields`.
    """
    if problem := _LINK_ID(value):
        raise InvalidRequestError(fields={"link_id": (problem,)})


def _rule(rule: _Rule) -> dict[str, _Rule]:
    return {"rule": rule}


def _consent_dict(
    value: "Mapping[str, Consent | str] | None",
) -> "Mapping[str, Consent | str] | None":
    return _dict(value)


@attrs.frozen(kw_only=True, slots=False)
class SessionRequest(Value):
    """
    A request for a session (contract, `session/`, all dialects).

    A parameter that is `None` is not sent, and the vendor's default applies.
    Every parameter is checked when the request is built; all problems are
    reported together.

    Attributes:
        link_id: Your own id of the customer, 1 to 500 characters; not blank,
            and without control characters.
        redirect_url: The URL to which the browser returns, at most 200
            characters. `None`: no redirect (inline-frame workflow). `UNSET`:
            the client's own.
        from_date: The first day of statements, before *to_date*. The vendor's
            default is six months ago.
        to_date: The last day of statements. Some flows accept yesterday at the
            latest, others today; the server decides.
        bank_name: The bank identifier, at most 50 characters; skips the choice
            of a bank.
        bank: Another name for *bank_name* in two examples of v2.
        logo_url: The URL of your logo for the journey page.
        mode: `pdf`, `aa` (Account Aggregator) or `online` (net banking).
        mobile_number: The phone number to fill in for Account Aggregator
            journeys.
        journey_mode: The journey mode, such as `multi_pdf` or `multi_banking`;
            at most 50 characters.
        session_expiry: The lifetime of the session in minutes, 5 to 43200.
        accept_anything: Whether to switch off the strict acceptance checks.
        is_mobile_field_editable: Whether the customer may change the number.
        aa_journey_mode: `only_once`, `only_recurring` or
            `once_with_recurring`.
        aa_recurring_tenure_month_count: The number of months, 1 or more; the
            server cuts or refuses a number above its own limit.
        aa_recurring_tenure_month: The same under its name in the session flow.
        aa_recurring_frequency_unit: `year`, `month`, `day` or `hour`.
        aa_recurring_frequency_value: The number of times, 1 to 5.
        aa_journey_code: The code of the journey, such as `BCAA001` (v2).
        consents: The `Consent` of each consent code (v2), or a text where the
            API takes a flat map.
        metadata: The names to recognise.
        max_from_date: A date that only error texts name; sent as it is.
        max_to_date: The date after *max_from_date*.
        program_id: The lending program, as Android apps send it.
        aa_vendor: The Account Aggregator, as Android apps send it.
        extra: Parameters that this version does not know, passed through.

    Raises:
        InvalidRequestError: With every bad parameter in `fields`.
    """

    link_id: str = _param(_LINK_ID)
    redirect_url: str | None | Unset = attrs.field(
        converter=_url_text, metadata=_rule(_url(max_length=200))
    )
    from_date: datetime.date | None = optional(date_problem)
    to_date: datetime.date | None = optional(date_problem)
    bank_name: str | None = optional(_text(max_length=50))
    bank: str | None = optional(_text())
    logo_url: str | None = attrs.field(
        default=None, converter=_logo_text, metadata=_rule(_url())
    )
    mode: str | None = optional(_choice("pdf", "aa", "online"))
    mobile_number: str | None = optional(_text(), repr=False)
    journey_mode: str | None = optional(_text(max_length=50))
    session_expiry: int | None = optional(_whole(5, 43200))
    accept_anything: bool | None = optional(_flag)
    is_mobile_field_editable: bool | None = optional(_flag)
    aa_journey_mode: str | None = optional(
        _choice("only_once", "only_recurring", "once_with_recurring")
    )
    aa_recurring_tenure_month_count: int | None = optional(_whole(1))
    aa_recurring_tenure_month: float | None = optional(_number(1))
    aa_recurring_frequency_unit: str | None = optional(
        _choice("year", "month", "day", "hour")
    )
    aa_recurring_frequency_value: int | None = optional(_whole(1, 5))
    aa_journey_code: str | None = optional(_text())
    # Mappings cannot be hashed; equality still compares them.
    consents: "Mapping[str, Consent | str] | None" = attrs.field(
        default=None,
        converter=_consent_dict,
        metadata=_rule(_consents),
        hash=False,
    )
    metadata: "Metadata | None" = optional(_metadata)
    max_from_date: datetime.date | None = optional(date_problem)
    max_to_date: datetime.date | None = optional(date_problem)
    program_id: str | None = optional(_text())
    aa_vendor: str | None = optional(_text())
    extra: Mapping[str, Any] | None = attrs.field(
        default=None,
        converter=_dict,
        metadata=_rule(_extra),
        repr=False,
        hash=False,
    )

    def __attrs_post_init__(self) -> None:
        check_fields(self)

    def with_link_id(self, link_id: str) -> Self:
        """
        Return the same request for another customer.

        Only the *link_id* is checked again, which makes it the cheapest way to
        many requests.

        Args:
            link_id: Your own id of the customer, 1 to 500 characters.

        Raises:
            InvalidRequestError: If *link_id* cannot be one.
        """
        check_link_id(link_id)
        request = object.__new__(self.__class__)
        values = {**self.__dict__, "link_id": link_id}
        object.__setattr__(request, "__dict__", values)
        return request


#: Wire names of all documented parameters of `session/` but the key.
PARAMETERS: Final = frozenset(attrs.fields_dict(SessionRequest)) - {"extra"}


def mask_id(text: str | None) -> str:
    """
    Return the repr of an id that is a secret.
    """
    # The id alone opens the journey in dialects without a token. A log gets
    # enough of it to recognise the session and too little to open it.
    return (
        repr(text) if text is None else f"'{text[: min(6, len(text) // 3)]}…'"
    )


@attrs.frozen(kw_only=True)
class Session(Value):
    """
    A created session.

    Attributes:
        link_id: Your id of the customer.
        redirect_url: The URL for the `<iframe>` or the redirect, exactly as
            received. Anyone who has it can open the journey, so the repr
            leaves it out.
        session_id: The id of the session (`session_id` of the response, else
            of the URL's query), or `None` if the server sent none.
        attempts: The number of times that the request was sent. More than one
            after an ambiguous failure means that an unused twin may exist.
    """

    link_id: str
    # Parsed on access, because many callers only pass the text on.
    _redirect_url: URL | str = attrs.field(
        alias="redirect_url", repr=False, eq=str
    )
    session_id: str | None = attrs.field(default=None, repr=mask_id)
    attempts: int = 1

    @property
    def redirect_url(self) -> URL:
        """The URL at which the journey begins."""
        url = self._redirect_url
        return URL(url, encoded=True) if isinstance(url, str) else url

    @property
    def url(self) -> str:
        """The *redirect_url* as a `str`, byte for byte as received."""
        return str(self._redirect_url)


# No repr: the URL is a credential.
@attrs.define(kw_only=True, eq=False, repr=False)
class SessionResponse:
    """
    The body of a 2xx response of `session/`, as it is on the wire.

    Attributes:
        redirect_url: The absolute URL of the journey.
        session_id: The id in the session flow and in v2, else the one in the
            query of the URL.
    """

    redirect_url: str
    session_id: str | None = None
