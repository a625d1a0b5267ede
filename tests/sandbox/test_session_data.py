"""
The session flow from the first upload to the insights, in plain HTTP.
"""

import asyncio
import datetime
import math
import re

import aiohttp
import pytest

from bankconnect_async.errors import ConfigurationError, InvalidRequestError
from bankconnect_async.sandbox import Sandbox, statement_pdf
from bankconnect_async.sandbox.journey.session_table import SessionTable
from bankconnect_async.testing import FakeClock


KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}
LINK_ID = "cust-7f31-0042"
ASKED = {"from_date": "01/10/2025", "to_date": "31/03/2026"}
EPOCH = 1775026114.0
UPLOADED = "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION"
EXPIRED = "SESSION_EXPIRY_NOTIFICATION"
ENRICHED = "ENRICHMENT_NOTIFICATION"
COMPLETED = "session_data.progress.response.completed.json"
ACCEPTED = "session_data.initiate_processing.response.json"
# Figures and variables, of which the sample shows a few.
FREE = {
    "$.accounts[].data.monthly_analysis",
    "$.accounts[].data.monthly_analysis.*",
    "$.accounts[].data.predictors",
    "$.accounts[].data.eod_balances",
    "$.accounts[].data.eod_balances.*",
    "$.aggregate_monthly_analysis",
    "$.aggregate_monthly_analysis.*",
}
PARTS = [
    "identity",
    "transactions",
    "predictors",
    "eod_balances",
    "monthly_analysis_updated",
    "recurring_transactions",
    "xlsx_report",
]


@pytest.fixture(name="ask")
def _ask(http):
    """
    Send a request about a session, and return status and JSON.
    """

    async def ask(sandbox, session, name, method="GET"):
        url = f"{sandbox.base_url}/v1/session_data/{session.session_id}"
        async with http.request(
            method, f"{url}/{name}/", headers=BOTH
        ) as answer:
            return answer.status, await answer.json()

    return ask


@pytest.fixture(name="put")
def _put(http):
    """
    Upload a statement into a session, and return the response.
    """

    async def put(sandbox, session, first=(2025, 10, 1), last=(2026, 3, 31)):
        data = aiohttp.FormData({"upload_type": "PDF"})
        data.add_field("session_id", session.session_id)
        pdf = statement_pdf(
            "axis",
            LINK_ID,
            from_date=datetime.date(*first),
            to_date=datetime.date(*last),
            edited=True,
        )
        data.add_field("file", pdf, filename="a.pdf")
        url = f"{sandbox.base_url}/v1/statement/upload_session/"
        async with http.post(url, data=data, headers=KEY) as answer:
            assert answer.status == 200
            return await answer.json()

    return put


def at_work(**kwargs):
    """
    Make a sandbox on the sample's day, whose processing takes two seconds.
    """
    clock = FakeClock(epoch=EPOCH)
    return Sandbox("session", clock=clock, processing_time=2, **kwargs)


