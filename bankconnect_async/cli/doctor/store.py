"""
The check of the store.
"""

from collections.abc import Mapping
from typing import Final

import bankconnect_async.store as stores

from bankconnect_async.config import read_environment
from bankconnect_async.errors import StoreError
from bankconnect_async.store import open_store

from .findings import CheckError


_STORE: Final = "BANKCONNECT_STORE"
_KEYS: Final = "BANKCONNECT_STORE_KEYS"


async def check_store(environ: Mapping[str, str]) -> str:
    """
    Look at the store of the environment, without a change to it.

    Args:
        environ: The environment.

    Returns:
        The description of the store.

    Raises:
        CheckError: If there is no store, or it is not encrypted, or it cannot
            be used.
    """
    found = read_environment(environ, {"address": _STORE, "keys": _KEYS})
    if "address" not in found:
        raise CheckError(
            "in memory: other processes do not see it, and it ends with its "
            "own",
            f"set {_STORE} where a service or several commands run",
            status="skipped",
        )
    store = open_store(found["address"], found.get("keys"))
    place, is_made = "PostgreSQL", True
    if isinstance(store, stores.SQLiteSessionStore):
        place = str(store.path)
        if not store.path.parent.is_dir():
            raise CheckError(
                f"{store.path.parent}: there is no such folder",
                f"correct {_STORE}, or make the folder",
            )
    if isinstance(
        store, stores.SQLiteSessionStore | stores.PostgresSessionStore
    ):
        try:
            is_made = await store.inspect()
        except StoreError as error:
            # It begins with the place.
            raise CheckError(
                str(error), f"correct {_STORE} or {_KEYS}"
            ) from None
    state = "opens" if is_made else "is new: its first use makes it"
    if not store.keeps_urls:
        raise CheckError(
            f"{place} {state}, without encryption",
            f"set {_KEYS}: without keys, no journey is continued, and names "
            f"and ids can be read in it",
            status="warning",
        )
    return f"{place} {state}"
