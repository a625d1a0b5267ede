"""
Webhook bodies of both families and all dates decode to webhooks.
"""

import datetime
import decimal
import json
import pickle

from pathlib import Path

import attrs
import pytest

from hypothesis import given, settings
from hypothesis import strategies as st

from bankconnect_async._codec.event_keys import enrichment_result, event_key
from bankconnect_async._codec.webhooks import decode_webhook
from bankconnect_async.errors import DecodeError
from bankconnect_async.models.webhooks import (
    DateRange,
    EnrichmentWebhook,
    ExpiryWebhook,
    ExtractionWebhook,
    UnknownWebhook,
    UploadWebhook,
    WebhookAccount,
    WebhookStatement,
)


FIXTURES = Path(__file__).parent / "fixtures"
LINK = "cust-7f31-0042"
ENTITY = "f5057fee-4c3e-4459-82dd-21250b729601"
SESSION = "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"
STATEMENT = "43c243ee-0945-46ce-9f76-663f8330df68"
ACCOUNT = "b7b3ff7b-623d-48df-8cd5-8cc6f137bdc5"
UTC = datetime.UTC

half_year = DateRange(
    from_date=datetime.date(2025, 10, 1), to_date=datetime.date(2026, 3, 31)
)
short_account = WebhookAccount(
    account_id=ACCOUNT, bank_name="sbi", account_status="completed"
)
account_2026 = WebhookAccount(
    account_id=ACCOUNT,
    account_number="XXXXXXXXXXXX0042",
    bank_name="axis",
    account_status="PARTIAL",
    created_at=datetime.datetime(2026, 4, 1, 6, 48, 44),  # noqa: DTZ001
    last_updated_at=datetime.datetime(2026, 4, 1, 6, 48, 44),  # noqa: DTZ001
    months=(
        "2025-10",
        "2025-11",
        "2025-12",
        "2026-01",
        "2026-02",
        "2026-03",
    ),
    statements=(
        WebhookStatement(
            statement_id=STATEMENT,
            statement_status="completed",
            source="pdf",
            upload_file_name=("d01e13be-235f-461f-8392-3dd14744f3e0_axis.pdf"),
            statement_date_range=half_year,
            created_at=datetime.datetime(
                2026, 4, 1, 6, 48, 43, 660968, tzinfo=UTC
            ),
        ),
    ),
)


def enriched(**facts):
    """
    Return an enrichment with one account.
    """
    return EnrichmentWebhook(
        session_id=SESSION,
        event_name="ENRICHMENT_NOTIFICATION",
        insights_available=facts.pop("insights_available", None),
        accounts=(
            WebhookAccount(
                **{"account_id": ACCOUNT, "account_status": "completed"}
                | facts
            ),
        ),
    )


def person(**facts):
    """
    Return an enrichment of 2025, with the holder of the account.
    """
    return enriched(
        name="SAMPLE HOLDER ONE",
        account_category="individual",
        attempt_types=("PDF",),
        bank_name="hdfc",
        **facts,
    )