class TestUploads:
    """
    Uploads, before processing is requested.
    """

    async def test_partial(
        self, create, put, ask, differences, sample_json, receiver
    ):
        """
        Uploads are in progress until every month is there, then completed.
        """
        documented = sample_json(
            "session_data.session_upload_status.response.json"
        )
        async with at_work(webhook_url=receiver.url) as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session, last=(2026, 1, 15))
            _, partial = await ask(sandbox, session, "session_upload_status")
            before = list(await sandbox.webhooks_sent())
            await put(sandbox, session, first=(2026, 2, 1))
            _, complete = await ask(sandbox, session, "session_upload_status")
            (sent,) = await sandbox.webhooks_sent()

        (account,) = partial["accounts"]
        assert partial["upload_status"] == "IN_PROGRESS"
        assert not differences(partial, documented)
        assert account["account_status"] == "PARTIAL"
        assert account["missing_data"] == [
            {"from_date": "2026-01-16", "to_date": "2026-03-31"}
        ]
        assert before == []
        (account,) = complete["accounts"]
        assert complete["upload_status"] == "COMPLETED"
        assert account["account_status"] == "COMPLETED"
        assert len(account["statements"]) == 2
        assert sent.body["event_name"] == UPLOADED

    async def test_accept_anything(self, create, put, ask):
        """
        A session that accepts anything is complete with one statement.
        """
        async with at_work() as sandbox:
            session = await create(sandbox, **ASKED, accept_anything=True)
            await put(sandbox, session, last=(2025, 10, 31))
            _, body = await ask(sandbox, session, "session_upload_status")

        assert body["upload_status"] == "COMPLETED"

    async def test_expiry(self, create, put, ask, receiver):
        """
        A session in progress expires, and its webhook lists the uploads.
        """
        async with at_work(webhook_url=receiver.url) as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session, last=(2026, 1, 31))
            sandbox.expire(session.session_id)
            _, body = await ask(sandbox, session, "session_upload_status")
            (sent,) = await sandbox.webhooks_sent()

        assert body["upload_status"] == "EXPIRED"
        assert sent.body["event_name"] == EXPIRED
        assert len(sent.body["accounts"]) == 1

    async def test_after_the_journey(self, create, put, ask):
        """
        A completed session accepts more uploads until processing begins.
        """
        async with at_work() as sandbox:
            session = await create(sandbox, **ASKED)
            await sandbox.play(session.session_id, "success")
            await put(sandbox, session)
            _, body = await ask(sandbox, session, "session_upload_status")

        (account,) = body["accounts"]
        assert len(account["statements"]) == 2


class TestProcessing:
    """
    From `initiate_processing` on.
    """

    @pytest.mark.parametrize(
        "name", ["progress", "session_status", "insights", *PARTS]
    )
    async def test_too_early(self, create, put, ask, sample_json, name):
        """
        The data are refused before and during processing.
        """
        not_asked = sample_json(
            "error.session_data.processing_not_requested.json"
        )
        not_over = sample_json(
            "error.session_data.processing_not_completed.json"
        )
        async with at_work() as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session)
            before = await ask(sandbox, session, name)
            await ask(sandbox, session, "initiate_processing", "POST")
            while_ = await ask(sandbox, session, name)

        assert before == (400, not_asked)
        if name == "progress":
            assert while_[1]["session_progress"] == "processing"
        else:
            assert while_ == (400, not_over)

    async def test_progress(self, create, put, ask, differences, sample_json):
        """
        Processing is accepted once, takes its time, and completes.
        """
        completed = sample_json(COMPLETED)
        accepted = sample_json(ACCEPTED)
        async with at_work() as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session)
            first = await ask(sandbox, session, "initiate_processing", "POST")
            again = await ask(sandbox, session, "initiate_processing", "POST")
            _, early = await ask(sandbox, session, "progress")
            sandbox.clock.now += 2
            status, late = await ask(sandbox, session, "progress")

        assert first == (202, {**accepted, "session_id": session.session_id})
        assert again == (
            400,
            sample_json(
                "error.session_data.duplicate_processing_request.json"
            ),
        )
        for body in (early, late):
            assert not differences(body, completed)
        assert status == 200
        assert early["progress"][0]["transaction_status"] == "processing"
        assert late["session_progress"] == "completed"

    async def test_nothing_to_process(self, create, ask, sample_json):
        """
        A session without uploads cannot be processed.
        """
        async with at_work() as sandbox:
            session = await create(sandbox)
            answer = await ask(sandbox, session, "initiate_processing", "POST")

        assert answer == (
            400,
            sample_json("error.session_data.unparsable_statements.json"),
        )

    async def test_page_feeds_it(self, create, ask, http):
        """
        A session completed on the page can be processed.
        """
        async with at_work() as sandbox:
            session = await create(sandbox, **ASKED, bank_name="hdfc")
            async with http.post(
                session.redirect_url, json={"action": "success"}
            ) as answer:
                assert answer.status == 200
            status, _ = await ask(
                sandbox, session, "initiate_processing", "POST"
            )
            sandbox.finish(session.session_id)
            _, body = await ask(sandbox, session, "insights")

        assert status == 202
        (account,) = body["accounts"]
        assert account["data"]["account_details"]["bank"] == "hdfc"

    async def test_v2(self, sandbox, create, put, ask):
        """
        Sessions of v2 are processed alike in every dialect.
        """
        session = await create(sandbox, "v2", **ASKED)
        await put(sandbox, session)
        await ask(sandbox, session, "initiate_processing", "POST")
        sandbox.finish(session.session_id)
        status, _ = await ask(sandbox, session, "insights")

        assert status == 200

    async def test_finish(self, create):
        """
        `finish` refuses a session that is not being processed.
        """
        async with at_work() as sandbox:
            session = await create(sandbox)
            for owner_id in (session.session_id, "nobody"):
                with pytest.raises(InvalidRequestError, match="not being"):
                    sandbox.finish(owner_id)
        with pytest.raises(RuntimeError, match="async with"):
            sandbox.finish("nobody")

    async def test_finished_already(self, create, put, ask):
        """
        `finish` refuses a session whose processing is over.
        """
        async with at_work() as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session)
            await ask(sandbox, session, "initiate_processing", "POST")
            sandbox.finish(session.session_id)
            with pytest.raises(InvalidRequestError):
                sandbox.finish(session.session_id)

    @pytest.mark.parametrize(
        "processing_time", [-1, "soon", None, True, math.nan]
    )
    def test_bad_time(self, processing_time):
        """
        The error names a bad `processing_time`.
        """
        with pytest.raises(ConfigurationError) as caught:
            Sandbox(processing_time=processing_time)

        assert caught.value.fields.keys() == {"processing_time"}


