"""
The methods of a client for statement data, one for each endpoint.
"""

import datetime
import os

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

from yarl import URL

from bankconnect_async import _resources
from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.config import hide
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models.sessions import Session
from bankconnect_async.retry import RetryPolicy

from .base import ApiClient


if TYPE_CHECKING:
    from bankconnect_async.models import (
        Bank,
        BankHealth,
        Entity,
        EntityUpload,
        Rows,
    )
    from bankconnect_async.models.webhooks import ExtractionWebhook, Webhook

    from .entities import Entities, EntityHandle
    from .sessions import SessionHandle
    from .uploads import StatementFile, UploadOptions


class StatementData:
    """
    The methods of `AsyncBankConnect` besides those that create sessions.
    """

    _api: ApiClient

    def session(self, session: str | Session, /) -> "SessionHandle":
        """
        Return a handle of a session: its uploads, processing and results.

        Nothing is sent.

        Args:
            session: The session that `create_session` returned, or a
                `session_id`, which the events and webhooks of the session flow
                have.

        Raises:
            InvalidRequestError: If the id is blank or not a text, or the
                server sent none.
        """
        if isinstance(session, Session):
            if session.session_id is None:
                raise InvalidRequestError(
                    fields={
                        "session_id": ("is unknown: the server gave none",)
                    }
                )
            session = session.session_id
        return _resources.SessionHandle(self._api, session)

    def entity(self, entity_id: str, /) -> "EntityHandle":
        """
        Return a handle of an entity: its statements and their analyses.

        Nothing is sent.

        Args:
            entity_id: The id, which the results of uploads have, and the
                events and webhooks of the entity flow.

        Raises:
            InvalidRequestError: If the id is blank or not a text.
        """
        return _resources.EntityHandle(self._api, entity_id)

    def entities(
        self, *, link_id: str | None = None, max_pages: int = 10_000
    ) -> "Entities":
        """
        List entities, for ``async for``; pages are fetched as needed.

        Args:
            link_id: The customer; by default all of them.
            max_pages: The most pages, of ten entities each; a longer list ends
                in an `InvalidResponseError`.
        """
        return _resources.Entities(
            self._api, link_id=link_id, max_pages=max_pages
        )

    async def create_entity(
        self,
        link_id: str | None = None,
        *,
        is_single_account: bool = False,
        meta_data: str | Mapping[str, Any] | None = None,
        retry: RetryPolicy | None = None,
    ) -> "Entity":
        """
        Create an entity, to upload statements of a customer yourself.

        An attempt that may have arrived is repeated as the policy's `delivery`
        says, and may then leave an empty twin behind.

        Args:
            link_id: Your id of the customer.
            is_single_account: Whether to refuse statements of a second
                account.
            meta_data: Data to store with the entity; a mapping becomes JSON.
            retry: The retry policy; by default the client's.

        Raises:
            InvalidRequestError: If a parameter cannot be sent.
            TransportError: If no usable response came.
            ResponseError: If the server refused the request.
        """
        return await _resources.organisation.create_entity(
            self._api,
            link_id,
            is_single_account=is_single_account,
            meta_data=meta_data,
            retry=retry,
        )

    @hide_frames
    async def upload(
        self,
        file: "StatementFile | None" = None,
        /,
        *,
        link_id: str | None,
        **options: "Unpack[UploadOptions]",
    ) -> "EntityUpload":
        """
        Upload a statement of a customer, in the entity flow.

        The vendor creates the entity if there is none. The file is sent in
        pieces, and never as a whole in memory. An attempt that may have
        arrived is repeated as the policy's `delivery` says. A file that
        cannot be rewound, such as a pipe, is sent once.

        Args:
            file: The path of a regular file, a file opened for bytes, whose
                methods may be coroutines, or bytes; else use the option *url*
                or *base64*. A cancel waits for a read in progress.
            link_id: Your id of the customer; `None` makes an entity without
                one.
            **options: Any of the options below.

        Options:
            url: The URL from which the vendor fetches the file.
            base64: The file as base64 text.
            bank_name: The bank identifier; without it, the vendor detects the
                bank.
            pdf_password: The password of the file.
            filename: The name of the file for the vendor; by default its own.
            identity: Whether the response names the holder; by default it
                does.
            deadline: The seconds for all attempts, instead of the policy's;
                by default 300. The client's read timeout starts with the last
                byte that could be sent.
            retry: The retry policy; by default the client's.

        Raises:
            InvalidRequestError: If there is not exactly one source, or it
                cannot be read.
            StatementError: If the vendor refused the statement; see its
                subclasses. Its `entity_id` may be there all the same.
            PaymentRequiredError: If the trial is over.
            TransportError: If no usable response came.
        """
        owner = {} if link_id is None else {"link_id": link_id}
        sending = _resources.upload(self._api, owner, file, **options)
        del file, options
        return await sending

    async def banks(self) -> "Rows[Bank]":
        """
        List the vendor's banks, and the ways to their statements.

        Raises:
            TransportError: If no usable response came.
            ResponseError: If the server refused the request.
        """
        return await _resources.organisation.banks(self._api)

    async def net_banking_health(self) -> "Rows[BankHealth]":
        """
        List the banks, and whether net banking works at present.

        Raises:
            TransportError: If no usable response came.
            ResponseError: If the server refused the request.
        """
        return await _resources.organisation.net_banking_health(self._api)

    async def fetch_recurring_aa_data(
        self,
        consent_id: str,
        *,
        from_date: datetime.date,
        to_date: datetime.date,
        retry: RetryPolicy | None = None,
    ) -> "SessionHandle":
        """
        Ask a bank again, under a recurring consent.

        An attempt that may have arrived is repeated as the policy's `delivery`
        says.

        Args:
            consent_id: The id of a consent, from `recurring_consents` of an
                earlier session.
            from_date: The first day.
            to_date: The last day.
            retry: The retry policy; by default the client's.

        Returns:
            The new session, to `wait` for.

        Raises:
            InvalidRequestError: If a parameter cannot be sent.
            BadRequestError: If the consent is used up, revoked or unknown; see
                its `code`.
            TransportError: If no usable response came.
        """
        return await _resources.organisation.fetch_recurring_aa_data(
            self._api,
            consent_id,
            from_date=from_date,
            to_date=to_date,
            retry=retry,
        )

    async def download(
        self,
        link: str | URL,
        *,
        to: str | os.PathLike[str],
        max_bytes: int = 256 * 1024 * 1024,
        deadline: float = 300.0,
    ) -> int:
        """
        Download a file behind a pre-signed link, such as a PDF or a workbook.

        The request carries nothing of ours: no key, no cookie. Up to five
        redirects are followed. The file appears at *to* when it is complete,
        readable for its owner only. A broken download resumes where the server
        says that it is the same file, and otherwise starts over. A file that
        is stored compressed with gzip or deflate is decompressed.

        Args:
            link: The absolute https URL from a response; valid for an hour.
                Plain http on this machine is only for clients whose base URL
                is on it, too.
            to: The path of the file. An old file there is replaced; a FIFO or
                a device is refused.
            max_bytes: The greatest length of the file, after decompression.
            deadline: The seconds for the whole download, all attempts
                included.

        Returns:
            The length of the file, in bytes.

        Raises:
            InvalidRequestError: If *link* is not an absolute https URL, or
                *to* is something else than a file.
            NotFoundError: If the link has expired, or the file is gone.
            DownloadError: If the file is longer than *max_bytes*, compressed
                in an unknown way, or the link is redirected too often or to
                another address than https.
            TransportError: If it broke off too often, or the deadline passed.
            OSError: If the file cannot be written.
        """
        # The link gives access to the file; a traceback with locals would
        # print it.
        link = hide(str(link))
        return await _resources.download(
            self._api, link, to, max_bytes=max_bytes, deadline=deadline
        )

    def notify(self, webhook: "Webhook", /) -> None:
        """
        Notify pollers that a webhook arrived.

        It is not trusted: pollers of its session or entity poll at once
        instead of at the next interval. Call it on the client's event loop;
        `bankconnect_async.web` does so itself.
        """
        for name in ("session_id", "entity_id"):
            id_ = getattr(webhook, name, None)
            if id_ is not None:
                self._api.changes.notify(id_)

    async def update_webhook(
        self,
        url: str,
        *,
        flow: Literal["entity", "session"],
        mode: int | Sequence[str] = 1,
    ) -> None:
        """
        Set the URL to which the vendor posts webhooks.

        Args:
            url: The URL of your endpoint.
            flow: The flow of your organisation at the vendor.
            mode: In the entity flow: 1 for net banking and manual uploads, 0
                for net banking only. In the session flow: a number, or the
                names of events (U-24). It is sent with every update, because
                the entity flow resets it to 0 otherwise.

        Raises:
            InvalidRequestError: If *url* or *mode* cannot be sent.
            TransportError: If no usable response came.
            ResponseError: If the server refused the request.
        """
        await _resources.organisation.update_webhook(
            self._api, url, flow=flow, mode=mode
        )

    async def webhook_payloads(
        self, link_id: str
    ) -> "Rows[ExtractionWebhook]":
        """
        Recover the webhooks of a customer in the entity flow, newest first.

        Args:
            link_id: Your id of the customer.

        Raises:
            TransportError: If no usable response came.
            ResponseError: If the server refused the request.
        """
        return await _resources.organisation.webhook_payloads(
            self._api, link_id
        )