EXPECTED = {
    "entity.completed": ExtractionWebhook(
        entity_id=ENTITY,
        statement_id=STATEMENT,
        link_id=LINK,
        progress="completed",
    ),
    "entity.completed.null_link": ExtractionWebhook(
        entity_id=ENTITY, statement_id=STATEMENT, progress="completed"
    ),
    "entity.failed": ExtractionWebhook(
        entity_id=ENTITY,
        statement_id=STATEMENT,
        link_id=LINK,
        progress="failed",
        reason="Extraction failed",
    ),
    "entity.failed.netbanking_no_entity": ExtractionWebhook(
        link_id=LINK, progress="failed", reason="Invalid credentials"
    ),
    "entity.failed.netbanking_no_statement": ExtractionWebhook(
        entity_id=ENTITY,
        link_id=LINK,
        progress="failed",
        reason="Invalid credentials",
    ),
    "session.completion.2024-06": UploadWebhook(
        session_id=SESSION,
        event_name="SESSION_COMPLETION_NOTIFICATION",
        accounts=(short_account,),
    ),
    "session.enrichment.completed.2024": enriched(bank_name="sbi"),
    "session.enrichment.completed": person(insights_available=True),
    "session.enrichment.failed.2024": enriched(
        bank_name="sbi",
        account_status="failed",
        error_code="MISSING_TRANSACTIONS",
        error_message="One or more transactions are missing in the"
        " specified date range",
    ),
    "session.enrichment.failed": person(
        insights_available=False,
        account_status="failed",
        error_code="UNPARSABLE",
        error_message="Failed to process because of an unparsable statement",
    ),
    "session.expiry.2024-06": ExpiryWebhook(
        session_id=SESSION,
        event_name="SESSION_EXPIRY_NOTIFICATION",
        accounts=(short_account,),
    ),
    "session.expiry": ExpiryWebhook(
        session_id=SESSION,
        event_name="SESSION_EXPIRY_NOTIFICATION",
        message="Session expired",
        session_date_range=half_year,
        accounts=(account_2026,),
    ),
    "session.requirement_completion.2024-04": UploadWebhook(
        session_id=SESSION,
        event_name="SESSION_REQUIREMENT_COMPLETION_NOTIFICATION",
        session_date_range=DateRange(),
        accounts=(
            WebhookAccount(
                account_id=ACCOUNT,
                account_number="XXXXXXXXXX",
                bank_name="icici",
                account_status="COMPLETED",
                created_at=datetime.datetime(2024, 4, 16, 7, 47, 42),  # noqa: DTZ001
                last_updated_at=datetime.datetime(2024, 4, 16, 7, 48, 21),  # noqa: DTZ001
                statements=(
                    WebhookStatement(
                        statement_id=STATEMENT,
                        statement_status="completed",
                        source="pdf",
                        created_at=datetime.datetime(
                            2024, 4, 16, 7, 47, 40, 806223, tzinfo=UTC
                        ),
                    ),
                ),
            ),
        ),
    ),
    "session.requirement_completion.2024-11": UploadWebhook(
        session_id=SESSION,
        event_name="SESSION_REQUIREMENT_COMPLETION_NOTIFICATION",
        message="Upload Completed",
        session_date_range=DateRange(
            from_date=datetime.date(2023, 10, 25),
            to_date=datetime.date(2024, 4, 25),
        ),
        accounts=(
            WebhookAccount(
                account_id=ACCOUNT,
                account_number="0000000042",
                bank_name="kotak",
                account_status="PARTIAL",
                created_at=datetime.datetime(2024, 4, 26, 12, 25, 57),  # noqa: DTZ001
                last_updated_at=datetime.datetime(2024, 4, 26, 12, 26, 27),  # noqa: DTZ001
                months=("2023-10", "2023-11"),
                statements=(
                    WebhookStatement(
                        statement_id=STATEMENT,
                        statement_status="completed",
                        source="pdf",
                        created_at=datetime.datetime(
                            2024, 4, 26, 12, 25, 56, 172124, tzinfo=UTC
                        ),
                    ),
                ),
            ),
        ),
    ),
    "session.requirement_completion": UploadWebhook(
        session_id=SESSION,
        event_name="SESSION_REQUIREMENT_COMPLETION_NOTIFICATION",
        message="Upload Completed",
        session_date_range=half_year,
        accounts=(account_2026,),
    ),
}
# These are bodies of calls about webhooks, not bodies of webhooks.
CALLS = {
    "payloads.response.entity",
    "update.request.entity.both_modes",
    "update.request.entity.netbanking_only",
    "update.request.session",
    "update.request.session.legacy_all_modes",
    "update.request.session.legacy_list",
    "update.response.session",
}


def read(sample):
    """
    Return the bytes of a fixture.
    """
    return (FIXTURES / f"webhook.{sample}.json").read_bytes()


def attempt(raw):
    """
    Return the problems of *raw*, or the webhook's key and accounts.
    """
    try:
        webhook = decode_webhook(raw)
    except DecodeError as error:
        return error.problems
    return event_key(webhook), getattr(webhook, "accounts", ())


