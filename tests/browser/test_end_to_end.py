"""
The whole way of a customer, from a session to a table of transactions.
"""

import csv

import pytest

from bankconnect_async import SuccessEvent


pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_from_a_session_to_a_table(serve, page, framed, until, tmp_path):
    """
    A customer uploads in the page; the service receives the event and fetches
    the data.
    """
    table = tmp_path / "transactions.csv"
    async with serve("session") as service:
        await page.goto(f"{service.base}/connect")
        await framed(page).open("Upload PDF")
        await framed(page).succeed()
        await until(lambda: service.received.outcomes)
        (event,) = service.received.outcomes
        assert isinstance(event, SuccessEvent)
        assert event.confirmed is True

        session = service.bank.session(event.session_id)
        status = await session.wait(timeout=60)
        insights = await session.insights()

    assert [account.account_status for account in status.accounts] == [
        "completed"
    ]
    assert insights.link_id == "customer-42"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        for account in insights.accounts:
            writer.writerows(
                (row.date, row.amount, row.balance)
                for row in account.transactions
            )
    with table.open(newline="") as file:
        assert len(list(csv.reader(file))) == sum(
            len(account.transactions) for account in insights.accounts
        )
    assert len(insights.accounts[0].transactions) > 10
