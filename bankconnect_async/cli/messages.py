"""
The messages of the command line.
"""

import os

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Final

import click

from bankconnect_async._printable import one_line
from bankconnect_async.errors import (
    UNCERTAIN,
    AuthenticationError,
    BankConnectError,
    CertificateError,
    ConfigurationError,
    ConnectError,
    JournalError,
    PasswordIncorrectError,
    ProxyAuthenticationError,
)


#: The environment variables of settings, by the names in the library.
VARIABLES: Final = {
    "api_key": "BANKCONNECT_API_KEY",
    "server_hash": "BANKCONNECT_SERVER_HASH",
    "base_url": "BANKCONNECT_BASE_URL",
    "version": "BANKCONNECT_API_VERSION",
    "redirect_url": "BANKCONNECT_REDIRECT_URL",
    "base": "BANKCONNECT_REDIRECT_URL",
    "secret": "BANKCONNECT_SIGNING_KEY",
    "callback_url": "BANKCONNECT_CALLBACK_URL",
    "signing_key": "BANKCONNECT_SIGNING_KEY",
    "proxy": "BANKCONNECT_PROXY",
    "ca_file": "BANKCONNECT_CA_FILE",
    "store": "BANKCONNECT_STORE",
    "store_keys": "BANKCONNECT_STORE_KEYS",
    "dsn": "BANKCONNECT_STORE",
    "encryption_keys": "BANKCONNECT_STORE_KEYS",
    "pdf_password": "BANKCONNECT_PDF_PASSWORD",
}
# The commands whose requests carry the server hash, too.
_WITH_HASH: Final = frozenset({"collect", "fetch", "sweep", "wait", "webhook"})
_HASH: Final = "BANKCONNECT_SERVER_HASH"
_PHRASES: Final = {
    "allow_http=True": "--allow-http",
    "use another path": "name another --output",
    "use another journal": "name another --to",
    "fresh=True": "--fresh",
    "keep_created=True": "--keep-created",
}


def print_message(text: str) -> None:
    """
    Print one line to stderr, without control characters.
    """
    click.echo(one_line(text), err=True)


class CommandError(click.ClickException):
    """
    An error that ends the command; its message is one line.

    Args:
        message: The whole message.
        exit_code: The exit code.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc] # one for each

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message to stderr."""
        click.echo(one_line(self.message), file, err=True)


@contextmanager
def renamed_settings(names: Mapping[str, str]) -> Iterator[None]:
    """
    Rename the settings that a `ConfigurationError` names.

    Args:
        names: The new name of each setting.
    """
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(
            fields={
                names.get(name, name): problems
                for name, problems in error.fields.items()
            }
        ) from None


def explain(error: BankConnectError, command: click.Command) -> str:
    """
    Return what happened and what to do, in words of *command*.
    """
    match error:
        case ConfigurationError() | JournalError():
            return _in_words_of(command, error)
        case AuthenticationError() if command.name in _WITH_HASH:
            advice = _check_hash()
        case AuthenticationError():
            advice = "check BANKCONNECT_API_KEY"
        case ProxyAuthenticationError():
            return str(error)
        case CertificateError():
            advice = (
                "if its authority is a private one, set BANKCONNECT_CA_FILE; "
                "bankconnect doctor tells more"
            )
        case ConnectError():
            advice = (
                "check BANKCONNECT_BASE_URL and BANKCONNECT_PROXY; "
                "bankconnect doctor tells more"
            )
        case PasswordIncorrectError():
            advice = "give the PDF's in BANKCONNECT_PDF_PASSWORD"
        case BankConnectError() if error.delivery in UNCERTAIN:
            advice = "a session may exist"
        case _:
            return str(error)
    return f"{error}; {advice}"


def _check_hash() -> str:
    if not os.environ.get(_HASH, "").strip():
        return f"set {_HASH}"
    return (
        f"check {_HASH} and BANKCONNECT_API_KEY; bankconnect doctor tells "
        f"which one is wrong"
    )


def _in_words_of(command: click.Command, error: BankConnectError) -> str:
    text = str(error)
    fields: Mapping[str, tuple[str, ...]] = getattr(error, "fields", {})
    if fields:
        options = {str(each.name): each.opts[0] for each in command.params}
        text = "; ".join(
            _describe(_setting(name, options), problem)
            for name, problems in fields.items()
            for problem in problems
        )
    for words, replacement in _PHRASES.items():
        text = text.replace(words, replacement)
    return text


def _describe(setting: str, problem: str) -> str:
    # The name of a missing variable is printed once.
    _, separator, advice = problem.partition(f"set {setting} ")
    if separator:
        return f"{setting} is not set: set it {advice}"
    return f"{setting}: {problem}"


def _setting(name: str, options: Mapping[str, str]) -> str:
    # Only commands with a client or a service read the environment.
    reads = not options.keys().isdisjoint({"base_url", "callback_url"})
    variable = VARIABLES.get(name) if reads else None
    option = options.get("redirect_url" if name == "base" else name)
    return " or ".join(filter(None, (option, variable))) or name
