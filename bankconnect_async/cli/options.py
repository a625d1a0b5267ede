"""
Options that several commands share, and the client that they configure.
"""

import functools
import os

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar, get_args

import attrs
import click

import bankconnect_async.sandbox as sandboxes
import bankconnect_async.store as stores

from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.config import read_environment
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.models.sessions import UNSET
from bankconnect_async.retry import DeliveryMode, RetryPolicy
from bankconnect_async.sandbox import Dialect
from bankconnect_async.store import SessionStore, open_store

from .messages import print_message


F = TypeVar("F", bound=Callable[..., Any])

_API_KEY: Final = "BANKCONNECT_API_KEY"
_BASE_URL: Final = "BANKCONNECT_BASE_URL"
_PROXY: Final = "BANKCONNECT_PROXY"

_Option: TypeAlias = Callable[[Any], Any]


@attrs.frozen(kw_only=True)
class ApiOptions:
    """
    The options of the API and its client.

    Attributes:
        base_url, version, redirect_url: Values that override those of the
            environment.
        allow_http: Whether an API without TLS is allowed.
        proxy: The address of a proxy that overrides the environment's.
        inline_frame: Whether sessions have no redirect URL.
        sandbox: Whether an embedded sandbox replaces the environment's API.
        dialect: The dialect of that sandbox.
        attempts, delivery: Values of the retry policy, if given.
    """

    base_url: str | None
    allow_http: bool
    proxy: str | None = None
    version: str | None = None
    redirect_url: str | None = None
    inline_frame: bool = False
    sandbox: bool = False
    dialect: Dialect = "seed"
    attempts: int | None = None
    delivery: DeliveryMode | None = None

    def __attrs_post_init__(self) -> None:
        if self.redirect_url is not None and self.inline_frame:
            raise click.UsageError(
                "--redirect-url and --inline-frame exclude each other"
            )
        if self.base_url is not None and self.sandbox:
            raise click.UsageError(
                "--base-url and --sandbox exclude each other"
            )
        if self.proxy is not None and self.sandbox:
            raise click.UsageError("--proxy and --sandbox exclude each other")
        if self.proxy is not None and "@" in self.proxy:
            # Other users of the machine see the command line.
            raise click.UsageError(
                "--proxy takes no user and password: set BANKCONNECT_PROXY"
            )

    def connect(
        self, **settings: Any
    ) -> AbstractAsyncContextManager[AsyncBankConnect]:
        """
        Make a client, and the embedded sandbox behind it if requested.

        Args:
            **settings: Further arguments of the client. Without a *store*,
                it opens that of the environment.

        Raises:
            ConfigurationError: If a setting is missing or wrong.
        """
        if self.sandbox:
            # The sandbox is imported here, before an event loop runs.
            sandbox = sandboxes.Sandbox(self.dialect)
            return self._connect_to_sandbox(sandbox, settings)
        if self.proxy is not None:
            settings["proxy"] = self.proxy
        bank = AsyncBankConnect.from_env(**self.settings(), **settings)
        if self.base_url is None and not read_environment(
            os.environ, {"base_url": _BASE_URL}
        ):
            print_message(f"{_BASE_URL} is not set: the API is {bank.api_id}")
        return bank

    def api_id(self, connection: AbstractAsyncContextManager[Any]) -> str:
        """
        Return the name of the API behind *connection*, for journals.

        Embedded sandboxes share one name, because their ports differ.
        """
        if isinstance(connection, AsyncBankConnect):
            return connection.api_id
        return f"sandbox/{self.dialect}/{self.version or 'v1'}"

    @asynccontextmanager
    async def _connect_to_sandbox(
        self, sandbox: "sandboxes.Sandbox", settings: dict[str, Any]
    ) -> AsyncIterator[AsyncBankConnect]:
        # A first try with a file of link ids needs no redirect URL.
        settings = {"redirect_url": None, **self.settings(), **settings}
        async with (
            sandbox,
            AsyncBankConnect(
                sandbox.api_key, base_url=sandbox.base_url, **settings
            ) as bank,
        ):
            yield bank

    @asynccontextmanager
    async def serve(
        self,
    ) -> AsyncIterator[tuple[dict[str, str], dict[str, Any]]]:
        """
        Run the embedded sandbox, if it is requested.

        Yields:
            The environment and the settings of clients in other processes.
        """
        if self.sandbox:
            async with sandboxes.Sandbox(self.dialect) as sandbox:
                environ = {
                    _API_KEY: sandbox.api_key,
                    _BASE_URL: sandbox.base_url,
                }
                yield environ, {"redirect_url": None, **self.settings()}
        else:
            proxy = {} if self.proxy is None else {_PROXY: self.proxy}
            yield dict(os.environ) | proxy, self.settings()

    def settings(self) -> dict[str, Any]:
        """Return the keyword arguments for the client."""
        settings: dict[str, Any] = {
            name: value
            for name in ("base_url", "version", "redirect_url")
            if (value := getattr(self, name)) is not None
        }
        if self.inline_frame:
            settings["redirect_url"] = None
        policy: dict[str, Any] = {
            name: value
            for name in ("attempts", "delivery")
            if (value := getattr(self, name)) is not None
        }
        if policy:
            settings["retry"] = RetryPolicy(**policy)
        return settings | {"allow_http": self.allow_http}


def find_store(address: str | None) -> SessionStore:
    """
    Return the store of ``--store``, else that of the environment.

    Args:
        address: The address of the store, for `open_store`.

    Raises:
        ConfigurationError: If there is none, or its address or keys are
            wrong.
    """
    found = read_environment(
        os.environ,
        {"store": "BANKCONNECT_STORE", "keys": "BANKCONNECT_STORE_KEYS"},
    )
    address = address or found.get("store")
    if address is None:
        raise ConfigurationError(
            "no store: set BANKCONNECT_STORE, or give --store"
        )
    store = open_store(address, found.get("keys"))
    # Opening one would create it.
    if (
        isinstance(store, stores.SQLiteSessionStore)
        and not store.path.exists()
    ):
        raise ConfigurationError(f"{store.path}: there is no such store")
    return store


