"""
Async SDK for FinBox Bank Connect: pooled, retried, typed.

`AsyncBankConnect` creates sessions, one or a million. What it raises is in
`bankconnect_async.errors`; a server to try it against is in
`bankconnect_async.sandbox`.
"""

from typing import TYPE_CHECKING


__version__ = "0.1.0"

from ._lazy import lazy_names
from .client import AsyncBankConnect
from .config import CURRENT_BASE_URL, DEFAULT_BASE_URL, Pool, Timeouts
from .errors import (
    AlreadyProcessingError,
    AuthenticationError,
    BadRequestError,
    BankConnectError,
    BankMismatchError,
    BankNotDetectedError,
    BatchStoppedError,
    CertificateError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DecodeError,
    Delivery,
    DownloadError,
    DuplicateStatementError,
    ForeignMessageError,
    HeadTooLargeError,
    InvalidCallbackError,
    InvalidRequestError,
    InvalidResponseError,
    JournalError,
    JournalLockedError,
    JournalMismatchError,
    NotFoundError,
    NotReadyError,
    OutOfDateRangeError,
    PasswordIncorrectError,
    PaymentRequiredError,
    PermissionDeniedError,
    Phase,
    PoolTimeoutError,
    ProcessingFailedError,
    ProxyAuthenticationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
    SessionExpiredError,
    StatementError,
    StoreError,
    TransportError,
    UnparsableStatementError,
    UnsupportedStatementError,
    WaitTimeoutError,
)
from .models.sessions import UNSET, Session, SessionRequest
from .retry import RetryBudget, RetryPolicy


if TYPE_CHECKING:
    from ._codec.browser_messages import Channel, decode_event
    from ._codec.event_keys import event_key
    from ._codec.redirects import build_redirect, decode_redirect
    from ._codec.return_urls import ReturnURL
    from ._codec.webhooks import decode_webhook
    from .batch import (
        Created,
        Failed,
        Outcome,
        PacedClient,
        ResultSink,
        SessionBatch,
    )
    from .collecting import (
        Collected,
        Collection,
        CollectionJournal,
        CollectionStats,
        NotCollected,
        SavedFile,
    )
    from .embed import Listener, content_security_policy, iframe_html
    from .error_details import Attempt, Failure
    from .models import Consent, Metadata, Rows, arrow_schema, json_default
    from .models.events import (
        ErrorEvent,
        ErrorType,
        Event,
        EventName,
        ExitEvent,
        InfoEvent,
        SuccessEvent,
        UnknownEvent,
    )
    from .models.webhooks import (
        EnrichmentWebhook,
        ExpiryWebhook,
        ExtractionWebhook,
        UnknownWebhook,
        UploadWebhook,
        Webhook,
    )
    from .portal import BlockingPortal
    from .report import CampaignReport, report_journals, report_store
    from .shards import run_shard
    from .stats import (
        AttemptEnd,
        AttemptStart,
        BatchStats,
        Latency,
        ResponseHead,
        Stats,
        Telemetry,
    )
    from .store import (
        InboxItem,
        MemorySessionStore,
        PostgresSessionStore,
        Reserved,
        SessionEntry,
        SessionKey,
        SessionState,
        SessionStore,
        SQLiteSessionStore,
        open_store,
    )
    from .telemetry import OpenTelemetry
    from .tls import TLS
