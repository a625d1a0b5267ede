"""
The service of the demo: a campaign of twelve invitations.
"""

import asyncio
import datetime
import itertools
import time

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from yarl import URL

from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.collecting import NotCollected
from bankconnect_async.models import Rows, Transaction
from bankconnect_async.models.events import Event
from bankconnect_async.models.webhooks import Webhook
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.store import SessionEntry, SessionState
from bankconnect_async.web import (
    CallbackProtocol,
    CallbackService,
    WebRequest,
)
from bankconnect_async.web.news import news_of

from .event_feed import EventFeed


#: The names of the customers, by their ids.
CUSTOMERS: Final[Mapping[str, str]] = {
    f"customer-{number:02}": name
    for number, name in enumerate(
        (
            "Aarav Mehta",
            "Bhavna Iyer",
            "Chetan Rao",
            "Divya Nair",
            "Eshan Gupta",
            "Farah Khan",
            "Gita Menon",
            "Harish Patel",
            "Isha Das",
            "Jatin Shah",
            "Kavya Reddy",
            "Leo Fernandes",
        ),
        start=1,
    )
}
_INVITATION: Final = "autumn-campaign"
# The page shows that many transactions of each customer, the newest.
_SHOWN: Final = 4


@attrs.define
class AdjustableClock:
    """
    The system's clock, which can be set ahead.

    Attributes:
        ahead: The seconds by which it is ahead.
    """

    ahead: float = 0.0

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self.ahead

    async def sleep(self, seconds: float, /) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)


@attrs.define(kw_only=True)
class Campaign:
    """
    A lender's service that invites customers and collects their statements.

    Attributes:
        sandbox: The sandbox.
        bank: The client of the sandbox.
        protocol: The protocol of the service's endpoints.
        clock: The clock of all three.
        lost_url: The URL at which webhooks get lost.
        feed: The events that the service receives.
        service: The service.
        links: The links of the invitations, by customer.
        statements: The transactions, by customer.
        loses_webhooks: Whether webhooks get lost.
    """

    sandbox: Sandbox
    bank: AsyncBankConnect
    protocol: CallbackProtocol
    clock: AdjustableClock
    lost_url: str
    feed: EventFeed = attrs.field(init=False, factory=EventFeed)
    service: CallbackService = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: CallbackService(
                self.bank,
                self.protocol,
                on_event=self.on_event,
                on_failure=self.feed.add_failure,
            ),
            takes_self=True,
        ),
    )
    links: Mapping[str, str] = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: {
                link_id: self.protocol.invitation_url(
                    link_id, invitation_id=_INVITATION
                )
                for link_id in CUSTOMERS
            },
            takes_self=True,
        ),
    )
    statements: dict[str, Rows[Transaction]] = attrs.field(
        init=False, factory=dict
    )
    loses_webhooks: bool = attrs.field(init=False, default=False)
    _lock: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    async def on_event(self, event: Event | Webhook) -> None:
        """
        Collect statements that are ready, and show the event.
        """
        if news_of(event).state is SessionState.COMPLETED:
            await self._collect(event.link_id or "")
        await self.feed.add(event)

    async def set_webhooks(self, *, are_lost: bool) -> None:
        """
        Tell the server where to send webhooks.
        """
        url = self.lost_url if are_lost else self.protocol.webhook_url
        flow: Literal["session", "entity"]
        flow = "session" if self.sandbox.dialect == "session" else "entity"
        await self.bank.update_webhook(url, flow=flow)
        self.loses_webhooks = are_lost

    async def sweep(self) -> None:
        """
        Move the clock on until every session is due, and sweep.
        """
        now = self.protocol.now()
        due = [
            entry.next_check_at
            async for entry in self.bank.store.entries()
            if entry.next_check_at is not None
        ]
        self.clock.ahead += (max([now, *due]) - now).total_seconds()
        await self.feed.add_report(await self.service.sweep())

    async def let_others_answer(self) -> None:
        """
        Play the journeys of the customers who have not tapped their link.
        """
        # A double click must not play a journey twice.
        async with self._lock:
            tapped = await self._entries()
            for link_id in sorted(self.links.keys() - tapped.keys()):
                await self._answer(link_id)

    async def snapshot(self) -> dict[str, Any]:
        """
        Return what the page shows of the campaign.
        """
        entries = await self._entries()
        newest = [each[-1] for each in entries.values()]
        return {
            "figures": {
                "sessions": sum(map(len, entries.values())),
                "completed": sum(
                    entry.state is SessionState.COMPLETED for entry in newest
                ),
                "transactions": sum(map(len, self.statements.values())),
            },
            "customers": {
                entry.link_id: {
                    "state": entry.state,
                    "sessions": len(entries[entry.link_id]),
                }
                for entry in newest
            },
            "rows": [
                _cells(CUSTOMERS[link_id], transaction)
                for link_id, rows in reversed(self.statements.items())
                for transaction in rows[: -_SHOWN - 1 : -1]
            ],
        }

    def transactions(self) -> Rows[Transaction]:
        """
        Return the transactions of all customers.
        """
        return Rows(
            Transaction,
            itertools.chain.from_iterable(self.statements.values()),
        )

    async def _answer(self, link_id: str) -> None:
        await self.service.handle_invitation(
            WebRequest(
                method="POST",
                path=URL(self.links[link_id], encoded=True).raw_path,
                headers={"Origin": str(self.protocol.base.origin())},
            )
        )
        for entry in (await self._entries()).get(link_id, ()):
            played = await self.sandbox.play(entry.session_id or "", "success")
            way_back = URL(played.redirect or "", encoded=True)
            await self.service.handle_return(
                WebRequest(path=way_back.raw_path_qs)
            )

    async def _collect(self, link_id: str) -> None:
        completed = [
            entry
            for entry in (await self._entries()).get(link_id, ())
            if entry.state is SessionState.COMPLETED
        ]
        found: list[Transaction] = []
        async with self.bank.collect(completed) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, NotCollected):
                    # The service tries the event again.
                    raise outcome.error
                found += outcome.data
        if found:
            self.statements[link_id] = Rows(Transaction, found)

    async def _entries(self) -> Mapping[str, Sequence[SessionEntry]]:
        found: dict[str, list[SessionEntry]] = {}
        async for entry in self.bank.store.entries():
            if entry.key.scope == _INVITATION:
                found.setdefault(entry.link_id, []).append(entry)
        return found


def _cells(name: str, transaction: Transaction) -> list[str]:
    date, amount = transaction.date, transaction.amount
    sign = (
        "+" if transaction.transaction_type == "credit" else "\N{MINUS SIGN}"
    )
    return [
        name,
        date.date().isoformat() if isinstance(date, datetime.date) else "",
        transaction.transaction_note or "",
        f"{sign}{amount:,.2f}",
        f"{transaction.balance:,.2f}",
    ]