def enrichment_of(account):
    """
    Return a megabyte of enrichment, in which each account is *account*.
    """
    accounts = ",".join([account] * (2**20 // (len(account) + 1)))
    return (
        f'{{"event_name":"ENRICHMENT_NOTIFICATION","accounts":[{accounts}]}}'
    )


def expired(**account):
    """
    Return the body of an expiry with one account.
    """
    return json.dumps(
        {
            "event_name": "SESSION_EXPIRY_NOTIFICATION",
            "accounts": [account],
        }
    )


names = st.sampled_from(
    [
        "event_name",
        "progress",
        "session_id",
        "accounts",
        "statements",
        "months",
        "missing_data",
        "session_date_range",
        "from_date",
        "created_at",
        "insights_available",
        "account_number",
    ]
)
trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        [
            "ENRICHMENT_NOTIFICATION",
            "SESSION_EXPIRY_NOTIFICATION",
            "31/02/2026",
            "2026-02-31 10:00:00",
            "00/00/0000",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6)
    ),
    max_leaves=30,
)


class TestDecodeWebhook:
    """
    `decode_webhook` returns a typed webhook or raises a `DecodeError`.
    """

    @pytest.mark.parametrize("sample", EXPECTED)
    def test_sample(self, sample):
        """
        Each documented body decodes to its kind and fields.
        """
        raw = read(sample)

        webhook = decode_webhook(raw)

        assert webhook == EXPECTED[sample]
        assert webhook.raw == json.loads(raw)

    def test_no_sample_forgotten(self):
        """
        The table has every fixture of a webhook.
        """
        samples = {
            path.name.removeprefix("webhook.").removesuffix(".json")
            for path in FIXTURES.glob("webhook.*")
        }

        assert samples == EXPECTED.keys() | CALLS

    def test_recovered(self):
        """
        An entry of the recovery response is the missed webhook, with the time
        at which it was due.
        """
        entries = json.loads(read("payloads.response.entity"))["payloads"]

        first, second = map(decode_webhook, entries)

        assert (
            attrs.evolve(first, date_time=None) == EXPECTED["entity.completed"]
        )
        assert first.date_time == datetime.datetime(2026, 3, 31, 10, 15, 30)  # noqa: DTZ001
        assert second.progress == "failed"

    @pytest.mark.parametrize(
        ("raw", "problem"),
        [
            (b"{}", "neither event_name nor progress @ $"),
            (b'{"event_name": null}', "neither event_name nor progress @ $"),
            (b'{"progress": " "}', "neither event_name nor progress @ $"),
            (b'{"event_name": 1}', "must be a text, not int @ $.event_name"),
            (b'{"progress": []}', "must be a text, not list @ $.progress"),
            (b"[]", "is not a JSON object @ $"),
            (b"event_name=x", "is not JSON @ $"),
            (b'{"progress": NaN}', "is not JSON @ $"),
            (b"\xff", "is not JSON @ $"),
            (b"[" * 100_000, "is not JSON @ $"),
            (
                expired(months=["2026-01", 2]),
                "must be a text, not int @ $.accounts[0].months[1]",
            ),
            (
                expired(statements=[{"created_at": 5}]),
                "must be a text, not int"
                " @ $.accounts[0].statements[0].created_at",
            ),
            (
                expired(missing_data={}),
                "must be an array, not dict @ $.accounts[0].missing_data",
            ),
            (
                b'{"event_name": "ENRICHMENT_NOTIFICATION",'
                b' "insights_available": "false"}',
                "must be true or false, not str @ $.insights_available",
            ),
            (
                b'{"event_name": "ENRICHMENT_NOTIFICATION", "accounts": [1]}',
                "must be an object, not int @ $.accounts[0]",
            ),
        ],
    )
    def test_malformed(self, raw, problem):
        """
        A webhook that breaks the contract is a `DecodeError` that names the
        path.
        """
        with pytest.raises(DecodeError) as caught:
            decode_webhook(raw)

        assert caught.value.problems == (problem,)

    def test_unknown(self):
        """
        An unknown name passes through with all of its fields.
        """
        webhook = decode_webhook(
            b'{"event_name": "AA_NOTIFICATION", "session_id": "s", "x": [1]}'
        )

        assert webhook == UnknownWebhook(
            event_name="AA_NOTIFICATION", session_id="s"
        )
        assert webhook.raw["x"] == [1]

    def test_nothing_but_the_name(self):
        """
        Missing keys, null and empty accounts are tolerated.
        """
        webhook = decode_webhook(
            b'{"event_name": "SESSION_EXPIRY_NOTIFICATION",'
            b' "accounts": null, "session_date_range": null}'
        )

        assert webhook == ExpiryWebhook(
            event_name="SESSION_EXPIRY_NOTIFICATION"
        )

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("01/02/2026", datetime.date(2026, 2, 1)),
            ("2026-02-01", datetime.date(2026, 2, 1)),
            ("31/02/2026", None),
            ("2026-13-01", None),
            ("00/00/0000", None),
            ("1/2/2026", None),
            ("", None),
        ],
    )
    def test_dates(self, text, expected):
        """
        Both documented forms are dates, and anything else is kept as text.
        """
        webhook = decode_webhook(expired(missing_data=[{"from_date": text}]))

        (gap,) = webhook.accounts[0].missing_data
        assert gap.from_date == expected
        assert gap.raw == {"from_date": text}

    @pytest.mark.parametrize(
        "text", ["yesterday", "2026-02-31 10:00:00", "2026-02-01", "٢٠٢٦"]
    )
    def test_no_timestamps(self, text):
        """
        A timestamp that cannot be parsed is `None`, and its text is in `raw`.
        """
        webhook = decode_webhook(expired(created_at=text))

        (account,) = webhook.accounts
        assert account.created_at is None
        assert account.raw == {"created_at": text}

    @pytest.mark.parametrize(
        ("number", "shown"),
        [
            ("123456789012", "'XXXXXX9012'"),
            ("XXXXXXXX0042", "'XXXXXX0042'"),
            ("1234567", "'XXXXXX'"),
            (None, "None"),
        ],
    )
    def test_repr(self, number, shown):
        """
        No repr shows an account number or its holder.
        """
        webhook = decode_webhook(
            expired(account_number=number, name="Asha Rao")
        )

        assert f"account_number={shown}" in repr(webhook)
        assert "Asha" not in repr(webhook)
        assert repr(number) not in repr(webhook) or number is None

    def test_locals(self):
        """
        No frame of ours that raises holds the body.
        """
        with pytest.raises(DecodeError) as caught:
            decode_webhook(expired(account_number="123456789012", months=7))

        frames = [entry.frame for entry in caught.traceback][1:]
        assert "123456789012" not in repr([f.f_locals for f in frames])
        assert frames

    @pytest.mark.parametrize("sample", EXPECTED)
    def test_values(self, sample):
        """
        A webhook is hashable and survives pickling completely.
        """
        webhook = decode_webhook(read(sample))

        copy = pickle.loads(pickle.dumps(webhook))

        assert {copy} == {webhook}
        assert copy.raw == webhook.raw

    @settings(print_blob=True, deadline=None)
    @given(raw=st.dictionaries(names, trees, max_size=8) | trees)
    def test_any_tree(self, raw):
        """
        Any JSON value gives a webhook with a key, or an error of ours.
        """
        assert attempt(json.dumps(raw).encode())

    @settings(print_blob=True, deadline=None)
    @given(raw=st.binary() | st.text())
    def test_any_bytes(self, raw):
        """
        Bytes that are no JSON object are a `DecodeError`.
        """
        with pytest.raises(DecodeError):
            decode_webhook(raw)

    @pytest.mark.long
    @pytest.mark.parametrize("entry", ["1", '{"statements":[1,1]}'])
    def test_a_megabyte_of_problems(self, entry):
        """
        A megabyte of wrong accounts gives a short error.
        """
        with pytest.raises(DecodeError) as caught:
            decode_webhook(enrichment_of(entry))

        assert len(caught.value.problems) == 20

    @pytest.mark.long
    def test_a_megabyte_of_accounts(self):
        """
        A megabyte of accounts decodes.
        """
        webhook = decode_webhook(enrichment_of('{"x":"something"}'))

        assert len(webhook.accounts) > 50_000


