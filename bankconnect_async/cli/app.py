"""
The commands and their exit codes.
"""

import difflib

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from bankconnect_async import __version__
from bankconnect_async._lazy import lazy_names
from bankconnect_async.errors import (
    AuthenticationError,
    BankConnectError,
    ConfigurationError,
    InvalidRequestError,
    JournalError,
)

from .commands import Exit
from .messages import CommandError, explain


# The commands in each module beside this one.
_MODULES: Final = {
    ".batch.command": "batch",
    ".collect.command": "collect",
    ".completion": "completion",
    ".decode": "decode",
    ".demo.server": "demo",
    ".doctor.command": "doctor",
    ".forget": "forget",
    ".invite": "invite",
    ".merge": "merge",
    ".report.command": "report",
    ".sandbox": "sandbox",
    ".session": "session",
    ".statements": "fetch upload wait",
    ".sweep": "sweep",
    ".trigger": "trigger",
    ".webhook": "webhook",
}
_NAMES: Final = sorted(" ".join(_MODULES.values()).split())

_load = lazy_names(__name__, _MODULES)[0]


class _Commands(Mapping[str, click.Command]):
    """
    The commands by name; each is imported when it is looked up.

    So a command does without the libraries of the others.
    """

    def __getitem__(self, name: str) -> click.Command:
        if name not in _NAMES:
            raise KeyError(name)
        try:
            return _load(name)  # type: ignore[no-any-return]
        except KeyboardInterrupt:
            raise _interrupted() from None

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


class _App(click.Group):
    """
    Turns an error of a command into one line and an exit code.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the one that is most similar."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            similar = difflib.get_close_matches(args[0], _NAMES, n=1)
            if not similar or "Did you mean" in exc.message:
                raise
            raise click.UsageError(
                f"{exc.message} Did you mean {similar[0]!r}?", ctx
            ) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BankConnectError as error:
            name = ctx.invoked_subcommand or ""
            text = explain(error, self.commands.get(name, self))
            if not isinstance(error, JournalError):
                # The message of a journal begins with the file's name.
                text = f"bankconnect: {text}"
            raise CommandError(text, _exit_code(error)) from error
        except OSError as exc:
            raise CommandError(f"bankconnect: {exc}", Exit.FAILED) from exc
        except KeyboardInterrupt:
            raise _interrupted() from None


def _interrupted() -> CommandError:
    return CommandError("bankconnect: interrupted", Exit.INTERRUPTED)


def _exit_code(error: BankConnectError) -> Exit:
    match error:
        case ConfigurationError() | InvalidRequestError() | JournalError():
            return Exit.USAGE
        case AuthenticationError():
            return Exit.NOT_AUTHENTICATED
        case _:
            return Exit.FAILED


@click.group(
    cls=_App,
    commands=_Commands(),
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
    },
    epilog="Exit codes: 0 success; 1 failure, even of a single row; 2 wrong "
    "usage or configuration; 3 refused API key or server hash; 130 "
    "interrupted.",
)
@click.version_option(__version__, prog_name="bankconnect")
def app() -> None:
    """
    Create FinBox Bank Connect sessions and fetch statement data.

    Secrets come from the environment: BANKCONNECT_API_KEY and, for statement
    data, BANKCONNECT_SERVER_HASH. BANKCONNECT_STORE names the store of the
    commands sweep, collect, report and forget, to which batch and session
    write, too. The commands session and batch need no key with --sandbox.
    """
