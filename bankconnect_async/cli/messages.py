"""
The messages of the command line.
"""

from collections.abc import Mapping
from typing import Any, Final

import click

from bankconnect_async.errors import (
    AuthenticationError,
    BankConnectError,
    ConfigurationError,
    Delivery,
    JournalError,
    PasswordIncorrectError,
)


_UNCERTAIN: Final = Delivery.AMBIGUOUS, Delivery.CREATED_UNREADABLE
# Settings that the environment can have, under the names of the library.
_VARIABLES: Final = {
    "api_key": "BANKCONNECT_API_KEY",
    "server_hash": "BANKCONNECT_SERVER_HASH",
    "base_url": "BANKCONNECT_BASE_URL",
    "version": "BANKCONNECT_API_VERSION",
    "redirect_url": "BANKCONNECT_REDIRECT_URL",
    "secret": "BANKCONNECT_SIGNING_KEY",
    "proxy": "BANKCONNECT_PROXY",
}
# Commands whose requests carry the server hash, too.
_WITH_HASH: Final = frozenset({"fetch", "wait"})
_PHRASES: Final = {
    "allow_http=True": "--allow-http",
    "use another path": "name another --output",
    "fresh=True": "--fresh",
}


def explain(error: BankConnectError, command: click.Command) -> str:
    """
    Say what happened and what follows from it, in words of *command*.
    """
    if isinstance(error, ConfigurationError | JournalError):
        return _in_words_of(command, error)
    if isinstance(error, AuthenticationError):
        return f"{error}; check {_secrets_of(command)}"
    if isinstance(error, PasswordIncorrectError):
        return f"{error}; give the PDF's in BANKCONNECT_PDF_PASSWORD"
    if error.delivery in _UNCERTAIN:
        return f"{error}; a session may exist all the same"
    return str(error)


def _secrets_of(command: click.Command) -> str:
    # Sessions and uploads do without the second one.
    if command.name in _WITH_HASH:
        return "BANKCONNECT_API_KEY and BANKCONNECT_SERVER_HASH"
    return "BANKCONNECT_API_KEY"


def _in_words_of(
    command: click.Command, error: ConfigurationError | JournalError
) -> str:
    text = str(error)
    fields: Mapping[str, tuple[str, ...]] = getattr(error, "fields", {})
    if fields:
        options = {option.name: option for option in command.params}
        text = "; ".join(
            _describe(_setting(name, options), problem)
            for name, problems in fields.items()
            for problem in problems
        )
    for words, replacement in _PHRASES.items():
        text = text.replace(words, replacement)
    return text


def _describe(setting: str, problem: str) -> str:
    # Where a variable is what is missing, its name is not said twice.
    _, separator, advice = problem.partition(f"set {setting} ")
    if separator:
        return f"{setting} is not set: set it {advice}"
    return f"{setting}: {problem}"


def _setting(name: str, options: Mapping[Any, click.Parameter]) -> str:
    # Only commands that talk to an API read the environment.
    name = "redirect_url" if name == "base" else name
    variable = _VARIABLES.get(name) if "base_url" in options else None
    if name not in options:
        return variable or name
    option = options[name].opts[0]
    return f"{option} or {variable}" if variable else option
