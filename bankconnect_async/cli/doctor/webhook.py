"""
The check of the URL at which webhooks arrive.
"""

import ipaddress
import os

from http import HTTPStatus
from typing import Final

import aiohttp
import attrs

from yarl import URL

from bankconnect_async._codec.session_requests import is_loopback
from bankconnect_async.config import is_http_url, read_environment, split_keys
from bankconnect_async.errors import ConfigurationError, TransportError
from bankconnect_async.web.protocol import CallbackProtocol

from .findings import CheckError
from .requests import send_get
from .settings import Route


_OPTION: Final = "--webhook-url"
_SERVICE: Final = "BANKCONNECT_CALLBACK_URL"
_KEY: Final = "BANKCONNECT_SIGNING_KEY"
_VARIABLES: Final = {"callback_url": _SERVICE, "signing_key": _KEY}


@attrs.frozen(kw_only=True)
class WebhookProbe:
    """
    Asks the user's service at the URL that webhooks go to.

    Attributes:
        http: The HTTP client.
        route: The way to other servers.
        is_local: Whether the API is a sandbox on this machine.
        given: The value of ``--webhook-url``.
    """

    http: aiohttp.ClientSession
    route: Route
    is_local: bool
    given: str | None

    async def check(self) -> str:
        """
        Send a GET request, which no service takes for a webhook.

        Raises:
            CheckError: If no webhook can arrive.
        """
        setting, url = self._find()
        self._check_address(setting, url)
        # The path is a secret.
        place = f"{url.origin()}/…"
        status = await self._ask(setting, url, place)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            raise CheckError(
                f"{place} answers GET with {status}, a redirect",
                f"set {setting} to the URL that it redirects to: webhooks "
                f"are posted once",
            )
        if status == HTTPStatus.NOT_FOUND:
            raise CheckError(
                f"{place} answers GET with 404: there is nothing",
                f"correct the path in {setting}, and mount the service's "
                f"routes there",
            )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise CheckError(
                f"{place} answers GET with {status}",
                "start the service, and look into its log",
            )
        return f"{place} answers GET with {status}"

    def _find(self) -> tuple[str, URL]:
        if self.given is not None:
            return _OPTION, _parse(_OPTION, self.given)
        found = read_environment(os.environ, _VARIABLES)
        if _VARIABLES.keys() - found.keys():
            raise CheckError(
                "no URL of webhooks is known",
                f"give {_OPTION}, or set {' and '.join(_VARIABLES.values())}",
                status="skipped",
            )
        try:
            protocol = CallbackProtocol(
                found["callback_url"],
                secret=split_keys(found["signing_key"]),
                # `_check_address` has a better message.
                allow_http=True,
            )
        except ConfigurationError as error:
            name, problems = next(iter(error.fields.items()))
            setting = _KEY if name == "secret" else _SERVICE
            raise CheckError(
                f"{setting} {problems[0]}", f"correct {setting}"
            ) from None
        return _SERVICE, URL(protocol.webhook_url)

    def _check_address(self, setting: str, url: URL) -> None:
        if self.is_local:
            return
        if url.scheme != "https":
            raise CheckError(
                f"{setting} is http, which shows customers' data",
                "use https",
            )
        if _is_private(url.host or ""):
            raise CheckError(
                f"FinBox cannot reach {url.host}, which is an address of this "
                f"network",
                f"set {setting} to a public https URL, such as that of a "
                f"tunnel",
            )

    async def _ask(self, setting: str, url: URL, place: str) -> int:
        route = self.route
        if is_loopback(url.host):
            route = Route(tls=route.tls)
        try:
            async with send_get(self.http, url, route) as response:
                return response.status
        except TransportError as error:
            raise CheckError(
                f"{place} cannot be reached from here: {error}",
                f"start the service, and correct {setting}",
            ) from None


def _parse(setting: str, text: str) -> URL:
    try:
        url = URL(text)
        _ = url.port
    except (ValueError, IndexError):
        url = URL()
    if not is_http_url(url):
        raise CheckError(
            f"{setting} is not an absolute https URL", f"correct {setting}"
        )
    return url


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return is_loopback(host)
