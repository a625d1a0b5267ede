"""
The command ``session``.
"""

import asyncio

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import click

from bankconnect_async._printable import printable_url
from bankconnect_async.client import AsyncBankConnect
from bankconnect_async.errors import BankConnectError, ConfigurationError
from bankconnect_async.journal.records import (
    describe_error,
    describe_session,
    printable,
)
from bankconnect_async.models.sessions import UNSET, Session, SessionRequest

from .input.parameters import build_request
from .options import (
    ApiOptions,
    any_link_id_option,
    json_option,
    param_option,
    require_redirect_url,
    session_options,
    split_params,
)
from .output import write_json, write_output


@click.command()
@click.argument("link_id")
@param_option(
    "A session parameter, such as bank_name=axis or "
    "from_date=01/01/2026; repeat the option for more."
)
@any_link_id_option
@json_option("Print a JSON object, even if the request fails.")
@session_options
def session(
    *,
    api: ApiOptions,
    link_id: str,
    params: tuple[str, ...],
    allow_any_link_id: bool,
    as_json: bool,
) -> None:
    """
    Create one session for LINK_ID and print its URL.

    Anyone who has the URL can open the journey: treat it like a password.
    """
    values = split_params(params) | {"link_id": link_id}
    try:
        request = build_request(values, allow_any_link_id=allow_any_link_id)
        created = asyncio.run(_create(api.connect(), request))
    except ConfigurationError:
        raise
    except BankConnectError as error:
        if as_json:
            _print_record(link_id, describe_error(error))
        raise
    if as_json:
        _print_record(link_id, describe_session(created))
    else:
        write_output(f"{printable_url(created.url)}\n".encode())


def _print_record(link_id: str, facts: Mapping[str, Any]) -> None:
    write_json({"link_id": printable(link_id), **facts})


async def _create(
    connection: AbstractAsyncContextManager[AsyncBankConnect],
    request: SessionRequest,
) -> Session:
    async with connection as bank:
        if request.redirect_url is UNSET:
            require_redirect_url(bank.redirect_url)
        return await bank.create_session(request)
