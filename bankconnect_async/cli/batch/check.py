"""
``bankconnect batch --check``: judges an input, and sends nothing.
"""

import os

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import attrs

from bankconnect_async._resources.session_creation import RequestPreparer
from bankconnect_async.cli.input.link_ids import LinkIds
from bankconnect_async.cli.input.rows import BadRow, InputRow
from bankconnect_async.cli.input.unknown_banks import UnknownBanks
from bankconnect_async.cli.messages import print_message
from bankconnect_async.cli.options import ApiOptions
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.journal.records import describe_error, printable
from bankconnect_async.models.sessions import UNSET


# The most problems in the JSON, as many bad rows have one cause.
_MOST_PROBLEMS: Final = 1000
# What decides about a row; neither a key nor a store is needed.
_VARIABLES: Final = "BANKCONNECT_REDIRECT_URL", "BANKCONNECT_SIGNING_KEY"


def make_preparer(api: ApiOptions) -> RequestPreparer:
    """
    Return what completes the requests of a run with the same options.

    Raises:
        ConfigurationError: If a setting is wrong.
    """
    if api.sandbox:
        return RequestPreparer(api.settings().get("redirect_url"))
    environ = {
        name: os.environ[name] for name in _VARIABLES if name in os.environ
    }
    settings: Any = {"api_key": "none", **api.settings()}
    bank = AsyncBankConnect.from_env(environ, **settings)
    return RequestPreparer(bank.redirect_url)


def _describe(
    row: InputRow | BadRow, error: InvalidRequestError
) -> dict[str, Any]:
    link_id = row.link_id if isinstance(row, BadRow) else row.request.link_id
    facts = describe_error(error)["error"]
    return {
        "line": row.line,
        "link_id": None if link_id is None else printable(link_id),
        "message": facts["message"],
        "fields": facts["fields"],
    }


@attrs.define
class InputCheck:
    """
    A check of all rows by the rules of a run.

    Args:
        preparer: What completes the requests.

    Attributes:
        valid: The number of rows that make a request.
        failures: The number of other rows, by the name of the error.
        problems: The problems of these rows, of the first thousand.
    """

    _preparer: RequestPreparer
    valid: int = 0
    failures: Counter[str] = attrs.Factory(Counter)
    problems: list[dict[str, Any]] = attrs.Factory(list)
    _link_ids: LinkIds = attrs.field(factory=LinkIds, init=False)
    _banks: UnknownBanks = attrs.field(factory=UnknownBanks, init=False)

    @property
    def invalid(self) -> int:
        """The number of rows that make no request."""
        return self.failures.total()

    def run(self, rows: Iterable[InputRow | BadRow]) -> None:
        """Check the rows, and print the problems of each on a line."""
        for row in rows:
            try:
                self._check(row)
            except InvalidRequestError as error:
                self.failures[type(error).__name__] += 1
                if len(self.problems) < _MOST_PROBLEMS:
                    self.problems.append(_describe(row, error))
                print_message(f"line {row.line}: {error}")
            else:
                self.valid += 1
        self._banks.print_warnings()

    def _check(self, row: InputRow | BadRow) -> None:
        if isinstance(row, BadRow):
            raise row.error
        request = row.request
        if (
            request.redirect_url is not UNSET
            or self._preparer.redirect_url is not UNSET
        ):
            self._preparer.prepare(request)
        self._link_ids.add(row)
        self._banks.add(row)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as an object for JSON."""
        return {
            "valid": self.valid,
            "invalid": self.invalid,
            "failures": dict(self.failures),
            "problems": self.problems,
        }

    def as_text(self) -> str:
        """Return the result as one line of text."""
        return (
            f"checked {self.valid + self.invalid} rows, {self.invalid} of "
            f"them invalid; nothing was sent"
        )
