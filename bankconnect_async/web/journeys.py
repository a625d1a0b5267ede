"""
Begin the journey of a customer: continue a session, or create one.
"""

import asyncio
import datetime
import logging

from collections.abc import Callable
from typing import Final

import attrs

from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import StoreError
from bankconnect_async.models.sessions import Session, SessionRequest
from bankconnect_async.store.entries import (
    Reserved,
    SessionEntry,
    SessionState,
    new_reservation,
)


# Longer than a client tries to create a session.
_LEASE: Final = datetime.timedelta(minutes=1)

_log: Final = logging.getLogger("bankconnect_async.web")


@attrs.frozen(kw_only=True)
class BegunJourney:
    """
    A session at which a customer can begin or continue.

    Attributes:
        session: The session.
        entry_id: The id of its entry in the store.
        created_at: When it was created.
        is_continued: Whether it was there before.
    """

    session: Session
    entry_id: str
    created_at: datetime.datetime
    is_continued: bool


@attrs.frozen(kw_only=True)
class JourneyStarter:
    """
    Begins journeys: of one customer's loads at once, one creates a session.

    Attributes:
        bank: The client, whose store keeps the sessions.
        continue_for: The age up to which a session is continued; `None` for
            never.
        now: The clock.
    """

    bank: AsyncBankConnect
    continue_for: datetime.timedelta | None
    now: Callable[[], datetime.datetime]

    async def begin(
        self,
        request: SessionRequest,
        *,
        return_url: Callable[[str], str] | None,
        scope: str = "",
        created_after: datetime.datetime | None = None,
    ) -> BegunJourney:
        """
        Continue the session of *request*, or create one.

        Args:
            request: The request; its redirect URL is replaced.
            return_url: A function from the id of an entry to the redirect URL
                of its session; `None` for the inline-frame workflow.
            scope: The campaign or loan.
            created_after: The time of the session that the customer starts
                again.

        Raises:
            StoreError: If the store cannot be used.
            BankConnectError: If no session can be created.
        """
        now = self.now()
        # Only whether there is a redirect URL makes a difference.
        url = None if return_url is None else return_url("")
        key = self.bank.session_key(
            attrs.evolve(request, redirect_url=url), scope=scope
        )
        await self.bank.store.open()
        found: Reserved | SessionEntry
        if self.continue_for is None or not self.bank.store.keeps_urls:
            found = new_reservation(key, now=now, lease=_LEASE)
        else:
            oldest = now - self.continue_for
            found = await self.bank.store.reserve(
                key,
                now=now,
                lease=_LEASE,
                created_after=max(oldest, created_after or oldest),
            )
        if isinstance(found, Reserved):
            return await self._create(request, found, return_url, scope)
        await self._open(found.entry_id)
        return BegunJourney(
            session=found.session(),
            entry_id=found.entry_id,
            created_at=found.created_at,
            is_continued=True,
        )

    async def _create(
        self,
        request: SessionRequest,
        reserved: Reserved,
        return_url: Callable[[str], str] | None,
        scope: str,
    ) -> BegunJourney:
        url = None if return_url is None else return_url(reserved.entry_id)
        try:
            session = await self.bank.create_session(
                attrs.evolve(request, redirect_url=url),
                scope=scope,
                reserved=reserved,
            )
        except BaseException:
            # Others wait for it, also if this browser has gone.
            await asyncio.shield(self._release(reserved))
            raise
        await self._open(reserved.entry_id)
        return BegunJourney(
            session=session,
            entry_id=reserved.entry_id,
            created_at=self.now(),
            is_continued=False,
        )

    async def _release(self, reserved: Reserved) -> None:
        try:
            await self.bank.store.release(reserved.entry_id)
        except StoreError as error:
            _log.warning("a reservation ends by itself only: %s", error)

    async def _open(self, entry_id: str) -> None:
        try:
            await self.bank.store.advance(
                entry_id, SessionState.OPENED, at=self.now()
            )
        except StoreError as error:
            # The customer can go on without it.
            _log.warning("a session is not noted as opened: %s", error)
