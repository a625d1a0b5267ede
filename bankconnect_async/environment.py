"""
Make objects of the texts of environment variables.
"""

from typing import Any

from yarl import URL

from ._codec.return_urls import ReturnURL
from .store import open_store


def resolve_texts(settings: dict[str, Any]) -> bool:
    """
    Replace a signing key and a store's address and keys by their objects.

    Args:
        settings: The settings for a client, which are changed.

    Returns:
        Whether the client has to close its store.

    Raises:
        ConfigurationError: If one of them is bad.
    """
    signing_key = settings.pop("signing_key", None)
    base = settings.get("redirect_url")
    if signing_key is not None and isinstance(base, str | URL):
        settings["redirect_url"] = ReturnURL(base, secret=signing_key)
    keys = settings.pop("store_keys", None)
    address = settings.get("store")
    if not isinstance(address, str):
        return address is None
    settings["store"] = open_store(address, keys)
    return True
