"""
Sending of webhooks beside the server.
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


@attrs.define(eq=False, kw_only=True)
class WebhookSender:
    """
    Sends one webhook after the other, each once.

    Attributes:
        secret: The `x-secret-key` of every webhook (contract, U-28).
        allow_remote: Whether webhooks may go to other machines.
        sent: Every webhook with its result, in order.
    """

    secret: str | None = attrs.field(repr=False)
    allow_remote: bool
    sent: list[SentWebhook] = attrs.field(init=False, factory=list)
    _queue: asyncio.Queue[tuple[str, Mapping[str, Any]]] = attrs.field(
        init=False, factory=asyncio.Queue
    )
    _task: asyncio.Task[None] | None = attrs.field(init=False, default=None)

    def put(self, url: str, body: Mapping[str, Any]) -> None:
        """
        Add a webhook to the queue.
        """
        self._queue.put_nowait((url, body))
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def join(self) -> None:
        """
        Wait until every webhook in the queue is sent.
        """
        await self._queue.join()

    async def aclose(self) -> None:
        """
        Stop sending, and drop the webhooks in the queue.
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        while not self._queue.empty():
            self._queue.get_nowait()
            self._queue.task_done()
        # A queue belongs to the event loop that has waited for it.
        self._queue = asyncio.Queue()

    async def _run(self) -> None:
        headers = {"Content-Type": "application/json"}
        if self.secret is not None:
            headers["x-secret-key"] = self.secret
        async with aiohttp.ClientSession(
            headers=headers, timeout=_TIMEOUT
        ) as http:
            while True:
                url, body = await self._queue.get()
                try:
                    result = await self._send(http, url, body)
                    self.sent.append(SentWebhook(url=url, body=body, **result))
                finally:
                    self._queue.task_done()

    async def _send(
        self, http: aiohttp.ClientSession, url: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            if not (self.allow_remote or is_loopback(URL(url).host)):
                return {"problem": "leads to another machine"}
            # A receiver must not pass our secret on to another server.
            async with http.post(
                url, data=orjson.dumps(body), allow_redirects=False
            ) as response:
                return {"status": response.status}
        # Anyone with the key may set the URL, so no error of it may stop the
        # server.
        except Exception as exc:  # noqa: BLE001
            return {"problem": type(exc).__name__}
