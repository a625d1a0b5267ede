"""
Every endpoint of both flows, against a server that was written apart.

The sandbox follows the contract, and so does the client; neither knows the
other's reading of it.
"""

import asyncio
import base64
import csv
import inspect
import io
import math

import pytest

from bankconnect_async import (
    AlreadyProcessingError,
    AsyncBankConnect,
    DuplicateStatementError,
    NotFoundError,
    NotReadyError,
    PasswordIncorrectError,
    ProcessingFailedError,
    StatementError,
    SuccessEvent,
    UnparsableStatementError,
    decode_event,
    decode_webhook,
)
from bankconnect_async._resources.entities import EntityHandle
from bankconnect_async._resources.sessions import SessionHandle
from bankconnect_async.sandbox import Sandbox, statement_pdf


def connect(sandbox):
    """Make a client of *sandbox*."""
    return AsyncBankConnect(
        sandbox.api_key,
        server_hash=sandbox.server_hash,
        base_url=sandbox.base_url,
        redirect_url=None,
    )


def methods(cls, *but):
    """List the fetching methods of a handle."""
    return sorted(
        name
        for name, _ in inspect.getmembers(cls, inspect.iscoroutinefunction)
        if not name.startswith("_") and name not in but
    )


async def test_from_a_customer_to_a_table():
    """
    A journey, its event, its confirmation, its processing, its transactions.
    """
    async with Sandbox("session") as sandbox, connect(sandbox) as bank:
        session = await bank.create_session("customer-42")
        played = await sandbox.play(session.session_id, "success")
        event = await bank.confirm(decode_event(played.messages[0]))
        assert isinstance(event, SuccessEvent)
        assert event.confirmed is True

        handle = bank.session(event.session_id)
        await handle.initiate_processing()
        status = await handle.wait(timeout=20, interval=0.1)
        insights = await handle.insights()

        assert status.insights_available
        table = io.StringIO()
        writer = csv.writer(table)
        for account in insights.accounts:
            for row in account.transactions:
                writer.writerow([row.date, row.amount, row.balance])
        rows = list(csv.reader(io.StringIO(table.getvalue())))
        assert len(rows) > 10
        assert insights.link_id == "customer-42"
        # What was printed adds up to the last paisa.
        for account in insights.accounts:
            pairs = zip(
                account.transactions, account.transactions[1:], strict=False
            )
            for before, after in pairs:
                sign = 1 if after.transaction_type == "credit" else -1
                assert before.balance + sign * after.amount == after.balance


async def test_a_webhook_ends_the_wait():
    """
    A webhook of the sandbox ends a wait's sleep.
    """
    async with (
        Sandbox(
            "session",
            processing_time=math.inf,
            webhook_url="https://lender.example/hook",
        ) as sandbox,
        connect(sandbox) as bank,
    ):
        session = await bank.create_session("customer-42")
        handle = bank.session(session.session_id)
        await handle.upload(statement_pdf())
        await handle.initiate_processing()
        steps = handle.watch(timeout=None, interval=3600)
        assert (await anext(steps)).session_progress == "processing"
        last = asyncio.create_task(anext(steps))
        await asyncio.sleep(0)

        sandbox.finish(session.session_id)
        sent = await sandbox.webhooks_sent()
        bank.notify(decode_webhook(sent[-1].body))

        async with asyncio.timeout(20):
            assert (await last).session_progress == "completed"
        status = await handle.wait(timeout=20)
        assert status.accounts[0].account_status == "completed"


