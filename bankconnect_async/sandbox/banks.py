"""
The banks the vendor documents, and the modes each of them offers.
"""

import csv
import functools
import importlib.resources

from collections.abc import Mapping
from typing import Any, Final

import attrs


# Account Aggregator is documented for twelve banks only, so an empty column
# means "not known". The sandbox refuses nothing that it does not know.
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
        identifier: In upper case, as the catalogue prints it.
        name: For people.
        modes: What `mode` may be with this bank. Net banking counts as
            offered if either of the vendor's two lists says so (U-38).
        has_aa: Whether Account Aggregator is known to be offered.
        npci_code: Of the catalogue, where it shows one.
    """

    identifier: str
    name: str
    modes: frozenset[str]
    has_aa: bool = False
    npci_code: str | None = None


def find_bank(identifier: str) -> SandboxBank | None:
    """
    Look a bank up by its identifier, in any case and of any era.
    """
    return _banks().get(identifier.lower())


def bank_of(parameters: Mapping[str, Any]) -> str | None:
    """
    Return the bank that a session was asked for, as it was written.
    """
    bank: str | None = parameters.get("bank_name", parameters.get("bank"))
    return bank


def all_banks() -> tuple[SandboxBank, ...]:
    """
    Return every bank once, by name.
    """
    return tuple(
        sorted(set(_banks().values()), key=lambda bank: bank.name.casefold())
    )


@functools.cache
def _banks() -> Mapping[str, SandboxBank]:
    package = importlib.resources.files("bankconnect_async.sandbox")
    text = package.joinpath("banks.csv").read_text(encoding="utf-8")
    banks = {}
    for row in csv.DictReader(text.splitlines()):
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
