"""
The banks that the vendor documents, and the modes of each.
"""

import functools

from collections.abc import Mapping
from typing import Any, Final

import attrs

from .csv_tables import read_table


# Account Aggregator is documented for twelve banks only. An empty column means
# "unknown", and the sandbox does not refuse what is unknown.
_COLUMNS: Final = {
    "pdf": "manual_upload",
    "online": "net_banking",
    "aa": "aa",
}
#: The bank of the vendor's own examples.
EXAMPLE_BANK: Final = "axis"


@attrs.frozen(kw_only=True)
class SandboxBank:
    """
    One row of the vendor's table of banks.

    Attributes:
        identifier: The identifier in upper case, as in the catalogue.
        name: The name for people.
        modes: The values of `mode` that it allows. Net banking counts as
            offered if either of the vendor's two lists says so (U-38).
        has_aa: Whether Account Aggregator is known to be offered.
        npci_code: The code in the catalogue, if it shows one.
    """

    identifier: str
    name: str
    modes: frozenset[str]
    has_aa: bool = False
    npci_code: str | None = None


def find_bank(identifier: str) -> SandboxBank | None:
    """
    Find a bank by its current or former identifier, in any case.
    """
    return _banks().get(identifier.lower())


def bank_of(parameters: Mapping[str, Any]) -> str | None:
    """
    Return the identifier of the bank in a session's parameters, if any.
    """
    bank: str | None = parameters.get("bank_name", parameters.get("bank"))
    return bank


def all_banks() -> tuple[SandboxBank, ...]:
    """
    Return every bank once, sorted by name.
    """
    return tuple(
        sorted(set(_banks().values()), key=lambda bank: bank.name.casefold())
    )


@functools.cache
def _banks() -> Mapping[str, SandboxBank]:
    banks = {}
    for row in read_table("banks.csv").values():
        bank = _bank(row)
        banks[bank.identifier.lower()] = bank
        if row["seed_identifier"]:
            banks[row["seed_identifier"]] = bank
    return banks


def _bank(row: Mapping[str, str]) -> SandboxBank:
    return SandboxBank(
        identifier=row["identifier"],
        name=row["bank_name"],
        modes=frozenset(
            mode for mode, column in _COLUMNS.items() if row[column] != "no"
        ),
        has_aa=row["aa"] == "yes",
        npci_code=row["npci_code"] or None,
    )
