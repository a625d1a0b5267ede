"""
Fake accounts, transactions and documents.
"""

from typing import TYPE_CHECKING

from bankconnect_async._lazy import lazy_names


if TYPE_CHECKING:
    from . import pypdf_files
else:
    # pypdf takes a tenth of a second to import, and only uploads need it.
    __getattr__, __dir__ = lazy_names(__name__, {}, submodules=["pypdf_files"])


__all__ = ["pypdf_files"]
