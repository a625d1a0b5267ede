"""
Files of rows: JSON, CSV, Parquet and Excel workbooks.

Parquet and Excel need the extra `[tables]`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from bankconnect_async import tables
from bankconnect_async._json import dump_json
from bankconnect_async._lazy import lazy_names
from bankconnect_async._printable import printable_json
from bankconnect_async._resources.files import PartFile
from bankconnect_async.models import Rows, Transaction


if TYPE_CHECKING:
    from .csv_file import encode_csv
    from .parquet import encode_parquet
    from .workbook import encode_workbook
else:
    # Their libraries take a quarter of a second to import.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "csv_file": "encode_csv",
            "parquet": "encode_parquet",
            "workbook": "encode_workbook",
        },
    )


#: The formats of files.
Format: TypeAlias = Literal["json", "csv", "parquet", "xlsx"]

FORMATS: Final[tuple[Format, ...]] = ("json", "csv", "parquet", "xlsx")


def encode_json(document: Any) -> bytes:
    """
    Return a document as JSON, with every number as the vendor sent it.

    Characters that are not printable are escaped.
    """
    return printable_json(dump_json(document, indent=True))


def encode_table(rows: Rows[Any], format_: Format) -> bytes:
    """
    Return rows as the content of a file.

    Args:
        rows: The rows.
        format_: The format: `json` has the objects as the vendor sent them,
            the others have the columns of `arrow_schema(rows.row_type)`.

    Raises:
        ConfigurationError: If the extra `[tables]` is missing.
        DecodeError: If the format has no place for a value, or for so many
            rows.
    """
    match format_:
        case "json":
            return encode_json([row.raw for row in rows])
        case "csv":
            return tables.encode_csv(rows)
        case "parquet":
            return tables.encode_parquet(rows)
        case "xlsx":
            return tables.encode_workbook(rows)


def check_format(format_: Format) -> None:
    """
    Check that files of a format can be written, before data is fetched.

    Raises:
        ConfigurationError: If the extra `[tables]` is missing.
    """
    encode_table(Rows(Transaction), format_)


def write_table(rows: Rows[Any], path: Path, format_: Format) -> None:
    """
    Write rows to a file, whole or not at all.

    The file is readable for its owner only. It replaces an older one.

    Args:
        rows: The rows.
        path: The path of the file.
        format_: The format, as for `encode_table`.

    Raises:
        ConfigurationError: If the extra `[tables]` is missing.
        DecodeError: If the format has no place for a value, or for so many
            rows.
        InvalidRequestError: If there is something else than a file at *path*.
        OSError: If the file cannot be written.
    """
    write_file(encode_table(rows, format_), path)


def write_file(content: bytes, path: Path, *, is_new: bool = False) -> None:
    """
    Write *content* to a file as `write_table` does.

    Args:
        content: The content.
        path: The path of the file.
        is_new: Whether an older file is kept, and raises `FileExistsError`.
    """
    part = PartFile(path, is_new=is_new)
    try:
        part.create()
        part.append(content)
        part.commit()
    finally:
        part.discard()


__all__ = [
    "FORMATS",
    "Format",
    "check_format",
    "encode_csv",
    "encode_json",
    "encode_parquet",
    "encode_table",
    "encode_workbook",
    "write_file",
    "write_table",
]
