"""
Names of files for ids, which are foreign text.
"""

import hashlib
import re

from typing import Final


# No upper case: some file systems do not tell it from lower case.
_SAFE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_UNSAFE: Final = re.compile(r"[^a-z0-9_-]+")
_KEPT: Final = 60
# Devices of Windows, whatever their suffix.
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])")


def safe_name(id_: str) -> str:
    """
    Return a file name for an id, without a suffix.

    It is the id, if that is one of lower-case letters, digits, ``-`` and
    ``_``; else what is left of it, and a digest behind ``~``. Two ids never
    have the same name.
    """
    if _SAFE.fullmatch(id_) and not _DEVICE.fullmatch(id_):
        return id_
    rest = _UNSAFE.sub("_", id_.lower())[:_KEPT]
    raw = id_.encode("utf-8", "surrogatepass")
    return f"{rest}~{hashlib.sha256(raw).hexdigest()[:16]}"
