"""
The events that the demo's service receives, as a feed for its page.
"""

import asyncio
import datetime

from collections import deque
from collections.abc import Mapping, Sequence
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
from bankconnect_async.web import SweepReport


_MAX_ENTRIES: Final = 200
_KINDS: Final[Mapping[type, str]] = {
    SuccessEvent: "success",
    ExitEvent: "exit",
    ErrorEvent: "error",
    InfoEvent: "info",
}
# The fields that the page shows elsewhere.
_SHOWN: Final = frozenset({"raw", "confirmed"})


@attrs.frozen(kw_only=True)
class Entry:
    """
    One event of the feed, or the report of a sweep.

    Attributes:
        number: The number of the entry, from 1.
        at: The time of arrival.
        kind: The style on the page.
        source: The way that the event came.
        title: The name of the event's class.
        note: A remark.
        fields: The fields of the event that are texts, numbers or flags.
        raw: The event as it was delivered.
    """

    number: int
    at: datetime.datetime
    kind: str
    source: str
    title: str
    note: str
    fields: Mapping[str, str]
    raw: Mapping[str, Any]


class EventFeed:
    """
    Keeps the latest entries, and wakes those who wait for new ones.

    Attributes:
        is_closed: Whether no more entries come.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_MAX_ENTRIES)
        self._count = 0
        self.is_closed: bool = False
        self._changed = asyncio.Condition()

    async def add(self, event: Event | Webhook) -> None:
        """
        Add an event, as the callback `on_event` of a service.
        """
        is_confirmed = isinstance(event, SuccessEvent) and event.confirmed
        await self._add(
            event,
            kind=_KINDS.get(type(event), "webhook"),
            note="confirmed with the server" if is_confirmed else "",
        )

    async def add_failure(
        self, event: Event | Webhook, error: Exception
    ) -> None:
        """
        Add a refused event, as the callback `on_failure` of a service.
        """
        await self._add(event, kind="refused", note=str(error))

    async def add_lost(self, webhook: Webhook) -> None:
        """
        Add a webhook that does not reach the service.
        """
        await self._add(
            webhook, kind="lost", note="lost: the service does not get it"
        )

    async def add_report(self, report: SweepReport) -> None:
        """
        Add the report of a sweep.
        """
        await self._add(report, kind="sweep", note="")

    async def close(self, _: object = None) -> None:
        """
        Wake everybody for the last time.
        """
        async with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    async def wait(self, after: int, seconds: float) -> Sequence[Entry]:
        """
        Return the entries after number *after*, as soon as there are some.

        Args:
            after: The number of the last entry that is known.
            seconds: The longest time to wait for a new one.
        """
        async with self._changed:
            try:
                async with asyncio.timeout(seconds):
                    while not (self.is_closed or self._count > after):
                        await self._changed.wait()
            except TimeoutError:
                pass
            return [each for each in self._entries if each.number > after]

    async def _add(
        self, event: Event | Webhook | SweepReport, *, kind: str, note: str
    ) -> None:
        async with self._changed:
            self._count += 1
            self._entries.append(
                Entry(
                    number=self._count,
                    at=datetime.datetime.now(datetime.UTC),
                    kind=kind,
                    source=_source(event),
                    title=type(event).__name__,
                    note=note,
                    fields=_fields(event),
                    raw=attrs.asdict(event)
                    if isinstance(event, SweepReport)
                    else event.raw,
                )
            )
            self._changed.notify_all()


def _source(event: Event | Webhook | SweepReport) -> str:
    if isinstance(event, SweepReport):
        return "sweep"
    if isinstance(event, get_args(Webhook)):
        return "webhook"
    is_return = attrs.fields(ReturnQuery).success.name in event.raw
    return "redirect" if is_return else "browser message"


def _fields(event: Event | Webhook | SweepReport) -> dict[str, str]:
    return {
        name: str(value)
        for name in attrs.fields_dict(type(event))
        if name not in _SHOWN
        and isinstance(value := getattr(event, name), str | int)
        and value != ""
    }
