"""
A local stand-in for the vendor, for tests, demos and load experiments.
"""

from bankconnect_async._codec.browser_messages import Dialect

from .fake_data.pdfs import statement_pdf
from .faults.catalogue import Fault
from .faults.plans import Faults
from .http.endpoints import UNPAID_API_KEY
from .records import (
    Played,
    ReceivedRequest,
    SandboxEntity,
    SandboxSession,
    SentWebhook,
)
from .server import Sandbox


__all__ = [
    "UNPAID_API_KEY",
    "Dialect",
    "Fault",
    "Faults",
    "Played",
    "ReceivedRequest",
    "Sandbox",
    "SandboxEntity",
    "SandboxSession",
    "SentWebhook",
    "statement_pdf",
]
