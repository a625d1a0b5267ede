"""
Make objects of the texts of environment variables.
"""

import urllib.request

from collections.abc import Mapping
from typing import Any, Final

from yarl import URL

from ._codec.return_urls import ReturnURL
from .config import Secret, parse_proxy, split_keys
from .errors import ConfigurationError
from .store import open_store
from .tls import TLS


#: The variables of other programs' proxies, the first that is set counts.
PROXY_VARIABLES: Final = ("https_proxy", "HTTPS_PROXY")
#: The hosts that these proxies do not serve.
PROXY_EXCEPTIONS: Final = ("no_proxy", "NO_PROXY")


def resolve_texts(
    settings: dict[str, Any], system_proxy: tuple[str, Secret] | None
) -> bool:
    """
    Replace a proxy, a CA, a signing key and a store's address by objects.

    Args:
        settings: The settings for a client, which are changed.
        system_proxy: The result of `find_proxy`, for clients without a proxy.

    Returns:
        Whether the client has to close its store.

    Raises:
        ConfigurationError: If one of them is bad.
    """
    # A borrowed session has its own ways.
    if system_proxy is not None and settings.get("client_session") is None:
        settings.setdefault("proxy", _check_proxy(*system_proxy))
    ca_file = settings.pop("ca_file", None)
    if ca_file is not None:
        settings.setdefault("tls", TLS(ca_file=ca_file))
    signing_key = settings.pop("signing_key", None)
    base = settings.get("redirect_url")
    if signing_key is not None and isinstance(base, str | URL):
        settings["redirect_url"] = ReturnURL(
            base, secret=split_keys(signing_key)
        )
    keys = settings.pop("store_keys", None)
    address = settings.get("store")
    if not isinstance(address, str):
        return address is None
    settings["store"] = open_store(address, keys)
    return True


def find_proxy(
    environ: Mapping[str, str], base_url: object
) -> tuple[str, Secret] | None:
    """
    Find the proxy that the variables of other programs name for an API.

    ``HTTPS_PROXY`` counts for an https API that ``NO_PROXY`` does not name,
    as for curl and pip. The names may be in lower case.

    Args:
        environ: The environment.
        base_url: The URL of the API.

    Returns:
        The name of the variable and the address in it, if there is one.
    """
    name = next(
        (each for each in PROXY_VARIABLES if environ.get(each, "").strip()),
        None,
    )
    try:
        url = URL(str(base_url))
        host = url.host_port_subcomponent or ""
    except (ValueError, IndexError):
        # The client names the problem.
        return None
    if name is None or url.scheme != "https":
        return None
    exceptions = next(filter(None, map(environ.get, PROXY_EXCEPTIONS)), "")
    is_exempt = urllib.request.proxy_bypass_environment(  # type: ignore[attr-defined]
        host, {"no": exceptions}
    )
    if is_exempt:
        return None
    address = environ[name].strip()
    return name, Secret(address if "://" in address else f"http://{address}")


def _check_proxy(name: str, address: Secret) -> Secret:
    try:
        parse_proxy(address)
    except ConfigurationError as error:
        raise ConfigurationError(
            fields={name: error.fields["proxy"]}
        ) from None
    return address
