"""
What the demo's service has heard, for whoever is watching.
"""

import asyncio
import datetime

from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, get_args

import attrs

from bankconnect_async.models.events import (
    ErrorEvent,
    Event,
    ExitEvent,
    InfoEvent,
    ReturnQuery,
    SuccessEvent,
)
from bankconnect_async.models.webhooks import Webhook


_KEPT: Final = 200
_KINDS: Final[Mapping[type, str]] = {
    SuccessEvent: "success",
    ExitEvent: "exit",
    ErrorEvent: "error",
    InfoEvent: "info",
}
_ASIDE: Final = frozenset({"raw", "confirmed"})


@attrs.frozen(kw_only=True)
class Entry:
    """
    One thing that was heard.

    Attributes:
        number: From 1 on.
        at: When.
        kind: How the page shows it.
        way: How it came.
        title: Name of its class.
        note: What is to be said about it.
        facts: Its plain fields.
        raw: What was delivered.
    """

    number: int
    at: datetime.datetime
    kind: str
    way: str
    title: str
    note: str
    facts: Mapping[str, str]
    raw: Mapping[str, Any]


@attrs.define(eq=False)
class EventFeed:
    """
    Keeps the latest entries, and wakes whoever follows.
    """

    _entries: deque[Entry] = attrs.field(
        init=False, factory=lambda: deque(maxlen=_KEPT)
    )
    _count: int = attrs.field(init=False, default=0)
    _is_closed: bool = attrs.field(init=False, default=False)
    _changed: asyncio.Condition = attrs.field(
        init=False, factory=asyncio.Condition
    )

    async def take(self, event: Event | Webhook) -> None:
        """
        Note what the callback of a service gets.
        """
        await self._note(event, _KINDS.get(type(event)), _praise(event))

    async def refuse(self, event: Event | Webhook, error: Exception) -> None:
        """
        Note what the failure hook of a service gets.
        """
        await self._note(event, "refused", str(error))

    async def close(self, _: object = None) -> None:
        """
        Let everybody who follows come to an end.
        """
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    async def follow(self, after: int) -> AsyncIterator[Entry]:
        """
        Yield each entry after that number, the ones to come included.
        """
        while True:
            async with self._changed:
                while not (self._is_closed or self._count > after):
                    await self._changed.wait()
                if self._is_closed:
                    return
                entries = [
                    entry for entry in self._entries if entry.number > after
                ]
            after = self._count
            for entry in entries:
                yield entry

    async def _note(
        self, event: Event | Webhook, kind: str | None, note: str
    ) -> None:
        async with self._changed:
            self._count += 1
            self._entries.append(
                Entry(
                    number=self._count,
                    at=datetime.datetime.now(datetime.UTC),
                    kind=kind or "webhook",
                    way=_way(event),
                    title=type(event).__name__,
                    note=note,
                    facts=_facts(event),
                    raw=event.raw,
                )
            )
            self._changed.notify_all()


def _praise(event: Event | Webhook) -> str:
    if isinstance(event, SuccessEvent) and event.confirmed:
        return "confirmed with the server"
    return ""


def _way(event: Event | Webhook) -> str:
    if isinstance(event, get_args(Webhook)):
        return "webhook"
    is_return = attrs.fields(ReturnQuery).success.name in event.raw
    return "redirect" if is_return else "browser message"


def _facts(event: Event | Webhook) -> dict[str, str]:
    values = {
        name: value
        for name in attrs.fields_dict(type(event))
        if name not in _ASIDE
        and isinstance(value := getattr(event, name), str | bool)
    }
    return {name: str(value) for name, value in values.items()}
