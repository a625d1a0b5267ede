"""
Async SDK for FinBox Bank Connect: pooled, retried, typed.

`AsyncBankConnect` creates sessions, one or a million. What it raises is in
`bankconnect_async.errors`; a server to try it against is in
`bankconnect_async.sandbox`.
"""

__version__ = "0.1.0"

from .batch import Created, Failed, Outcome, SessionBatch
from .callbacks import (
    EnrichmentWebhook,
    ErrorEvent,
    ErrorType,
    Event,
    EventName,
    ExitEvent,
    ExpiryWebhook,
    ExtractionWebhook,
    InfoEvent,
    SuccessEvent,
    UnknownEvent,
    UnknownWebhook,
    UploadWebhook,
    Webhook,
)
from .client import AsyncBankConnect
from .embed import Listener, content_security_policy, iframe_html
from .errors import (
    Attempt,
    AuthenticationError,
    BankConnectError,
    BatchStoppedError,
    CertificateError,
    ClientClosedError,
    ConfigurationError,
    ConnectFailedError,
    ConnectionLostError,
    DecodeError,
    Delivery,
    ForeignMessageError,
    InvalidCallbackError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    PaymentRequiredError,
    Phase,
    QueueTimeoutError,
    RateLimitedError,
    RejectedError,
    RequestTimeoutError,
    ResponseError,
    ServerFaultError,
    TransportError,
    UnreadableAnswerError,
)
from .events import Channel, decode_event
from .redirect import ReturnURL, build_redirect, decode_redirect
from .retry import RetryBudget, RetryPolicy
from .schema import UNSET, Consent, Metadata, Session, SessionRequest
from .settings import (
    CURRENT_BASE_URL,
    DEFAULT_BASE_URL,
    TLS,
    Pool,
    Timeouts,
)
from .stats import (
    AttemptEnd,
    AttemptStart,
    BatchStats,
    Latency,
    Stats,
)
from .webhooks import decode_webhook, deduplication_key


__all__ = [
    "CURRENT_BASE_URL",
    "DEFAULT_BASE_URL",
    "TLS",
    "UNSET",
    "AsyncBankConnect",
    "Attempt",
    "AttemptEnd",
    "AttemptStart",
    "AuthenticationError",
    "BankConnectError",
    "BatchStats",
    "BatchStoppedError",
    "CertificateError",
    "Channel",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectFailedError",
    "ConnectionLostError",
    "Consent",
    "Created",
    "DecodeError",
    "Delivery",
    "EnrichmentWebhook",
    "ErrorEvent",
    "ErrorType",
    "Event",
    "EventName",
    "ExitEvent",
    "ExpiryWebhook",
    "ExtractionWebhook",
    "Failed",
    "ForeignMessageError",
    "InfoEvent",
    "InvalidCallbackError",
    "InvalidRequestError",
    "Latency",
    "Listener",
    "Metadata",
    "NotAllowedError",
    "NotFoundError",
    "Outcome",
    "PaymentRequiredError",
    "Phase",
    "Pool",
    "QueueTimeoutError",
    "RateLimitedError",
    "RejectedError",
    "RequestTimeoutError",
    "ResponseError",
    "RetryBudget",
    "RetryPolicy",
    "ReturnURL",
    "ServerFaultError",
    "Session",
    "SessionBatch",
    "SessionRequest",
    "Stats",
    "SuccessEvent",
    "Timeouts",
    "TransportError",
    "UnknownEvent",
    "UnknownWebhook",
    "UnreadableAnswerError",
    "UploadWebhook",
    "Webhook",
    "build_redirect",
    "content_security_policy",
    "decode_event",
    "decode_redirect",
    "decode_webhook",
    "deduplication_key",
    "iframe_html",
]
