"""
Make the protocol of a service from the environment.
"""

import os

from typing import Any, Final

from bankconnect_async.config import read_environment, split_keys
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.web.protocol import CallbackProtocol

from .messages import renamed_settings


_VARIABLES: Final = {
    "callback_url": "BANKCONNECT_CALLBACK_URL",
    "signing_key": "BANKCONNECT_SIGNING_KEY",
}


def make_protocol(
    callback_url: str | None = None, **settings: Any
) -> CallbackProtocol:
    """
    Return the protocol of the service that the environment names.

    Args:
        callback_url: The URL of the service, instead of that of the
            environment.
        **settings: Further settings of the protocol.

    Raises:
        ConfigurationError: If a variable is not set or wrong.
    """
    found = read_environment(os.environ, _VARIABLES)
    if callback_url is not None:
        found["callback_url"] = callback_url
    for name, variable in _VARIABLES.items():
        if name not in found:
            raise ConfigurationError(
                fields={
                    name: (
                        f"is missing: set {variable} to that of your service",
                    )
                }
            )
    with renamed_settings({"base": "callback_url", "secret": "signing_key"}):
        return CallbackProtocol(
            found["callback_url"],
            secret=split_keys(found["signing_key"]),
            **settings,
        )
