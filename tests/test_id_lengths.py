"""
Ids longer than the maximum are refused everywhere.
"""

import json

import pytest

from bankconnect_async import SuccessEvent, decode_event
from bankconnect_async._codec.browser_messages import Channel
from bankconnect_async._codec.redirects import build_redirect, decode_redirect
from bankconnect_async._codec.webhooks import decode_webhook
from bankconnect_async.errors import DecodeError, InvalidRequestError
from bankconnect_async.models.events import ErrorEvent
from bankconnect_async.models.webhooks import UploadWebhook


MAX_ID = 200
MAX_LINK_ID = 500
HUGE = 60_000
PAGE = "https://lender.example/return"
UPLOADED = "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION"


def event(length, key, status="success"):
    """
    Decode a browser message with one id of that length.
    """
    ids = {"entityId": "e", key: "x" * length}
    return decode_event(
        {"type": "finbox-bankconnect", "status": status, "payload": ids}
    )


def redirect(length, key):
    """
    Decode a return with one id of that length.
    """
    return decode_redirect(f"{PAGE}?success=true&{key}={'x' * length}")


def webhook(length, key):
    """
    Decode a webhook with one id of that length.
    """
    return decode_webhook(
        json.dumps({"progress": "completed", key: "x" * length})
    )


CASES = [
    (event, "entityId", MAX_ID),
    (event, "sessionId", MAX_ID),
    (event, "linkId", MAX_LINK_ID),
    (event, "linkID", MAX_LINK_ID),
    (redirect, "entity_id", MAX_ID),
    (redirect, "session_id", MAX_ID),
    (webhook, "entity_id", MAX_ID),
    (webhook, "statement_id", MAX_ID),
    (webhook, "link_id", MAX_LINK_ID),
]


@pytest.mark.parametrize(("decode", "key", "limit"), CASES)
@pytest.mark.parametrize("excess", [0, 1, HUGE])
def test_ids(decode, key, limit, excess):
    """
    An id of the maximum length is accepted; a longer one is refused by name,
    without its value.
    """
    if excess == 0:
        assert "x" * limit in repr(decode(limit, key))
        return
    with pytest.raises(DecodeError, match=rf"at most {limit} .*{key}") as told:
        decode(limit + excess, key)

    assert len(str(told.value)) < 200


@pytest.mark.parametrize("key", ["session_id", "account_id", "statement_id"])
@pytest.mark.parametrize("excess", [0, 1])
def test_ids_inside_a_webhook(key, excess):
    """
    The same holds for ids of accounts and statements in it.
    """
    id_ = "x" * (MAX_ID + excess)
    statement = {"statement_id": "st", key: id_}
    body = {
        "event_name": UPLOADED,
        "session_id": "s",
        "accounts": [{key: id_, "statements": [statement]}],
        **({key: id_} if key == "session_id" else {}),
    }
    if excess:
        with pytest.raises(DecodeError, match=key):
            decode_webhook(body)
    else:
        assert isinstance(decode_webhook(body), UploadWebhook)


def test_ids_of_other_channels():
    """
    Bare payloads and the oldest library have the same limits.
    """
    for channel, key in (
        (Channel.WEBVIEW_SUCCESS, "sessionId"),
        (Channel.LIBRARY, "request_id"),
    ):
        with pytest.raises(DecodeError, match=key):
            decode_event(
                {"status": "BSM200", key: "x" * HUGE}, channel=channel
            )


def test_an_error_keeps_its_code():
    """
    A link id of the maximum length is accepted in every kind of event.
    """
    found = event(MAX_LINK_ID, "linkId", status="error")

    assert isinstance(found, ErrorEvent)
    assert found.link_id == "x" * MAX_LINK_ID


def test_what_no_return_can_carry():
    """
    A redirect with an id that would not decode is not built.
    """
    fits = SuccessEvent(entity_id="x" * MAX_ID)
    too_long = SuccessEvent(entity_id="x" * (MAX_ID + 1))

    assert decode_redirect(build_redirect(PAGE, fits)) == fits
    with pytest.raises(InvalidRequestError, match="200"):
        build_redirect(PAGE, too_long)
