"""
The bodies of webhooks, without a server (contract, `webhooks.md`).

Each function returns a JSON object in its newest documented form, to post or
to `decode_webhook`; a test may change it, as versions of the API do.
"""

import datetime

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from bankconnect_async.models.webhooks import WebhookName
from bankconnect_async.sandbox.messages import read_message


_ACCOUNT: Final = "b7b3ff7b-623d-48df-8cd5-8cc6f137bdc5"
_STATEMENT: Final = "43c243ee-0945-46ce-9f76-663f8330df68"
_FROM_DATE: Final = datetime.date(2025, 10, 1)
_TO_DATE: Final = datetime.date(2026, 3, 31)


def extraction_webhook(
    entity_id: str,
    *,
    link_id: str | None = None,
    statement_id: str = _STATEMENT,
    progress: Literal["completed", "failed"] = "completed",
    reason: str = "",
) -> dict[str, Any]:
    """
    Return the webhook about one statement of an entity.

    Args:
        entity_id: The id of the entity.
        link_id: Your id of the customer; `None` if the upload named none.
        statement_id: The id of the statement; blank if none was uploaded.
        progress: Whether extraction succeeded.
        reason: The text about a failure.
    """
    return {
        "entity_id": entity_id,
        "statement_id": statement_id,
        "link_id": link_id,
        "progress": progress,
        "reason": reason,
    }


def upload_webhook(
    session_id: str,
    *,
    event_name: WebhookName = WebhookName.UPLOADED,
    accounts: Sequence[Mapping[str, Any]] | None = None,
    from_date: datetime.date = _FROM_DATE,
    to_date: datetime.date = _TO_DATE,
) -> dict[str, Any]:
    """
    Return the webhook about complete uploads of a session.

    Args:
        session_id: The id of the session.
        event_name: One of the two names that it has had.
        accounts: The accounts; by default one with one statement.
        from_date: The first day that the session asks for.
        to_date: The last day.
    """
    return _uploads(
        session_id,
        event_name,
        "Upload Completed",
        [_account(from_date, to_date)] if accounts is None else accounts,
        _range(from_date, to_date),
    )


def expiry_webhook(
    session_id: str,
    *,
    accounts: Sequence[Mapping[str, Any]] = (),
    from_date: datetime.date = _FROM_DATE,
    to_date: datetime.date = _TO_DATE,
) -> dict[str, Any]:
    """
    Return the webhook about the expiry of a session.

    Args:
        session_id: The id of the session.
        accounts: The accounts that were uploaded until then.
        from_date: The first day that the session asked for.
        to_date: The last day.
    """
    return _uploads(
        session_id,
        WebhookName.EXPIRED,
        "Session expired",
        accounts,
        _range(from_date, to_date),
    )


def enrichment_webhook(
    session_id: str,
    *,
    error_code: str = "",
    insights_available: bool | None = None,
    accounts: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """
    Return the webhook about the end of processing.

    Args:
        session_id: The id of the session.
        error_code: The code of a failed account, such as `UNPARSABLE`; blank
            if processing succeeded.
        insights_available: Whether there are insights; by default if there is
            no *error_code*.
        accounts: The accounts; by default one.
    """
    account = {
        "name": "SAMPLE HOLDER ONE",
        "account_category": "individual",
        "account_id": _ACCOUNT,
        "bank_name": "hdfc",
        "error_code": error_code,
        "error_message": read_message("account", error_code)["text"]
        if error_code
        else "",
        "account_status": "failed" if error_code else "completed",
        "attempt_types": ["PDF"],
    }
    return {
        "session_id": session_id,
        "insights_available": not error_code
        if insights_available is None
        else insights_available,
        "accounts": [account] if accounts is None else list(accounts),
        "event_name": WebhookName.ENRICHED.value,
    }


def _uploads(
    session_id: str,
    event_name: WebhookName,
    message: str,
    accounts: Sequence[Mapping[str, Any]],
    date_range: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "event_name": event_name.value,
        "message": message,
        "accounts": list(accounts),
        "session_date_range": date_range,
    }


def _account(first: datetime.date, last: datetime.date) -> dict[str, Any]:
    return {
        "account_id": _ACCOUNT,
        "account_number": "XXXXXXXXXXXX0042",
        "bank_name": "axis",
        "created_at": "2026-04-01 06:48:44",
        "last_updated_at": "2026-04-01 06:48:44",
        "statements": [
            {
                "statement_id": _STATEMENT,
                "statement_status": "completed",
                "error_code": None,
                "error_message": None,
                "source": "pdf",
                "upload_file_name": "statement_axis.pdf",
                "statement_date_range": _range(first, last),
                "created_at": "2026-04-01 06:48:43.660968+00:00",
            }
        ],
        "account_status": "COMPLETED",
        "months": _months(first, last),
        "missing_data": [],
    }


def _range(first: datetime.date, last: datetime.date) -> dict[str, str]:
    return {"from_date": f"{first:%d/%m/%Y}", "to_date": f"{last:%d/%m/%Y}"}


def _months(first: datetime.date, last: datetime.date) -> list[str]:
    numbers = range(
        12 * first.year + first.month - 1, 12 * last.year + last.month
    )
    return [f"{number // 12}-{number % 12 + 1:02}" for number in numbers]
