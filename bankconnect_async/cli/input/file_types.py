"""
Detection of other file types by their first bytes.
"""

from collections.abc import Mapping
from typing import Final


_SAVE_AS_CSV: Final = "save it as CSV in UTF-8"
_UNPACK: Final = "unpack it, or pack it with gzip alone"

_BEGINNINGS: Final[Mapping[bytes, str]] = {
    b"\xff\xfe\0\0": f"is UTF-32: {_SAVE_AS_CSV}",
    b"\xff\xfe": f"is UTF-16: {_SAVE_AS_CSV}",
    b"\xfe\xff": f"is UTF-16: {_SAVE_AS_CSV}",
    # UTF-8 that was read in another encoding, and saved as UTF-8 again.
    "\u00ef\u00bb\u00bf".encode(): (
        f"begins with a damaged byte order mark (ï»¿): {_SAVE_AS_CSV}"
    ),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": (
        f"is a workbook of an old Excel (.xls): {_SAVE_AS_CSV}"
    ),
    b"%PDF-": f"is a PDF: export the table and {_SAVE_AS_CSV}",
    b"{\\rtf": f"is a text with formatting (.rtf): {_SAVE_AS_CSV}",
    b"PAR1": f"is a Parquet file: {_SAVE_AS_CSV}",
    b"ARROW1": f"is an Arrow file: {_SAVE_AS_CSV}",
    b"SQLite format 3": f"is a SQLite database: {_SAVE_AS_CSV}",
    b"\x1f\x8b": "is packed with gzip twice: unpack it once",
    b"BZh": f"is packed with bzip2: {_UNPACK}",
    b"\xfd7zXZ": f"is packed with xz: {_UNPACK}",
    b"\x28\xb5\x2f\xfd": f"is packed with zstd: {_UNPACK}",
    b"7z\xbc\xaf\x27\x1c": f"is a 7z archive: {_UNPACK}",
    b"Rar!": f"is a RAR archive: {_UNPACK}",
}
_MARKUP: Final[Mapping[bytes, str]] = {
    b"<?xml": "is XML",
    b"<!doctype html": "is HTML",
    b"<html": "is HTML",
    b"<head": "is HTML",
    b"<meta": "is HTML",
    b"<table": "is HTML",
}
_ZIP: Final = b"PK\x03\x04", b"PK\x05\x06"


def find_file_type(head: bytes) -> str | None:
    """
    Return the type of a file that is neither CSV nor JSON lines.

    Args:
        head: The first line that is not blank, without blanks around it.

    Returns:
        The type and advice, as a text after the file's name; `None` if the
        file may be CSV or JSON lines.
    """
    lower = head[:20].lower()
    for beginning, text in _MARKUP.items():
        if lower.startswith(beginning):
            return (
                f"{text}, as some sites export tables: open it in a "
                f"spreadsheet, and {_SAVE_AS_CSV}"
            )
    return find_unsearchable_type(head)


def find_unsearchable_type(head: bytes) -> str | None:
    """
    Return the type of a file whose lines do not hold its text as it is.

    See `find_file_type`.
    """
    for beginning, text in _BEGINNINGS.items():
        if head.startswith(beginning):
            return text
    if head.startswith(_ZIP):
        return _describe_zip(head)
    if len(head) > 1 and not (any(head[::2]) and any(head[1::2])):
        return f"is UTF-16: {_SAVE_AS_CSV}"
    if b"\0" in head:
        return f"is binary, neither CSV nor JSON lines: {_SAVE_AS_CSV}"
    return None


def _describe_zip(head: bytes) -> str:
    if b"opendocument.spreadsheet" in head:
        return f"is a workbook (.ods): {_SAVE_AS_CSV}"
    if b"[Content_Types].xml" in head or b"xl/" in head:
        return f"is a workbook (.xlsx): {_SAVE_AS_CSV}"
    return f"is a ZIP archive or a workbook (.xlsx): {_SAVE_AS_CSV}"
