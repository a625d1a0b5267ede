"""
A local stand-in for the vendor, for tests, demos and load experiments.
"""

from typing import TYPE_CHECKING

from bankconnect_async._codec.browser_messages import Dialect
from bankconnect_async._lazy import lazy_names


if TYPE_CHECKING:
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
else:
    # The command line reads the table of banks without a server.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "fake_data.pdfs": "statement_pdf",
            "faults.catalogue": "Fault",
            "faults.plans": "Faults",
            "http.endpoints": "UNPAID_API_KEY",
            "records": (
                "Played ReceivedRequest SandboxEntity SandboxSession "
                "SentWebhook"
            ),
            "server": "Sandbox",
        },
    )


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
