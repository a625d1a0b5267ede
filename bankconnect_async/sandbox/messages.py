"""
The vendor's texts, from the table ``messages.csv``.
"""

from collections.abc import Mapping

from .csv_tables import read_table


def find_message(
    where: str, code: str, dialect: str = ""
) -> Mapping[str, str] | None:
    """
    Return the row of a code, if the table has one.

    Args:
        where: The part of the table, such as `account` or `event`.
        code: The code.
        dialect: The dialect, which may have a row of its own.
    """
    table = read_table("messages.csv")
    key = f"{where}.{code}"
    return table.get(f"{dialect}.{key}") or table.get(key)


def read_message(
    where: str, code: str, dialect: str = ""
) -> Mapping[str, str]:
    """
    Return the row of a code, else that of the general failure.
    """
    found = find_message(where, code, dialect)
    return found or read_table("messages.csv")[f"{where}.UNPARSABLE"]