def split_params(params: Iterable[str]) -> dict[str, str]:
    """
    Return the values of ``--param`` by their names.

    Args:
        params: The texts, of the form NAME=VALUE.

    Raises:
        click.UsageError: If one has another form.
    """
    return dict(map(_split_param, params))


def _split_param(param: str) -> tuple[str, str]:
    name, equals, value = param.partition("=")
    if not equals:
        # The message does not show the text, which may be a secret.
        raise click.UsageError("--param takes NAME=VALUE")
    return name, value


def require_redirect_url(redirect_url: object) -> None:
    """
    Check that the client has a redirect URL, or needs none.

    Raises:
        ConfigurationError: If the redirect URL is missing.
    """
    if redirect_url is UNSET:
        raise ConfigurationError(
            "no redirect URL: set BANKCONNECT_REDIRECT_URL, or give "
            "--redirect-url, the parameter redirect_url or --inline-frame"
        )


def port_option(default: int) -> Callable[[F], F]:
    """Make the option ``--port``."""
    return click.option(
        "--port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        default=default,
        help="The port to listen on; 0 for any free one.",
    )


def json_option(text: str) -> Callable[[F], F]:
    """Make the option ``--json`` with *text* as its help."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def store_option(text: str) -> Callable[[F], F]:
    """Make the option ``--store`` with *text* as its help."""
    return click.option("--store", "address", metavar="STORE", help=text)


def param_option(text: str) -> Callable[[F], F]:
    """Make the option ``--param`` with *text* as its help."""
    return click.option(
        "--param", "params", multiple=True, metavar="NAME=VALUE", help=text
    )


def concurrency_option(default: int, text: str) -> Callable[[F], F]:
    """Make the option ``--concurrency`` with *text* as its help."""
    return click.option(
        "--concurrency",
        type=click.IntRange(1, 10_000),
        metavar="N",
        default=default,
        help=text,
    )


def rate_option(text: str) -> Callable[[F], F]:
    """Make the option ``--rate`` with *text* as its help."""
    return click.option(
        "--rate",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help=text,
    )


def dialect_option(text: str) -> Callable[[F], F]:
    """Make the option ``--dialect`` with *text* as its help."""
    return click.option(
        "--dialect",
        type=click.Choice(get_args(Dialect)),
        default="seed",
        help=text,
    )


allow_host_option: _Option = click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="Accept requests for this host name, too. The names of this machine "
    "are always accepted; others are refused, because a web page could use "
    "them to reach this server. Repeat the option for more.",
)
any_link_id_option: _Option = click.option(
    "--allow-any-link-id",
    is_flag=True,
    help="Accept link ids that look damaged, such as 1.23457E+11 or '00123.",
)
_ADDRESS_OPTIONS: list[_Option] = [
    click.option(
        "--base-url",
        metavar="URL",
        help="The URL of the API, instead of BANKCONNECT_BASE_URL.",
    ),
    click.option(
        "--allow-http",
        is_flag=True,
        help="Allow an API without TLS, such as a sandbox in a container.",
    ),
]
_CONNECTION_OPTIONS: list[_Option] = [
    *_ADDRESS_OPTIONS,
    click.option(
        "--proxy",
        metavar="URL",
        help="The address of an HTTP proxy, instead of BANKCONNECT_PROXY or "
        "HTTPS_PROXY.",
    ),
]
api_version_option: _Option = click.option(
    "--api-version",
    "version",
    metavar="VERSION",
    help="v1 or v2, instead of BANKCONNECT_API_VERSION.",
)
_SESSION_OPTIONS: list[_Option] = [
    click.option(
        "--sandbox",
        is_flag=True,
        help="Use an embedded sandbox, and ignore the environment.",
    ),
    dialect_option("The dialect of the embedded sandbox."),
    *_CONNECTION_OPTIONS,
    api_version_option,
    click.option(
        "--redirect-url",
        metavar="URL",
        help="The URL to which browsers return, instead of "
        "BANKCONNECT_REDIRECT_URL.",
    ),
    click.option(
        "--inline-frame",
        is_flag=True,
        help="Use no redirect URL: journeys run in an <iframe>.",
    ),
    click.option(
        "--attempts",
        type=click.IntRange(1, 100),
        metavar="N",
        help="The maximum of attempts for each session, 3 by default; 1 "
        "switches retries off.",
    ),
    click.option(
        "--delivery",
        type=click.Choice(get_args(DeliveryMode)),
        help="Whether a request that may have arrived is sent again, which "
        "is the default, or fails.",
    ),
]


def _add_options(command: F, options: list[_Option]) -> F:
    @functools.wraps(command)
    def gather(**values: Any) -> Any:
        names = attrs.fields_dict(ApiOptions).keys() & values.keys()
        api = ApiOptions(**{name: values.pop(name) for name in names})
        return command(api=api, **values)

    for option in reversed(options):
        gather = option(gather)
    return gather  # type: ignore[return-value]


def address_options(command: F) -> F:
    """
    Add the options of a server's address, as the argument ``api``.
    """
    return _add_options(command, _ADDRESS_OPTIONS)


def connection_options(command: F) -> F:
    """
    Add the options of the connection, as the argument ``api``.
    """
    return _add_options(command, _CONNECTION_OPTIONS)


def session_options(command: F) -> F:
    """
    Add the options of clients that create sessions, as the argument ``api``.
    """
    return _add_options(command, _SESSION_OPTIONS)
