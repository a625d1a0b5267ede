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
from bankconnect_async.cli.messages import print_message
from bankconnect_async.cli.options import ApiOptions
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.models.sessions import UNSET


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


@attrs.define
class InputCheck:
    """
    A check of all rows by the rules of a run.

    Args:
        preparer: What completes the requests.

    Attributes:
        valid: The number of rows that make a request.
        failures: The number of other rows, by the name of the error.
    """

    _preparer: RequestPreparer
    valid: int = 0
    failures: Counter[str] = attrs.Factory(Counter)
    _link_ids: LinkIds = attrs.field(factory=LinkIds, init=False)

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
                print_message(f"line {row.line}: {error}")
            else:
                self.valid += 1

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

    def as_dict(self) -> dict[str, Any]:
        """Return the result as an object for JSON."""
        return {
            "valid": self.valid,
            "invalid": self.invalid,
            "failures": dict(self.failures),
        }

    def as_text(self) -> str:
        """Return the result as one line of text."""
        return (
            f"checked {self.valid + self.invalid} rows, {self.invalid} of "
            f"them invalid; nothing was sent"
        )