class TestOutcome:
    """
    The results of processing.
    """

    @pytest.fixture(name="processed")
    async def _processed(self, create, put, ask, receiver):
        """A sandbox with a processed session, and that session."""
        async with at_work(webhook_url=receiver.url) as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session)
            await ask(sandbox, session, "initiate_processing", "POST")
            sandbox.finish(session.session_id)
            yield sandbox, session

    async def test_status(self, processed, ask, differences, sample_json):
        """
        A good account is completed, with its number masked.
        """
        documented = sample_json(
            "session_data.session_status.response.completed.json"
        )
        status, body = await ask(*processed, "session_status")

        (account,) = body["accounts"]
        assert status == 200
        assert not differences(body, documented)
        assert body["insights_available"] is True
        assert account["account_status"] == "completed"
        assert re.fullmatch(r"X{12}\d{4}", account["account_number"])
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}Z",
            account["statements"][0]["created_at"],
        )

    async def test_insights(self, processed, ask, differences, sample_json):
        """
        The insights have the keys and types of the sample, however deep.
        """
        documented = sample_json("session_data.insights.response.json")
        status, body = await ask(*processed, "insights")

        (account,) = body["accounts"]
        (sample,) = documented["accounts"]
        data = account["data"]
        # The sample shows numbers only, the list of names has other types.
        documented["aggregate_monthly_analysis"] = sample["data"][
            "monthly_analysis"
        ]
        assert status == 200
        assert not differences(body, documented, free=FREE)
        assert data["predictors"].keys() >= (
            sample["data"]["predictors"].keys()
        )
        assert data["monthly_analysis"].keys() >= (
            sample["data"]["monthly_analysis"].keys()
        )
        assert body["session_date_range"] == documented["session_date_range"]
        assert body["link_id"] == LINK_ID

    async def test_webhook(
        self, processed, receiver, differences, sample_json
    ):
        """
        The webhook about the end is sent once, as documented.
        """
        documented = sample_json("webhook.session.enrichment.completed.json")
        sandbox, session = processed
        sent = await sandbox.webhooks_sent()

        assert [webhook.body["event_name"] for webhook in sent] == [
            UPLOADED,
            ENRICHED,
        ]
        assert not differences(receiver.bodies[-1], documented)
        assert receiver.bodies[-1]["session_id"] == session.session_id
        assert receiver.bodies[-1]["insights_available"] is True

    async def test_webhook_by_itself(self, create, put, ask, receiver):
        """
        The webhook is sent without another request.
        """
        async with Sandbox(
            "session", webhook_url=receiver.url, processing_time=0.01
        ) as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session)
            await ask(sandbox, session, "initiate_processing", "POST")
            while len(sent := await sandbox.webhooks_sent()) < 2:
                await asyncio.sleep(0.005)

        assert sent[-1].body["event_name"] == ENRICHED

    async def test_deleted_meanwhile(
        self, create, put, ask, receiver, monkeypatch
    ):
        """
        A session deleted during processing sends no webhook.
        """
        clock = FakeClock(epoch=EPOCH)
        due = []
        monkeypatch.setattr(
            SessionTable, "_call_later", lambda _, __, then: due.append(then)
        )
        async with Sandbox(
            "session", webhook_url=receiver.url, clock=clock
        ) as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session)
            await ask(sandbox, session, "initiate_processing", "POST")
            await ask(sandbox, session, "delete", "DELETE")
            clock.now += 1
            (processed,) = due
            processed()
            sent = await sandbox.webhooks_sent()

        assert [webhook.body["event_name"] for webhook in sent] == [UPLOADED]

    async def test_stops_with_the_sandbox(self, create, put, ask):
        """
        A closed sandbox sends no webhook.
        """
        async with Sandbox("session", processing_time=60) as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session)
            await ask(sandbox, session, "initiate_processing", "POST")

        assert not sandbox._journeys._timers

    async def test_failed(
        self, create, put, ask, receiver, differences, sample_json
    ):
        """
        A test can make an account fail; its data are then unavailable.
        """
        status_sample = sample_json(
            "session_data.session_status.response.failed.json"
        )
        webhook_sample = sample_json("webhook.session.enrichment.failed.json")
        async with at_work(webhook_url=receiver.url) as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session)
            await ask(sandbox, session, "initiate_processing", "POST")
            sandbox.finish(session.session_id, error_code="UNPARSABLE")
            _, progress = await ask(sandbox, session, "progress")
            _, status = await ask(sandbox, session, "session_status")
            _, insights = await ask(sandbox, session, "insights")
            await sandbox.webhooks_sent()

        (account,) = status["accounts"]
        (sample,) = status_sample["accounts"]
        assert progress["session_progress"] == "completed"
        assert progress["progress"][0]["processing_status"] == "failed"
        assert not differences(status, status_sample)
        assert (account["error_code"], account["error_message"]) == (
            sample["error_code"],
            sample["error_message"],
        )
        assert status["insights_available"] is False
        assert insights["accounts"] == []
        assert not differences(receiver.bodies[-1], webhook_sample)
        assert receiver.bodies[-1]["accounts"][0]["error_code"] == "UNPARSABLE"

    async def test_other_code(self, create, put, ask):
        """
        A code without a text of its own has that of the general failure.
        """
        async with at_work() as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session)
            await ask(sandbox, session, "initiate_processing", "POST")
            sandbox.finish(session.session_id, error_code="NEW_CODE")
            _, status = await ask(sandbox, session, "session_status")

        (account,) = status["accounts"]
        assert (
            account["error_message"]
            == "Failed to process because of an unparsable statement"
        )

    async def test_incomplete(self, create, put, ask):
        """
        An account with missing months fails and lists them.
        """
        async with at_work() as sandbox:
            session = await create(sandbox, **ASKED)
            await put(sandbox, session, last=(2026, 1, 31))
            await ask(sandbox, session, "initiate_processing", "POST")
            _, upload = await ask(sandbox, session, "session_upload_status")
            sandbox.finish(session.session_id)
            _, status = await ask(sandbox, session, "session_status")

        (account,) = status["accounts"]
        assert upload["upload_status"] == "COMPLETED"
        assert account["error_code"] == "INCOMPLETE_MONTHS_UPLOAD"
        assert "Feb 2026, Mar 2026" in account["error_message"]

    async def test_pdfs(self, processed, ask, differences, sample_json):
        """
        `get_pdfs` lists the stored files.
        """
        status, body = await ask(*processed, "get_pdfs")

        assert status == 200
        assert not differences(
            body, sample_json("get_pdfs.response.session.json")
        )

    @pytest.mark.parametrize("name", PARTS)
    async def test_parts(self, processed, ask, name):
        """
        Each part of the older page is there, under the session's id.
        """
        _, session = processed
        status, body = await ask(*processed, name)

        (key,) = body.keys() - {"session_id", "accounts"}
        assert status == 200
        assert body["session_id"] == session.session_id
        assert body[key]

    async def test_report_links(
        self, processed, ask, differences, sample_json
    ):
        """
        The links to workbooks have the documented shape.
        """
        documented = sample_json("xlsx_report.response.json")
        _, body = await ask(*processed, "xlsx_report")

        assert body.keys() == {"session_id", "reports"}
        assert not differences(body["reports"], documented["reports"])


