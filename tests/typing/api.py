"""
What type checkers must make of our interface; checked, never run.
"""

from collections.abc import AsyncIterator
from datetime import date
from typing import assert_never, assert_type

from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    BankConnectError,
    Created,
    Delivery,
    Failed,
    Outcome,
    RetryPolicy,
    Session,
    SessionRequest,
)
from bankconnect_async.sandbox import Sandbox


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
