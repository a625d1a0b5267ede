"""
Answers of the endpoints beside `session/`, against their samples.
"""

import datetime
import json

import pytest

from hypothesis import given
from hypothesis import strategies as st

from bankconnect_async import InvalidRequestError, UnreadableAnswerError
from bankconnect_async.answers import (
    Entity,
    UploadStatus,
    decode_entity,
    decode_upload_status,
    decode_webhook_payloads,
    encode_webhook_update,
)


SESSION = "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"
ENTITY = "f5057fee-4c3e-4459-82dd-21250b729601"
HOOK = "https://merchant.example/hooks/bankconnect"


def test_reads_an_entity(sample):
    """
    An entity has its id and ours, and keeps the rest.
    """
    entity = decode_entity(sample("entity.get.response.json"))

    assert entity == Entity(entity_id=ENTITY, link_id="cust-7f31-0042")
    assert entity.raw["meta_data"] is None
    assert (
        decode_entity(b'{"entity_id": "e", "link_id": null}').link_id is None
    )


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("session_data.session_upload_status.response.json", "COMPLETED"),
        (
            "session_data.session_upload_status.response.no_uploads.json",
            "NO_UPLOADS",
        ),
        ("session_data.upload_status.response.2024-04.json", "NO_UPLOADS"),
    ],
)
def test_reads_an_upload_status(name, status, sample):
    """
    Both spellings of a state are one (U-20).
    """
    found = decode_upload_status(sample(name))

    assert found == UploadStatus(session_id=SESSION, upload_status=status)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("IN PROGRESS", "IN_PROGRESS"),
        ("in_progress", "IN_PROGRESS"),
        ("EXPIRED", "EXPIRED"),
        ("Paused for later", "PAUSED_FOR_LATER"),
    ],
)
def test_keeps_unknown_states(word, status):
    """
    A word that a later server says is kept, in the same spelling.
    """
    raw = json.dumps({"session_id": "s", "upload_status": word}).encode()

    assert decode_upload_status(raw).upload_status == status


def test_reads_missed_webhooks(sample):
    """
    The recovery endpoint lists extraction webhooks, newest first.
    """
    newest, oldest = decode_webhook_payloads(
        sample("webhook.payloads.response.entity.json")
    )

    assert (newest.progress, oldest.progress) == ("completed", "failed")
    assert newest.date_time == datetime.datetime(2026, 3, 31, 10, 15, 30)  # noqa: DTZ001 - the vendor names no zone
    assert oldest.statement_id is None
    assert decode_webhook_payloads(b"{}") == ()


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "is not JSON @ $"),
        (b"[]", "is not a JSON object @ $"),
        (b"{}", "required field missing @ $.entity_id"),
        (b'{"entity_id": 1}', "must be a text, not int @ $.entity_id"),
    ],
)
def test_names_what_is_wrong(raw, problem):
    """
    An answer of another shape is told by path, without its values.
    """
    with pytest.raises(UnreadableAnswerError) as caught:
        decode_entity(raw)

    assert problem in caught.value.problems


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("webhook.update.request.entity.both_modes.json", 1),
        ("webhook.update.request.session.json", 1),
        ("webhook.update.request.session.legacy_all_modes.json", 3),
        (
            "webhook.update.request.session.legacy_list.json",
            ["ENRICHMENT_NOTIFICATION"],
        ),
    ],
)
def test_writes_the_update_samples(name, mode, sample_json):
    """
    Every documented update that names a mode is written as printed.
    """
    assert json.loads(encode_webhook_update(HOOK, mode)) == sample_json(name)


def test_the_mode_is_never_left_out(sample_json):
    """
    The vendor's short form means mode 0, which is what we write.
    """
    short = sample_json("webhook.update.request.entity.netbanking_only.json")

    assert json.loads(encode_webhook_update(HOOK, 0)) == {
        **short,
        "webhook_mode": 0,
    }


@pytest.mark.parametrize(
    ("url", "mode", "names"),
    [
        ("hooks", 1, ["url"]),
        (HOOK, True, ["mode"]),
        (HOOK, "1", ["mode"]),
        (HOOK, [1], ["mode"]),
        ("", None, ["url", "mode"]),
    ],
)
def test_refuses_updates_that_cannot_be_sent(url, mode, names):
    """
    All problems of an update are named at once.
    """
    with pytest.raises(InvalidRequestError) as caught:
        encode_webhook_update(url, mode)

    assert list(caught.value.fields) == names


@given(raw=st.binary(max_size=200))
def test_any_bytes_give_a_value_or_an_error_of_ours(raw):
    """
    No decoder raises anything else.
    """
    for decode in (
        decode_entity,
        decode_upload_status,
        decode_webhook_payloads,
    ):
        try:
            assert decode(raw) is not None
        except UnreadableAnswerError as error:
            assert error.problems
