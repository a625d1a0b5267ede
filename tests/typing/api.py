"""
What type checkers must make of our interface; checked, never run.
"""

from collections.abc import AsyncIterator
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any, assert_never, assert_type

from aiohttp import web
from fastapi import FastAPI, Request
from starlette.types import Scope
from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    BankConnectError,
    Collected,
    Collection,
    CollectionJournal,
    CollectionStats,
    Created,
    Delivery,
    Failed,
    Failure,
    MemorySessionStore,
    NotCollected,
    Outcome,
    ProcessingFailedError,
    RetryPolicy,
    SavedFile,
    Session,
    SessionRequest,
    SessionStore,
    SQLiteSessionStore,
    Webhook,
)
from bankconnect_async import (
    models as answers,
)
from bankconnect_async._resources.entities import EntityHandle
from bankconnect_async._resources.sessions import SessionHandle
from bankconnect_async.distributed import create_sessions_distributed
from bankconnect_async.journal import read_journal
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.stats import BatchStats
from bankconnect_async.testing import (
    FAILURES,
    DocumentedFailure,
    enrichment_webhook,
    make_client,
)
from bankconnect_async.web import (
    CallbackService,
    WebResponse,
    asgi_app,
    mount,
)


async def create() -> None:
    async with (
        Sandbox("entity") as sandbox,
        AsyncBankConnect(
            sandbox.api_key,
            base_url=sandbox.base_url,
            redirect_url=URL("https://lender.example/return"),
        ) as bank,
    ):
        session = await bank.create_session("customer-42")
        assert_type(session, Session)
        assert_type(session.redirect_url, URL)
        assert_type(session.url, str)
        assert_type(session.as_dict(), dict[str, Any])
        assert_type(
            await bank.create_session(
                "customer-42", bank_name="axis", from_date=date(2026, 1, 1)
            ),
            Session,
        )
        assert_type(bank.session(session), SessionHandle)
        assert_type(session.session_id, str | None)
        await bank.create_session(
            SessionRequest(
                link_id="customer-42",
                redirect_url=None,
                from_date=date(2026, 1, 1),
                aa_recurring_tenure_month=12,
                extra={"program_id": "P1"},
            ),
            retry=RetryPolicy(attempts=1, delivery="at-most-once"),
        )


async def distribute() -> None:
    stats = await create_sessions_distributed(
        link_ids(), cluster="local", journal="out.jsonl", rate=500
    )
    assert_type(stats, BatchStats)


async def link_ids() -> AsyncIterator[str]:
    yield "customer-42"


async def create_many(bank: AsyncBankConnect) -> None:
    async with bank.create_sessions(link_ids(), ordered=True) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, Outcome)
            match outcome:
                case Created(request=request, session=session):
                    assert_type(request, SessionRequest)
                    assert_type(session, Session)
                case Failed(error=error):
                    assert_type(error, BankConnectError)
                    assert_type(error.delivery, Delivery | None)
                case _:
                    assert_never(outcome)
    async with bank.create_sessions(
        [SessionRequest(link_id="c", redirect_url=None), "customer-42"]
    ):
        pass


async def collect_many(
    bank: AsyncBankConnect, sessions: list[Session]
) -> None:
    async with bank.collect(read_journal("c.jsonl"), to="c") as collection:
        assert_type(collection, Collection)
        async for outcome in collection:
            match outcome:
                case Collected(kind=kind, files=files):
                    assert_type(kind, str)
                    assert_type(files, tuple[SavedFile, ...])
                case NotCollected(error=error):
                    assert_type(error, BankConnectError)
                case _:
                    assert_never(outcome)
        assert_type(collection.stats(), CollectionStats)
    bank.collect(sessions, what=["pdfs"], journal=CollectionJournal("j"))
    bank.collect(["id"], flow="entity", save=_save)


async def _save(collected: Collected) -> None:
    del collected


async def use_a_session(bank: AsyncBankConnect, webhook: Webhook) -> None:
    session = bank.session("session-id")
    assert_type(session, SessionHandle)
    uploaded = await session.upload(Path("x.pdf"), pdf_password="p")
    assert_type(uploaded, answers.SessionUpload)
    assert_type(uploaded.opening_bal, Decimal | None)
    await session.upload(BytesIO(b"%PDF"), bank_name="axis")
    await session.upload(url="https://files.example/x.pdf")
    await session.upload(base64="JVBERi0=")
    assert_type(await session.initiate_processing(), None)
    async for progress in session.watch(timeout=None):
        assert_type(progress, answers.SessionProgress)
    bank.notify(webhook)
    try:
        status = await session.wait(timeout=60, interval=5)
        assert_type(status, answers.SessionStatus)
    except ProcessingFailedError as error:
        assert_type(error.failures, tuple[Failure, ...])
    insights = await session.insights()
    for account in insights.accounts:
        for row in account.transactions:
            assert_type(row.amount, Decimal | None)
            assert_type(row.date, datetime | None)
    for pdf in await session.pdfs():
        if pdf.pdf_url is not None:
            size = await bank.download(pdf.pdf_url, to=Path("x.pdf"))
            assert_type(size, int)
    (consent, *_) = await session.recurring_consents()
    again = await bank.fetch_recurring_aa_data(
        consent.consent_id,
        from_date=date(2026, 1, 1),
        to_date=date(2026, 1, 31),
    )
    assert_type(again, SessionHandle)
    await again.delete()


async def use_an_entity(bank: AsyncBankConnect) -> None:
    uploaded = await bank.upload(b"%PDF", link_id="customer-42")
    assert_type(uploaded, answers.EntityUpload)
    entity = bank.entity(uploaded.entity_id)
    assert_type(entity, EntityHandle)
    progress = await entity.wait("salary")
    assert_type(progress, answers.Rows[answers.StatementProgress])
    async for step in entity.watch():
        assert_type(step, answers.Rows[answers.StatementProgress])
    found = await entity.transactions(
        account_id="a", from_date=date(2026, 1, 1), to_date=None
    )
    assert_type(found.transactions, answers.Rows[answers.Transaction])
    salary = await entity.salary()
    assert_type(salary.transactions, answers.Rows[answers.SalaryTransaction])
    async for each in bank.entities(link_id="customer-42"):
        assert_type(each, answers.Entity)
    assert_type(await bank.banks(), answers.Rows[answers.Bank])
    assert_type(
        await bank.net_banking_health(), answers.Rows[answers.BankHealth]
    )


def test_parts(sandbox: Sandbox) -> None:
    assert_type(FAILURES, tuple[DocumentedFailure, ...])
    assert_type(FAILURES[0].error, type[BankConnectError])
    assert_type(enrichment_webhook("id"), dict[str, Any])
    assert_type(make_client(sandbox), AsyncBankConnect)


def stores() -> list[SessionStore]:
    return [
        MemorySessionStore(),
        SQLiteSessionStore("sessions.db", encryption_keys=["k" * 32]),
    ]


def mount_in_frameworks(service: CallbackService) -> None:
    async def get_customer(scope: Scope) -> str | None:
        return Request(scope).cookies.get("customer")

    async def log_in(request: web.Request) -> str | WebResponse:
        to_login = WebResponse(status=303, headers={"Location": "/login"})
        return request.cookies.get("customer") or to_login

    app = asgi_app(service, get_customer=get_customer, prefix="/bank")
    FastAPI().mount("/bank", app)
    mount(web.Application(), service, get_customer=log_in)