class TestCatalogue:
    """
    `banks/catalogue/`.
    """

    async def test_shape(self, http, differences, sample_json):
        """
        The catalogue lists every bank with its modes.
        """
        documented = sample_json("banks_catalogue.response.json")
        async with (
            Sandbox("session") as sandbox,
            http.get(
                f"{sandbox.base_url}/v1/banks/catalogue/", headers=BOTH
            ) as answer,
        ):
            body = await answer.json()

        by_name = {bank["name"]: bank for bank in body["banks"]}
        assert not differences(body, documented)
        assert body["count"] == len(body["banks"]) > 300
        for sample in documented["banks"]:
            found = {**by_name[sample["name"]], "logo_url": sample["logo_url"]}
            assert found == sample


class TestRecurring:
    """
    Account Aggregator: recurring consents.
    """

    @pytest.fixture(name="post")
    def _post(self, http):
        """Post to one of the two endpoints."""

        async def post(sandbox, name, **kwargs):
            url = f"{sandbox.base_url}/v1/account_aggregator/{name}/"
            async with http.post(url, headers=KEY, **kwargs) as answer:
                return answer.status, await answer.json()

        return post

    @pytest.fixture(name="consents")
    def _consents(self, post):
        """Request the consents of a session."""

        async def consents(sandbox, session_id):
            return await post(
                sandbox,
                "get_recurring_consent_details",
                params={"session_id": session_id},
            )

        return consents

    @pytest.mark.parametrize(
        ("version", "parameters", "there"),
        [
            (
                "v1",
                {
                    "aa_journey_mode": "only_recurring",
                    "aa_recurring_frequency_unit": "day",
                    "aa_recurring_frequency_value": 3,
                },
                True,
            ),
            ("v2", {"aa_journey_code": "BCAA002"}, True),
            ("v2", {"aa_journey_code": "BCAA001"}, False),
            ("v1", {}, False),
        ],
    )
    async def test_consents(
        self,
        create,
        consents,
        differences,
        sample_json,
        version,
        parameters,
        there,
    ):
        """
        An approved, recurring journey has a consent, also under the misprinted
        path.
        """
        documented = sample_json(
            "aa.get_recurring_consent_details.response.json"
        )
        async with Sandbox("session") as sandbox:
            session = await create(
                sandbox, version, bank_name="hdfc", mode="aa", **parameters
            )
            _, before = await consents(sandbox, session.session_id)
            await sandbox.play(session.session_id, "success", mode="aa")
            answer = await consents(sandbox, session.session_id)
            slip = await consents(sandbox, f"{session.session_id}/")

        assert before == {"consent_details": []}
        assert answer == slip
        assert not differences(answer[1], documented)
        assert bool(answer[1]["consent_details"]) is there

    async def test_fetch(self, create, consents, post, ask, sample_json):
        """
        A fetch creates a session, as often as the consent allows.
        """
        asked = sample_json("aa.fetch_recurring_aa_data.request.json")
        async with at_work() as sandbox:
            session = await create(
                sandbox, "v2", bank_name="hdfc", aa_journey_code="BCAA002"
            )
            await sandbox.play(session.session_id, "success", mode="aa")
            _, shown = await consents(sandbox, session.session_id)
            (consent,) = shown["consent_details"]
            body = {**asked, "consent_id": consent["consent_id"]}
            answers = [
                await post(sandbox, "fetch_recurring_aa_data", json=body)
                for _ in range(4)
            ]
            sandbox.clock.now += 86400
            later = await post(sandbox, "fetch_recurring_aa_data", json=body)
            new = sandbox.sessions[answers[0][1]["session_id"]]
            _, insights = await ask(sandbox, new, "insights")
            await ask(sandbox, session, "delete", "DELETE")
            revoked = await post(sandbox, "fetch_recurring_aa_data", json=body)

        assert [status for status, _ in answers] == [200, 200, 200, 400]
        assert answers[3][1]["error"]["code"] == "CONSENT_OVERUSED"
        assert later[0] == 200
        assert new.link_id == LINK_ID
        (account,) = insights["accounts"]
        (stats,) = account["data"]["statement_stats"]
        assert (stats["source"], stats["bank"]) == ("AA", "hdfc")
        assert insights["session_date_range"] == {
            "from_date": "2025-10-10",
            "to_date": "2025-11-10",
        }
        assert revoked[1]["error"]["code"] == "CONSENT_REVOKED"

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({}, "INVALID_CONSENT_ID"),
            ({"date_time_range_from": "10/12/2025"}, "INVALID_DATE_RANGE"),
            ({"date_time_range_to": "2025-12-10"}, "INVALID_DATE_RANGE"),
        ],
    )
    async def test_bad_fetch(self, post, sample_json, body, code):
        """
        Each problem has its documented code.
        """
        asked = sample_json("aa.fetch_recurring_aa_data.request.json")
        async with Sandbox("session") as sandbox:
            status, answer = await post(
                sandbox, "fetch_recurring_aa_data", json={**asked, **body}
            )

        assert (status, answer["error"]["code"]) == (400, code)

    async def test_bad_session(self, sandbox, create, consents):
        """
        Only sessions of this flow have consents.
        """
        session = await create(sandbox)
        answers = [
            await consents(sandbox, session_id)
            for session_id in (session.session_id, "nobody", "")
        ]

        assert {status for status, _ in answers} == {400}
        assert {body["error"]["code"] for _, body in answers} == {
            "INVALID_SESSION_ID"
        }


async def test_modes(http):
    """
    A disabled mode is refused over HTTP, too.
    """
    body = {
        "link_id": LINK_ID,
        "api_key": "sandbox-api-key",
        "bank_name": "hdfc",
        "mode": "aa",
    }
    async with (
        Sandbox("session", modes=("pdf",)) as sandbox,
        http.post(f"{sandbox.base_url}/v2/session/", json=body) as answer,
    ):
        status, error = answer.status, (await answer.json())["error"]

    assert (status, error["code"]) == (403, "MODE_NOT_ENABLED")


@pytest.mark.parametrize("modes", ["pdf", ("paper",)])
def test_bad_modes(modes):
    """
    The error names an unknown mode.
    """
    with pytest.raises(ConfigurationError) as caught:
        Sandbox(modes=modes)

    assert caught.value.fields.keys() == {"modes"}