class TestSessionFlow:
    """
    All of a session
    """

    async def test_uploads_and_refusals(self):
        """
        Good, encrypted, scanned and foreign files have distinct errors.
        """
        async with Sandbox("session") as sandbox, connect(sandbox) as bank:
            session = await bank.create_session("customer-42")
            handle = bank.session(session.session_id)
            assert (await handle.upload_status()).upload_status == "NO_UPLOADS"
            with pytest.raises(NotReadyError):
                await handle.progress()

            pdf = statement_pdf(password="pw")
            uploaded = await handle.upload(pdf, pdf_password="pw")
            await handle.upload(statement_pdf())

            assert uploaded.identity.account_number
            assert uploaded.page_count
            for content, error in [
                (statement_pdf(), DuplicateStatementError),
                (pdf, PasswordIncorrectError),
                (statement_pdf(scanned=True), UnparsableStatementError),
                (b"no PDF", StatementError),
            ]:
                with pytest.raises(error):
                    await handle.upload(content)
            assert await handle.is_uploaded()

    async def test_every_endpoint(self, tmp_path):
        """
        Each response decodes, links lead to files, and delete deletes.
        """
        async with Sandbox("session") as sandbox, connect(sandbox) as bank:
            session = await bank.create_session("customer-42")
            handle = bank.session(session.session_id)
            await handle.upload(statement_pdf())
            await handle.initiate_processing()
            with pytest.raises(AlreadyProcessingError):
                await handle.initiate_processing()
            steps = [step async for step in handle.watch(interval=0.1)]
            assert steps[-1].session_progress == "completed"

            names = methods(
                SessionHandle, "upload", "initiate_processing", "delete"
            )
            answers = {name: await getattr(handle, name)() for name in names}

            assert len(answers["transactions"]["transactions"]) > 10
            (pdf,) = answers["pdfs"]
            await bank.download(pdf.pdf_url, to=tmp_path / "x.pdf")
            assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
            report = answers["xlsx_report"].reports[0]
            assert await bank.download(report.link, to=tmp_path / "x.xlsx")
            await handle.delete()
            await handle.delete()
            with pytest.raises(NotFoundError):
                await handle.status()

    async def test_failures_are_told(self):
        """
        The error has the failed account and the sandbox's reason.
        """
        async with Sandbox("session") as sandbox, connect(sandbox) as bank:
            session = await bank.create_session("customer-42")
            handle = bank.session(session.session_id)
            await handle.upload(statement_pdf())
            await handle.initiate_processing()
            sandbox.finish(session.session_id, error_code="UNPARSABLE")

            with pytest.raises(ProcessingFailedError) as caught:
                await handle.wait(timeout=20)

        assert "UNPARSABLE" in {each.code for each in caught.value.failures}

    async def test_the_organisation(self):
        """
        Banks and their health are listed.
        """
        async with Sandbox("session") as sandbox, connect(sandbox) as bank:
            assert "AXIS" in {each.name for each in await bank.banks()}
            assert await bank.net_banking_health()


# What did not exist on the day of the seed (contract, section 12).
LATER = {
    "expense_categories",
    "monthly_analysis_updated",
    "pdfs",
    "predictors",
    "rolling_monthly_analysis",
    "score",
    "top_credits_debits",
    "xlsx_report",
}


class TestEntityFlow:
    """
    All of an entity
    """

    @pytest.mark.parametrize("dialect", ["entity", "seed"])
    async def test_every_endpoint(self, dialect):
        """
        Each response of both dialects decodes.
        """
        absent = LATER if dialect == "seed" else {"excel_report"}
        async with Sandbox(dialect) as sandbox, connect(sandbox) as bank:
            entity = await bank.create_entity("c1", meta_data={"a": 1})
            handle = bank.entity(entity.entity_id)
            uploaded = await handle.upload(statement_pdf(), bank_name="axis")
            assert uploaded.entity_id == entity.entity_id

            (statement,) = await handle.wait(interval=0.1)

            assert statement.statement_id == uploaded.statement_id
            names = methods(EntityHandle, "upload", "wait", *absent)
            answers = {name: await getattr(handle, name)() for name in names}
            rows = answers["transactions"].transactions
            assert len(rows) > 10
            some = await handle.transactions(
                account_id=rows[0].account_id,
                from_date=rows[5].date.date(),
                to_date=rows[5].date.date(),
            )
            assert rows[5] in some.transactions
            assert len(some.transactions) < len(rows)
            (webhook,) = await bank.webhook_payloads("c1")
            assert webhook.entity_id == entity.entity_id
            for name in absent:
                with pytest.raises(NotFoundError):
                    await getattr(handle, name)()

    async def test_every_upload(self, tmp_path):
        """
        The four endpoints accept the same file from every source.
        """
        path = tmp_path / "x.pdf"
        path.write_bytes(statement_pdf(link_id="c"))
        text = base64.b64encode(path.read_bytes()).decode()
        async with Sandbox("entity") as sandbox, connect(sandbox) as bank:
            uploads = [
                await bank.upload(path, link_id="c1", bank_name="axis"),
                await bank.upload(path, link_id="c2"),
                await bank.upload(base64=text, link_id="c3", bank_name="axis"),
                await bank.upload(base64=text, link_id="c4"),
                await bank.upload(
                    url="https://files.example/x.pdf", link_id="c5"
                ),
            ]

            assert len({each.entity_id for each in uploads}) == 5
            for operation in (
                "upload",
                "bankless_upload",
                "upload_base64",
                "bankless_upload_base64",
            ):
                assert sandbox.processed(operation)
            with pytest.raises(UnparsableStatementError) as caught:
                await bank.upload(statement_pdf(scanned=True), link_id="c6")
            assert caught.value.entity_id

    async def test_all_pages(self):
        """
        The list continues over several pages.
        """
        async with Sandbox("entity") as sandbox, connect(sandbox) as bank:
            wanted = {f"c{number}" for number in range(23)}
            for link_id in wanted:
                await bank.create_entity(link_id)

            found = [each.link_id async for each in bank.entities()]
            one = [each async for each in bank.entities(link_id="c7")]

            assert (len(found), set(found)) == (23, wanted)
            assert [each.link_id for each in one] == ["c7"]
