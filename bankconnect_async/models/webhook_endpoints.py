"""
Setting the endpoint of webhooks, and recovering what was missed.

The contract's `webhooks.md` says what stands here.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from . import _fields as reading
from ._fields import raw, wired
from .webhooks import ExtractionWebhook


@attrs.frozen(kw_only=True)
class MissedWebhooks:
    """
    Webhooks of a customer, newest first (`webhook_payloads/`).
    """

    payloads: tuple[ExtractionWebhook, ...] = wired(
        reading.many(reading.one(ExtractionWebhook)), default=()
    )
    raw: Mapping[str, Any] = raw()
