"""
A local stand-in for the vendor, for tests, demos and load experiments.
"""

from bankconnect_async.events import Dialect

from ._kinds import Fault
from ._pdfs import statement_pdf
from ._plans import Faults
from ._records import Played, SandboxEntity, SandboxSession, SentWebhook
from ._server import Sandbox
from ._session_api import UNPAID_API_KEY


__all__ = [
    "UNPAID_API_KEY",
    "Dialect",
    "Fault",
    "Faults",
    "Played",
    "Sandbox",
    "SandboxEntity",
    "SandboxSession",
    "SentWebhook",
    "statement_pdf",
]
