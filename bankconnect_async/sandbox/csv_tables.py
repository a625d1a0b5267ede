"""
The tables of data beside the sandbox's modules.
"""

import csv
import functools
import importlib.resources

from collections.abc import Mapping


@functools.cache
def read_table(path: str) -> Mapping[str, Mapping[str, str]]:
    """
    Return the rows of a CSV file by their first column.

    Args:
        path: The file's path in the package of the sandbox.
    """
    package = importlib.resources.files("bankconnect_async.sandbox")
    text = package.joinpath(path).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {next(iter(row.values())): row for row in rows}
