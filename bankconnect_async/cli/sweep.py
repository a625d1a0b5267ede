"""
``bankconnect sweep``: find what lost webhooks would have told.
"""

import asyncio
import datetime
import inspect
import pkgutil
import sys

from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import Any, Final, get_args

import attrs
import click

from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.models.events import Event
from bankconnect_async.models.webhooks import Webhook
from bankconnect_async.store import SessionStore
from bankconnect_async.web.dispatcher import (
    EventDispatcher,
    OnEvent,
    OnFailure,
    Process,
)
from bankconnect_async.web.news import SessionRecords
from bankconnect_async.web.sweep import SweepReport
from bankconnect_async.web.sweep import sweep as run_sweep

from .batch.summary import error_words
from .messages import print_message
from .options import (
    ApiOptions,
    concurrency_option,
    connection_options,
    find_store,
    json_option,
    rate_option,
    store_option,
)
from .output import write_json


# A callback may be slow; what it does not do in time is done by the next run.
_GRACE: Final = 600.0
_LEASE: Final = datetime.timedelta(minutes=15)
_AT_ONCE: Final = 64
_ATTEMPTS: Final = 20


def _load(
    _: click.Context, __: click.Parameter, text: str | None
) -> OnEvent | None:
    if text is None:
        return None
    module, _colon, name = text.partition(":")
    if not module or not name:
        raise click.BadParameter("must be MODULE:FUNCTION")
    # As `python -m` does, unlike a script that pip installs.
    sys.path.insert(0, str(Path.cwd()))
    try:
        function: Any = pkgutil.resolve_name(text)
    except (ImportError, AttributeError, ValueError) as exc:
        raise click.BadParameter(f"cannot be imported: {exc}") from exc
    if not inspect.iscoroutinefunction(function):
        raise click.BadParameter("must be a coroutine function (async def)")
    return function  # type: ignore[no-any-return]


@click.command()
@store_option(
    "The store of the service: a file of SQLite, or postgresql://..., "
    "instead of BANKCONNECT_STORE."
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="The maximum of sessions to check; all that are due by default.",
)
@concurrency_option(64, "The maximum of requests in flight.")
@rate_option("The maximum of requests per second.")
@click.option(
    "--on-event",
    callback=_load,
    metavar="MODULE:FUNCTION",
    help="The coroutine function that gets the events, such as "
    "lender.events:on_event, instead of a running service.",
)
@click.option(
    "--process",
    type=click.Choice(get_args(Process)),
    default="on-completion",
    help="With --on-event, when to start the processing of uploads.",
)
@json_option("Print the summary as JSON.")
@connection_options
@click.pass_context
def sweep(  # noqa: PLR0913
    ctx: click.Context,
    *,
    api: ApiOptions,
    address: str | None,
    limit: int | None,
    concurrency: int,
    rate: float | None,
    on_event: OnEvent | None,
    process: Process,
    as_json: bool,
) -> None:
    """
    Ask the server about sessions of which no webhook came.

    It looks at the sessions of the store whose next check is due, and puts
    what it finds into the store's inbox, from which your running services
    hand it on as if the webhook had come. Run it every few minutes, such as
    by cron: a session that nobody opened is asked about less and less often.

    With --on-event, it hands on what is in the inbox, as a service does.

    The keys of an encrypted store come from BANKCONNECT_STORE_KEYS.
    """
    hooks = _Hooks(on_event)
    store = find_store(address)
    report = asyncio.run(
        _sweep(
            api.connect(store=store),
            store,
            hooks,
            process,
            limit=limit,
            concurrency=concurrency,
            rate=rate,
        )
    )
    facts = attrs.asdict(report)
    if on_event is not None:
        facts["handed_on"] = hooks.handed_on
        facts["refused"] = hooks.refused
    if as_json:
        write_json(facts)
    else:
        print_message(_describe(report, hooks))
    ctx.exit(1 if report.failures or hooks.refused else 0)


@attrs.define
class _Hooks:
    """
    Counts what the user's function did.

    Attributes:
        function: The function; `None` leaves everything to services.
        handed_on: The number of events that it took.
        refused: The number of times that it failed.
        on_event: The callback of the dispatcher.
        on_failure: The failure hook of the dispatcher.
    """

    function: OnEvent | None
    handed_on: int = 0
    refused: int = 0
    on_event: OnEvent = attrs.field(init=False)
    on_failure: OnFailure | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.on_event = self._hand_on
        self.on_failure = self._count

    async def _hand_on(self, event: Event | Webhook) -> None:
        if self.function is not None:
            await self.function(event)
            self.handed_on += 1

    async def _count(self, _: Event | Webhook, error: Exception) -> None:
        self.refused += 1
        print_message(f"{type(error).__name__}: {error}")


async def _sweep(
    client: AbstractAsyncContextManager[AsyncBankConnect],
    store: SessionStore,
    hooks: _Hooks,
    process: Process,
    **settings: Any,
) -> SweepReport:
    # A client closes no store that it was given.
    async with aclosing(store), client as bank:
        if hooks.function is None:
            return await run_sweep(bank, **settings)
        dispatcher = EventDispatcher(
            bank=bank,
            hooks=hooks,
            process=process,
            max_attempts=_ATTEMPTS,
            records=SessionRecords(store=bank.store, api_id=bank.store_api_id),
            now=lambda: datetime.datetime.now(datetime.UTC),
            limit=_AT_ONCE,
            lease=_LEASE,
            poll_interval=1.0,
        )
        inbox = dispatcher.inbox
        await inbox.start()
        try:
            return await run_sweep(bank, put=inbox.put, **settings)
        finally:
            # Of earlier runs, too.
            await inbox.take()
            await inbox.aclose(_GRACE)


def _describe(report: SweepReport, hooks: _Hooks) -> str:
    parts = [
        f"{report.checked} sessions checked",
        f"{report.found} events found",
        f"{report.closed} sessions closed without an event",
    ]
    if hooks.function is not None:
        parts.append(f"{hooks.handed_on} events handed on")
    if hooks.refused:
        parts.append(f"{hooks.refused} refused, to be tried again")
    parts += [
        f"{count} not checked: {error_words(name)}"
        for name, count in sorted(report.failures.items())
    ]
    return "; ".join(parts)
