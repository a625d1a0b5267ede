"""
Parts of the fixtures for pytest, which other tests can use, too.
"""

import collections

from collections.abc import Mapping
from typing import Any

from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.sandbox import Sandbox


def make_client(sandbox: Sandbox, **settings: Any) -> AsyncBankConnect:
    """
    Make a client of a running sandbox.

    Args:
        sandbox: The sandbox.
        settings: Arguments of `AsyncBankConnect`. By default the client has
            the sandbox's URL and secrets, and creates sessions for the
            inline-frame workflow.
    """
    return AsyncBankConnect(
        **{
            "api_key": sandbox.api_key,
            "server_hash": sandbox.server_hash,
            "base_url": sandbox.base_url,
            "redirect_url": None,
            **settings,
        }
    )


def duplicate_sessions(sandbox: Sandbox) -> Mapping[str, int]:
    """
    Return the number of sessions of each `link_id` that has several.
    """
    counts = collections.Counter(
        session.link_id for session in sandbox.sessions.values()
    )
    return {link_id: count for link_id, count in counts.items() if count > 1}
