"""
Parts for tests of code that uses this package.

With pytest, the fixtures `bankconnect_sandbox`, `bankconnect`,
`bankconnect_faults`, `bankconnect_failure` and `no_duplicate_sessions` are
there without an import. They use real HTTP: the best double of the vendor is
`bankconnect_async.sandbox.Sandbox`. `FakeClock` controls what a real part
cannot, and the functions make the bodies of webhooks.
"""

from typing import TYPE_CHECKING

from bankconnect_async._lazy import lazy_names

from .clock import FakeClock


if TYPE_CHECKING:
    from .failures import FAILURES, DocumentedFailure
    from .parts import duplicate_sessions, make_client
    from .webhooks import (
        enrichment_webhook,
        expiry_webhook,
        extraction_webhook,
        upload_webhook,
    )
else:
    # A test with a clock of its own needs no sandbox.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "failures": "DocumentedFailure FAILURES",
            "parts": "duplicate_sessions make_client",
            "webhooks": (
                "enrichment_webhook expiry_webhook extraction_webhook "
                "upload_webhook"
            ),
        },
    )


__all__ = [
    "FAILURES",
    "DocumentedFailure",
    "FakeClock",
    "duplicate_sessions",
    "enrichment_webhook",
    "expiry_webhook",
    "extraction_webhook",
    "make_client",
    "upload_webhook",
]
