"""
PDFs that pypdf reads and encrypts.
"""

import io

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from bankconnect_async.errors import ConfigurationError

from .file_errors import NEEDS_EXTRA, UnreadableError, WrongPasswordError


try:
    import pypdf
    import pypdf.errors
except ImportError:  # pragma: no cover - there is a test that hides it
    pypdf = None  # type: ignore[assignment]


if TYPE_CHECKING:
    from pypdf import PdfReader

# The head of a statement is on its first pages; others only cost time.
_PAGES_TO_READ: Final = 5


@attrs.frozen
class Content:
    """
    The content of a PDF.

    Attributes:
        text: The text layer of the first pages; blank if the PDF is a scan.
        page_count: The number of pages.
        metadata: The values of the metadata.
    """

    text: str = attrs.field(repr=False)
    page_count: int
    metadata: list[str] = attrs.field(repr=False)


def read(content: bytes, password: str | None) -> Content | None:
    """
    Read a PDF, or return nothing if this takes a library that is missing.

    Raises:
        UnreadableError: If it is not a PDF, or damaged.
        WrongPasswordError: If it is encrypted with another password.
    """
    if pypdf is None:
        return None
    try:
        return _read(pypdf.PdfReader(io.BytesIO(content)), password)
    except WrongPasswordError:
        raise
    except pypdf.errors.DependencyError:
        return None
    # Uploads may be anything, and pypdf raises more than its own errors.
    except Exception as exc:
        raise UnreadableError from exc


def _read(reader: "PdfReader", password: str | None) -> Content:
    # Where only the owner has a password, any other one is needless.
    if reader.is_encrypted and not (
        reader.decrypt("") or reader.decrypt(password or "")
    ):
        raise WrongPasswordError
    pages = reader.pages[:_PAGES_TO_READ]
    metadata: Mapping[str, object] = reader.metadata or {}
    return Content(
        text="\n".join(page.extract_text() for page in pages),
        page_count=len(reader.pages),
        metadata=list(map(str, metadata.values())),
    )


def encrypt(content: bytes, password: str) -> bytes:
    """
    Encrypt a PDF with a password.

    Raises:
        ConfigurationError: If pypdf is missing.
    """
    if pypdf is None:
        raise ConfigurationError(f"a password takes pypdf: {NEEDS_EXTRA}")
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    # pypdf needs another package for every other algorithm.
    writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()
