"""
Posting of webhooks, beside the server and never in its way.
"""

import asyncio

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import attrs
import orjson

from yarl import URL

from bankconnect_async._codec.session_requests import is_loopback
from bankconnect_async.sandbox.records import SentWebhook


_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_SECRET_HEADER: Final = "x-secret-key"  # noqa: S105 - the header's name


@attrs.define(eq=False, kw_only=True)
class WebhookSender:
    """
    Posts one webhook after the other, each once.

    Attributes:
        secret: What to send as `x-secret-key` (contract, U-28).
        allow_remote: Whether to post to other machines, too.
        sent: What became of each, in order.
    """

    secret: str | None = attrs.field(repr=False)
    allow_remote: bool
    sent: list[SentWebhook] = attrs.field(init=False, factory=list)
    _due: asyncio.Queue[tuple[str, Mapping[str, Any]]] = attrs.field(
        init=False, factory=asyncio.Queue
    )
    _worker: asyncio.Task[None] | None = attrs.field(init=False, default=None)

    def put(self, url: str, body: Mapping[str, Any]) -> None:
        """
        Send *body* to *url* in its turn.
        """
        self._due.put_nowait((url, body))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())

    async def join(self) -> None:
        """
        Wait until nothing is under way.
        """
        await self._due.join()

    async def aclose(self) -> None:
        """
        Give up what is under way.
        """
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.wait([worker])
        while not self._due.empty():
            self._due.get_nowait()
            self._due.task_done()
        # A queue belongs to the event loop that has waited for it.
        self._due = asyncio.Queue()

    async def _work(self) -> None:
        async with aiohttp.ClientSession(
            headers=self._headers(), timeout=_TIMEOUT
        ) as http:
            while True:
                url, body = await self._due.get()
                try:
                    self.sent.append(await self._attempt(http, url, body))
                finally:
                    self._due.task_done()

    def _headers(self) -> dict[str, str]:
        content_type = {"Content-Type": "application/json"}
        if self.secret is None:
            return content_type
        return {**content_type, _SECRET_HEADER: self.secret}

    async def _attempt(
        self, http: aiohttp.ClientSession, url: str, body: Mapping[str, Any]
    ) -> SentWebhook:
        attempt = SentWebhook(url=url, body=body)
        try:
            return attrs.evolve(attempt, **await self._send(http, attempt))
        # Whoever has the key may set the URL. Nothing that it leads to is
        # the server's concern.
        except Exception as exc:  # noqa: BLE001
            return attrs.evolve(attempt, problem=type(exc).__name__)

    async def _send(
        self, http: aiohttp.ClientSession, attempt: SentWebhook
    ) -> dict[str, Any]:
        if not (self.allow_remote or is_loopback(URL(attempt.url).host)):
            return {"problem": "leads to another machine"}
        async with http.post(
            attempt.url,
            data=orjson.dumps(attempt.body),
            # A receiver must not send our secret on to somebody else.
            allow_redirects=False,
        ) as answer:
            return {"status": answer.status}
