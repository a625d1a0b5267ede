"""
The command ``trigger``, which drives a running sandbox.
"""

import asyncio
import os

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import aiohttp
import attrs
import click
import orjson

from yarl import URL

from bankconnect_async._codec.session_requests import url_problem
from bankconnect_async._printable import printable_json
from bankconnect_async.config import read_environment, secret
from bankconnect_async.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
)

from .options import ApiOptions, address_options
from .output import write_output


_VARIABLES: Final = {
    "base_url": "BANKCONNECT_BASE_URL",
    "api_key": "BANKCONNECT_API_KEY",
}
# The default address of ``bankconnect sandbox``.
_DEFAULT_URL: Final = "http://127.0.0.1:8600/bank-connect"
# The sandbox waits for webhooks, for 5 seconds each.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)


@attrs.frozen
class _Trigger:
    """
    An event and the control endpoint that causes it.

    Attributes:
        endpoint: The last part of the endpoint's path.
        id_name: The parameter for the id.
        fixed: Further parameters.
        options: The options that go with it.
    """

    endpoint: str
    id_name: str
    fixed: Mapping[str, str] = {}
    options: tuple[str, ...] = ()


_EVENTS: Final[Mapping[str, _Trigger]] = {
    "success": _Trigger(
        "play", "session_id", {"action": "success"}, ("mode", "bank")
    ),
    "exit": _Trigger("play", "session_id", {"action": "exit"}),
    "error": _Trigger(
        "play",
        "session_id",
        {"action": "failure"},
        ("error_type", "mode", "bank"),
    ),
    "expire": _Trigger("expire", "session_id"),
    "finish": _Trigger("finish", "owner_id", {}, ("error_code",)),
    "webhook": _Trigger("resend_webhook", "owner_id"),
}


@click.command()
@click.argument("event", type=click.Choice(list(_EVENTS)))
@click.argument("id_", metavar="ID")
@click.option(
    "--error-type",
    metavar="CODE",
    help="With error: the kind of failure, such as MU003 or "
    "CONSENT_REJECTED; by default that of a wrong password or login.",
)
@click.option(
    "--mode",
    type=click.Choice(["pdf", "online", "aa"]),
    help="With success or error: the mode in which statements come in; by "
    "default that of the session.",
)
@click.option(
    "--bank",
    metavar="BANK",
    help="With success or error: the identifier of the chosen bank.",
)
@click.option(
    "--error-code",
    metavar="CODE",
    help="With finish: the code of a failure, such as UNPARSABLE.",
)
@address_options
def trigger(
    *,
    event: str,
    id_: str,
    api: ApiOptions,
    **options: str | None,
) -> None:
    """
    Trigger an event in a running sandbox, and print the result as JSON.

    Start the sandbox with bankconnect sandbox; its default address is that of
    this command, too. ID is the id or the URL of a session; for finish and
    webhook it may be the id of an entity.

    success and exit end the journey, as the customer does; after an error it
    stays open. expire ends the session. finish ends a processing that was
    started, with or without an --error-code: give the sandbox a
    --processing-time that leaves time for it. webhook sends the newest
    webhook about ID again.
    """
    spec = _EVENTS[event]
    given = {
        name: value for name, value in options.items() if value is not None
    }
    for name in given.keys() - {*spec.options}:
        option = name.replace("_", "-")
        raise click.UsageError(f"--{option} does not go with {event}")
    found = read_environment(os.environ, _VARIABLES)
    named = api.base_url or found.get("base_url")
    base = named or _DEFAULT_URL
    if problem := url_problem(base, allow_http=api.allow_http):
        raise ConfigurationError(fields={"base_url": (problem,)})
    # Another program may listen at the default address.
    key = found.get("api_key") if named else None
    headers = {"x-api-key": secret("api_key", key)} if key else {}
    url = URL(base).with_path(f"/sandbox/{spec.endpoint}")
    # The URL of a session contains its id.
    query = dict(parse_qsl(id_.partition("?")[2]))
    arguments = {spec.id_name: query.get("session_id", id_), **spec.fixed}
    result = asyncio.run(_post(url, arguments | given, headers))
    write_output(printable_json(result) + b"\n")


async def _post(
    url: URL, arguments: Mapping[str, Any], headers: Mapping[str, str]
) -> bytes:
    status, body = 0, b""
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as http,
            http.post(
                url, json=arguments, headers=headers, allow_redirects=False
            ) as response,
        ):
            status, body = response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise _no_sandbox(url) from exc
    match status:
        case HTTPStatus.OK:
            return body
        case HTTPStatus.UNAUTHORIZED:
            raise AuthenticationError("the sandbox refused the key")
        case HTTPStatus.BAD_REQUEST:
            raise _bad_request(url, body)
        case _:
            raise _no_sandbox(url)


def _bad_request(
    url: URL, body: bytes
) -> InvalidRequestError | ConfigurationError:
    try:
        problems = orjson.loads(body)
    except ValueError:
        problems = None
    if not isinstance(problems, dict):
        return _no_sandbox(url)
    if "message" in problems:
        return ConfigurationError(str(problems["message"]))
    return InvalidRequestError(
        fields={
            "ID" if name in {"session_id", "owner_id"} else name: tuple(
                map(str, texts if isinstance(texts, list) else [texts])
            )
            for name, texts in problems.items()
        }
    )


def _no_sandbox(url: URL) -> ConfigurationError:
    return ConfigurationError(
        f"no sandbox responds at {url.origin()}: start bankconnect sandbox, "
        f"or give --base-url"
    )