def outcome_of(webhook):
    """
    Return what a webhook reports, without its words.
    """
    if isinstance(webhook, ExtractionWebhook):
        return attrs.astuple(webhook, filter=lambda each, _: each.eq)
    result = (
        enrichment_result(webhook)
        if isinstance(webhook, EnrichmentWebhook)
        else None
    )
    return type(webhook), webhook.session_id, result


class TestEventKey:
    """
    `event_key` recognises all reports of one outcome.
    """

    def test_distinct(self):
        """
        Two webhooks have one key if they report one outcome, in whatever
        words, and else two.
        """
        webhooks = [decode_webhook(read(sample)) for sample in EXPECTED]
        outcomes = {outcome_of(webhook) for webhook in webhooks}
        keys = {event_key(webhook) for webhook in webhooks}
        pairs = {(outcome_of(one), event_key(one)) for one in webhooks}

        assert len(keys) == len(outcomes) == len(pairs)
        assert len(keys) > len(EXPECTED) / 2

    @pytest.mark.parametrize(
        ("told", "result"),
        [
            ({}, "completed"),
            ({"accounts": ["completed"]}, "completed"),
            ({"accounts": ["completed", "FAILED"]}, "completed"),
            ({"accounts": ["failed", "failed"]}, "failed"),
            ({"accounts": ["completed"], "insights": False}, "failed"),
            ({"accounts": ["completed"], "insights": True}, "completed"),
        ],
    )
    def test_result_of_processing(self, told, result):
        """
        Processing failed if each account did, or if there are no insights.
        """
        webhook = EnrichmentWebhook(
            session_id="s-1",
            insights_available=told.get("insights"),
            accounts=tuple(
                WebhookAccount(account_status=status)
                for status in told.get("accounts", ())
            ),
        )
        usual = EnrichmentWebhook(session_id="s-1")

        assert enrichment_result(webhook) == result
        assert webhook.is_failed == (result == "failed")
        assert (event_key(webhook) == event_key(usual)) == (
            result == "completed"
        )

    def test_accounts(self):
        """
        The same outcome at two accounts of the API has two keys.
        """
        webhook = ExpiryWebhook(session_id="1")

        assert event_key(webhook, "a") != event_key(webhook, "b")
        assert event_key(webhook, "a") == event_key(
            attrs.evolve(webhook, key="k", link_id="customer-42"), "a"
        )

    @pytest.mark.parametrize("sample", EXPECTED)
    def test_repeats(self, sample):
        """
        The order of the keys and blanks make no difference.
        """
        body = json.loads(read(sample))
        again = json.dumps(dict(reversed(body.items())), indent=4)

        first, second = decode_webhook(read(sample)), decode_webhook(again)

        assert event_key(first) == event_key(second)

    @pytest.mark.parametrize("depth", [253, 254, 255, 500, 1000])
    @pytest.mark.parametrize("kind", ["array", "object"])
    def test_nested_deeply(self, kind, depth):
        """
        A body of any depth has a key of its own.
        """
        before, after = {"array": "[]", "object": ('{"a":', "}")}[kind]
        keys = {
            event_key(
                decode_webhook(
                    '{"event_name": "NEWS", "news": '
                    f"{before * depth}{inner}{after * depth}}}"
                )
            )
            for inner in (0, 0, 1, 2)
        }

        assert len(keys) == 3

    @pytest.mark.parametrize(
        "value",
        [
            decimal.Decimal("1.10"),
            "\ud800",
            {"\udfff": 1},
            2**64,
            -(2**64),
            [10**5000],
            [True, 1, 1.0, "1", None],
            {1: {2: 3}},
        ],
    )
    def test_any_value(self, value):
        """
        A body that another package has decoded has a key, too.
        """
        body = {"event_name": "NEWS", "session_id": "s", "news": value}
        again = dict(reversed(body.items()))
        other = {**body, "session_id": "t"}
        keys = [event_key(decode_webhook(one)) for one in (body, again, other)]

        assert keys[0] == keys[1] != keys[2]

    def test_values_that_look_alike(self):
        """
        Text, number and grouping make a difference.
        """
        values = [
            [2**64],
            [str(2**64)],
            [hex(2**64)],
            [2**64, []],
            [[2**64]],
            {"a": 2**64},
            ["a", 2**64],
            [2**64, "a"],
            [decimal.Decimal(2**64)],
        ]
        keys = {
            event_key(decode_webhook({"event_name": "NEWS", "news": value}))
            for value in values
        }

        assert len(keys) == len(values)

    def test_recovered(self):
        """
        A recovered webhook has the key of the missed one.
        """
        entry = json.loads(read("payloads.response.entity"))["payloads"][0]

        key = event_key(decode_webhook(entry))

        assert key == event_key(EXPECTED["entity.completed"])

    def test_made_by_hand(self):
        """
        Webhooks built without a body are distinguished by their fields.
        """
        one = event_key(ExpiryWebhook(session_id="1"))
        two = event_key(ExpiryWebhook(session_id="2"))

        assert one != two
