"""
Redirects at the end of a journey, which carry its outcome.

The browser carries all of this, so its content is a claim.
"""

import base64
import re

from typing import Final
from urllib.parse import unquote_plus, urlencode

import attrs

from yarl import URL

from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.errors import DecodeError, InvalidRequestError
from bankconnect_async.models._fields import structure
from bankconnect_async.models.events import (
    MAX_ID,
    Event,
    ExitEvent,
    ReturnQuery,
    SuccessEvent,
)


#: The signed state of a return URL: payload, time and signature.
STATE: Final = re.compile(
    r"(?:[0-9a-f]{8}/)?[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"
)
_BARE_QUERY: Final = re.compile(r"[A-Za-z0-9_%.-]+=")


@hide_frames
def build_redirect(url: str | URL, event: Event) -> URL:
    """
    Append *event* to *url*, as the journey does at its end.

    `decode_redirect` gives an equal event back. So an event with a fact that
    no redirect carries (contract, section 1: link id, reason) is refused.

    Args:
        url: The `redirect_url` of the session.
        event: A `SuccessEvent` with an id, or an `ExitEvent`.

    Raises:
        InvalidRequestError: If a redirect cannot carry the event.
    """
    match event:
        case SuccessEvent(entity_id=entity_id, session_id=session_id) if (
            entity_id or session_id
        ) and event == SuccessEvent(
            entity_id=entity_id, session_id=session_id
        ):
            query = ReturnQuery(
                success="true", entity_id=entity_id, session_id=session_id
            )
        case ExitEvent() if event == ExitEvent():
            query = ReturnQuery(success="false")
        case _:
            raise _event_error("is more or less than a redirect carries")
    given = {
        name: value
        for name, value in attrs.asdict(query).items()
        if value is not None
    }
    if max(map(len, given.values())) > MAX_ID:
        raise _event_error(f"has an id of more than {MAX_ID} characters")
    try:
        text = urlencode(given)
    except UnicodeEncodeError:
        raise _event_error("holds an id that is not Unicode") from None
    base, mark, fragment = str(url).partition("#")
    joint = "&" if "?" in base else "?"
    return URL(f"{base}{joint}{text}{mark}{fragment}", encoded=True)


def _event_error(problem: str) -> InvalidRequestError:
    return InvalidRequestError(fields={"event": (problem,)})


@hide_frames
def decode_redirect(url: str | URL) -> SuccessEvent | ExitEvent:
    """
    Decode the outcome that the journey appended to our redirect URL.

    A success has an id under the name that the browser sent: the session flow
    has used both. An exit may be a failure: its `is_failure` is `None`.

    Args:
        url: The URL, its path and query, or the query alone. A URL with a
            second ``?`` is accepted (contract, U-15).

    Raises:
        DecodeError: If there is no usable outcome.
    """
    parameters = _parameters(str(url))
    problems: list[str] = []
    query = structure(ReturnQuery, parameters, "$.query", problems)
    if problems:
        raise DecodeError(problems=problems)
    match (query.success or "").strip().casefold():
        case "true" if query.entity_id or query.session_id:
            return SuccessEvent(
                entity_id=query.entity_id,
                session_id=query.session_id,
                raw=parameters,
            )
        case "false":
            return ExitEvent(raw=parameters)
        case _:
            raise DecodeError(problems=["no usable outcome @ $.query"])


def _parameters(url: str) -> dict[str, str]:
    success, *ids = attrs.fields_dict(ReturnQuery)
    for part in url.partition("#")[::2]:
        pairs = _pairs(part)
        starts = [at for at, (key, _) in enumerate(pairs) if key == success]
        if starts:
            # The vendor appends its parameters to the page's own query, which
            # may have parameters of the same name.
            appended = dict(pairs[starts[-1] :])
            return appended if appended.keys() & ids else dict(pairs)
    return {}


def _pairs(part: str) -> list[tuple[str, str]]:
    query = part if _BARE_QUERY.match(part) else part.partition("?")[2]
    split = (token.partition("=") for token in re.split("[&?]", query))
    return [(_unquoted(key), _unquoted(value)) for key, _, value in split]


def _unquoted(escaped: str) -> str:
    # The reader of texts refuses bytes that are not UTF-8.
    return unquote_plus(escaped, errors="surrogateescape")


def without_state(url: str, link_id: str) -> str:
    """
    Remove the state of *link_id* from a URL, if `ReturnURL.build` added it.

    The result is the same for all URLs of one base.
    """
    base, slash, state = url.rpartition("/")
    if not STATE.fullmatch(state):
        return url
    payload = base64.urlsafe_b64encode(link_id.encode()).decode().rstrip("=")
    return base + slash if state.startswith(f"{payload}.") else url
