"""
Rows as Parquet.
"""

import io

from typing import TYPE_CHECKING, Any

from bankconnect_async.models import Rows


if TYPE_CHECKING:
    from pyarrow import parquet
else:
    try:
        from pyarrow import parquet
    except ImportError:  # the extra [tables], which `to_arrow` checks
        parquet = None


def encode_parquet(rows: Rows[Any]) -> bytes:
    """
    Return rows as Parquet, compressed with Zstandard.
    """
    table = rows.to_arrow()
    content = io.BytesIO()
    parquet.write_table(table, content, compression="zstd")
    return content.getvalue()
