"""
Banks in an input that the vendor's documents do not name.
"""

import difflib

from typing import Final

import attrs

from bankconnect_async.cli.messages import print_message
from bankconnect_async.sandbox.banks import all_banks, find_bank

from .damage import quote
from .rows import InputRow


# A wrong column has as many as rows.
_MOST: Final = 20


@attrs.define
class UnknownBanks:
    """
    The unknown banks of the rows so far, and the first line of each.

    The vendor's list may grow, so they are worth a warning only.
    """

    _lines: dict[str, int] = attrs.field(factory=dict, init=False)

    def add(self, row: InputRow) -> None:
        """Remember the bank of a row if it is unknown."""
        bank = row.request.bank_name
        if (
            isinstance(bank, str)
            and len(self._lines) < _MOST
            and find_bank(bank) is None
        ):
            self._lines.setdefault(bank, row.line)

    def print_warnings(self) -> None:
        """Print a line for each bank."""
        for bank, line in self._lines.items():
            print_message(
                f"warning: line {line}: bank_name: {quote(bank)} is no bank "
                f"that the vendor documents{_suggest(bank)}: if it does not "
                f"know it, no customer of these rows gets a session"
            )


def _suggest(bank: str) -> str:
    known = {
        name.lower(): each.identifier
        for each in all_banks()
        for name in (each.identifier, each.name)
    }
    similar = difflib.get_close_matches(bank.lower(), known, n=1)
    return f" (did you mean {known[similar[0]]}?)" if similar else ""
