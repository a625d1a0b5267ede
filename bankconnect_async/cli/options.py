"""
Options that commands share, and the client that they make.
"""

import functools

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, get_args

import attrs
import click

from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.models.sessions import UNSET
from bankconnect_async.sandbox import Dialect, Sandbox


F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen(kw_only=True)
class ApiOptions:
    """
    Which API to talk to, and what every request gets.

    Attributes:
        sandbox: Use an embedded sandbox, and nothing of the environment.
        dialect: Of that sandbox.
        base_url, version, redirect_url: Instead of the environment's.
        inline_frame: No redirect at all.
        allow_http: Take an address without TLS.
    """

    sandbox: bool
    dialect: Dialect
    base_url: str | None
    version: str | None
    redirect_url: str | None
    inline_frame: bool
    allow_http: bool

    def connect(self) -> AbstractAsyncContextManager[AsyncBankConnect]:
        """
        Make a client, and the sandbox behind it if one was asked for.

        Raises:
            ConfigurationError: If options and environment make none.
        """
        if self.sandbox:
            return self._connect_to_sandbox()
        return AsyncBankConnect.from_env(**self.settings())

    def api_id(self, connection: AbstractAsyncContextManager[Any]) -> str:
        """
        Name what `connect` has connected to.

        An embedded sandbox has another port each time, and is the same one.
        """
        if isinstance(connection, AsyncBankConnect):
            return connection.api_id
        return f"sandbox/{self.dialect}/{self.version or 'v1'}"

    @asynccontextmanager
    async def _connect_to_sandbox(self) -> AsyncIterator[AsyncBankConnect]:
        # A newcomer's file of link ids needs no redirect URL.
        settings: dict[str, Any] = {"redirect_url": None, **self.settings()}
        async with (
            Sandbox(self.dialect) as sandbox,
            AsyncBankConnect(
                sandbox.api_key, base_url=sandbox.base_url, **settings
            ) as bank,
        ):
            yield bank

    def settings(self) -> dict[str, Any]:
        """Return what the options say of a client."""
        settings: dict[str, Any] = {
            name: value
            for name in ("base_url", "version", "redirect_url")
            if (value := getattr(self, name)) is not None
        }
        if self.inline_frame:
            settings["redirect_url"] = None
        return settings | {"allow_http": self.allow_http}


def require_redirect_url(redirect_url: object) -> None:
    """
    Check that a client has a redirect URL, or was told to do without.

    Raises:
        ConfigurationError: Naming every place where one can be given.
    """
    if redirect_url is UNSET:
        raise ConfigurationError(
            "no redirect URL: set BANKCONNECT_REDIRECT_URL, or give "
            "--redirect-url or the parameter redirect_url; --inline-frame "
            "does without"
        )


def api_options(command: F) -> F:
    """Give *command* the options that make its ``api``."""

    @functools.wraps(command)
    def gather(**options: Any) -> Any:
        names = [field.name for field in attrs.fields(ApiOptions)]
        api = ApiOptions(**{name: options.pop(name) for name in names})
        _refuse_contradictions(api)
        return command(api=api, **options)

    for option in reversed(_OPTIONS):
        gather = option(gather)
    return gather  # type: ignore[return-value]


def _refuse_contradictions(api: ApiOptions) -> None:
    if api.redirect_url is not None and api.inline_frame:
        raise click.UsageError(
            "--redirect-url and --inline-frame exclude each other"
        )
    if api.base_url is not None and api.sandbox:
        raise click.UsageError("--base-url and --sandbox exclude each other")


def port_option(default: int) -> Callable[[F], F]:
    """Make the option of what listens on a port."""
    return click.option(
        "--port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        default=default,
        show_default=True,
        help="The port to listen on; 0 for any free one.",
    )


def allow_host_option() -> Callable[[F], F]:
    """Make the option of what answers for names of this machine only."""
    return click.option(
        "--allow-host",
        "allow_hosts",
        multiple=True,
        metavar="NAME",
        help="Answer requests for this host name, too. Names of this machine "
        "are always answered for; a web page can make any other lead here. "
        "Repeat it for more.",
    )


def any_link_id_option(command: F) -> F:
    """Let the user of *command* insist on link ids that look damaged."""
    option = click.option(
        "--allow-any-link-id",
        is_flag=True,
        help="Take link ids that look damaged, such as 1.23457E+11 or '00123.",
    )
    return option(command)


def dialect_option(text: str) -> Callable[[F], F]:
    """Make the option of what has a sandbox; *text* is its help."""
    return click.option(
        "--dialect",
        type=click.Choice(get_args(Dialect)),
        default="seed",
        show_default=True,
        help=text,
    )


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--sandbox",
        is_flag=True,
        help="Run against an embedded sandbox; the environment is ignored.",
    ),
    dialect_option("What the embedded sandbox speaks."),
    click.option(
        "--base-url",
        metavar="URL",
        help="The API, instead of BANKCONNECT_BASE_URL.",
    ),
    click.option(
        "--api-version",
        "version",
        metavar="VERSION",
        help="v1 or v2, instead of BANKCONNECT_API_VERSION.",
    ),
    click.option(
        "--allow-http",
        is_flag=True,
        help="Take an API without TLS, such as a sandbox in a container.",
    ),
    click.option(
        "--redirect-url",
        metavar="URL",
        help="Where browsers return to, instead of BANKCONNECT_REDIRECT_URL.",
    ),
    click.option(
        "--inline-frame",
        is_flag=True,
        help="No redirect URL: journeys run in an <iframe>.",
    ),
]
