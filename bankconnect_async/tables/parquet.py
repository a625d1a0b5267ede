"""
Rows as Parquet.
"""

import io

from typing import Any

from bankconnect_async.models import Rows


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