else:
    # Creating a session does not need these modules, so they are imported on
    # first use (PEP 562).
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "batch": (
                "Created Failed Outcome PacedClient ResultSink SessionBatch"
            ),
            "shards": "run_shard",
            "models": "Consent Metadata Rows arrow_schema json_default",
            "collecting": (
                "Collected Collection CollectionJournal CollectionStats "
                "NotCollected SavedFile"
            ),
            "models.events": (
                "ErrorEvent ErrorType Event EventName ExitEvent InfoEvent "
                "SuccessEvent UnknownEvent"
            ),
            "models.webhooks": (
                "EnrichmentWebhook ExpiryWebhook ExtractionWebhook "
                "UnknownWebhook UploadWebhook Webhook"
            ),
            "error_details": "Attempt Failure",
            "embed": "Listener content_security_policy iframe_html",
            "_codec.browser_messages": "Channel decode_event",
            "_codec.redirects": "build_redirect decode_redirect",
            "_codec.return_urls": "ReturnURL",
            "store": (
                "InboxItem MemorySessionStore PostgresSessionStore Reserved "
                "SQLiteSessionStore SessionEntry SessionKey SessionState "
                "SessionStore open_store"
            ),
            "portal": "BlockingPortal",
            "report": "CampaignReport report_journals report_store",
            "tls": "TLS",
            "stats": (
                "AttemptEnd AttemptStart BatchStats Latency ResponseHead "
                "Stats Telemetry"
            ),
            "telemetry": "OpenTelemetry",
            "_codec.event_keys": "event_key",
            "_codec.webhooks": "decode_webhook",
        },
    )


__all__ = [
    "CURRENT_BASE_URL",
    "DEFAULT_BASE_URL",
    "TLS",
    "UNSET",
    "AlreadyProcessingError",
    "AsyncBankConnect",
    "Attempt",
    "AttemptEnd",
    "AttemptStart",
    "AuthenticationError",
    "BadRequestError",
    "BankConnectError",
    "BankMismatchError",
    "BankNotDetectedError",
    "BatchStats",
    "BatchStoppedError",
    "BlockingPortal",
    "CampaignReport",
    "CertificateError",
    "Channel",
    "ClientClosedError",
    "Collected",
    "Collection",
    "CollectionJournal",
    "CollectionStats",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "Consent",
    "Created",
    "DecodeError",
    "Delivery",
    "DownloadError",
    "DuplicateStatementError",
    "EnrichmentWebhook",
    "ErrorEvent",
    "ErrorType",
    "Event",
    "EventName",
    "ExitEvent",
    "ExpiryWebhook",
    "ExtractionWebhook",
    "Failed",
    "Failure",
    "ForeignMessageError",
    "HeadTooLargeError",
    "InboxItem",
    "InfoEvent",
    "InvalidCallbackError",
    "InvalidRequestError",
    "InvalidResponseError",
    "JournalError",
    "JournalLockedError",
    "JournalMismatchError",
    "Latency",
    "Listener",
    "MemorySessionStore",
    "Metadata",
    "NotCollected",
    "NotFoundError",
    "NotReadyError",
    "OpenTelemetry",
    "OutOfDateRangeError",
    "Outcome",
    "PacedClient",
    "PasswordIncorrectError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "Phase",
    "Pool",
    "PoolTimeoutError",
    "PostgresSessionStore",
    "ProcessingFailedError",
    "ProxyAuthenticationError",
    "RateLimitError",
    "RequestTimeoutError",
    "Reserved",
    "ResponseError",
    "ResponseHead",
    "ResultSink",
    "RetryBudget",
    "RetryPolicy",
    "ReturnURL",
    "Rows",
    "SQLiteSessionStore",
    "SavedFile",
    "ServerError",
    "Session",
    "SessionBatch",
    "SessionEntry",
    "SessionExpiredError",
    "SessionKey",
    "SessionRequest",
    "SessionState",
    "SessionStore",
    "StatementError",
    "Stats",
    "StoreError",
    "SuccessEvent",
    "Telemetry",
    "Timeouts",
    "TransportError",
    "UnknownEvent",
    "UnknownWebhook",
    "UnparsableStatementError",
    "UnsupportedStatementError",
    "UploadWebhook",
    "WaitTimeoutError",
    "Webhook",
    "arrow_schema",
    "build_redirect",
    "content_security_policy",
    "decode_event",
    "decode_redirect",
    "decode_webhook",
    "event_key",
    "iframe_html",
    "json_default",
    "open_store",
    "report_journals",
    "report_store",
    "run_shard",
]
