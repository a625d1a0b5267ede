"""
Setting the endpoint of webhooks, and recovering what was missed.

The contract's `webhooks.md` says what stands here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from bankconnect_async import _reading as reading
from bankconnect_async._reading import wired
from bankconnect_async.callbacks import ExtractionWebhook
from bankconnect_async.errors import InvalidRequestError

from ._decoding import raw


@attrs.frozen(kw_only=True)
class MissedWebhooks:
    """
    Webhooks of a customer, newest first (`webhook_payloads/`).
    """

    payloads: tuple[ExtractionWebhook, ...] = wired(
        reading.many(reading.one(ExtractionWebhook)), default=()
    )
    raw: Mapping[str, Any] = raw()


def encode_webhook_update(url: str, mode: int | Sequence[str]) -> bytes:
    """
    Write the body of `POST …/update_webhook/`.

    The mode is always sent: the entity flow forgets it with every update
    that leaves it out.

    Args:
        url: Where the vendor shall post webhooks to.
        mode: A number, or event names where the session flow took them.

    Raises:
        InvalidRequestError: If either cannot be sent.
    """
    fields: dict[str, tuple[str, ...]] = {}
    if not url.startswith(("https://", "http://")):
        fields["url"] = ("must be an absolute http or https URL",)
    if isinstance(mode, str) or not (
        type(mode) is int
        or (
            isinstance(mode, Sequence)
            and all(isinstance(name, str) for name in mode)
        )
    ):
        fields["mode"] = ("must be a number or a list of event names",)
    if fields:
        raise InvalidRequestError(fields=fields)
    modes = mode if isinstance(mode, int) else list(mode)
    return orjson.dumps({"webhook_url": url, "webhook_mode": modes})
