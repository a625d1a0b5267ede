"""
The command ``doctor``.
"""

import asyncio
import difflib
import functools
import os

from collections.abc import Callable
from typing import Final

import aiohttp
import attrs
import click

from bankconnect_async._codec.session_requests import is_loopback
from bankconnect_async._printable import one_line
from bankconnect_async.cli.commands import Exit
from bankconnect_async.cli.messages import VARIABLES, explain
from bankconnect_async.cli.options import (
    ApiOptions,
    api_version_option,
    connection_options,
    json_option,
)
from bankconnect_async.cli.output import write_json, write_output
from bankconnect_async.config import (
    Service,
    default_base_url,
    read_environment,
    secret,
)
from bankconnect_async.errors import ConfigurationError
from bankconnect_async.tls import TLS

from .api import ApiProbe
from .findings import Finding, Findings
from .network import ServerAddress, check_network
from .settings import Route, Secrets, make_route
from .store import check_store
from .webhook import WebhookProbe


_VARIABLES: Final = {
    "api_key": "BANKCONNECT_API_KEY",
    "server_hash": "BANKCONNECT_SERVER_HASH",
    "base_url": "BANKCONNECT_BASE_URL",
    "version": "BANKCONNECT_API_VERSION",
    "ca_file": "BANKCONNECT_CA_FILE",
}
_SECRETS: Final = frozenset({"api_key", "server_hash"})
# The checks that need a connection, and that of webhooks.
_REST: Final = ("clock", "path", "dialect", "key", "server hash", "webhook")


@click.command()
@click.option(
    "--webhook-url",
    metavar="URL",
    help="The URL of your service's webhooks, instead of that of "
    "BANKCONNECT_CALLBACK_URL and BANKCONNECT_SIGNING_KEY.",
)
@json_option("Print the findings as a JSON object.")
@api_version_option
@connection_options
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    api: ApiOptions,
    webhook_url: str | None,
    as_json: bool,
) -> None:
    """
    Check the settings, the network and the API, and print what to do.

    It tries the store, the name, the port or the proxy, the TLS certificate,
    the clock, the path, the dialect, the API key, the server hash and the URL
    of webhooks. A line says what each check found and, after an arrow, what
    to do.

    It sends GET requests only: to session/, net_banking_health/, the status of
    an unknown session or entity, and the URL of webhooks. No session is
    created, and nothing is charged. A store is only read: no file and no table
    is made or changed.

    It exits with 1 if a check failed.
    """

    def report(finding: Finding) -> None:
        if not as_json:
            line = one_line(finding.line())
            write_output(f"{line}\n".encode())

    findings = Findings(report)
    asyncio.run(
        _examine(
            findings,
            api,
            functools.partial(explain, command=ctx.command),
            webhook_url,
        )
    )
    if as_json:
        facts = {
            "ok": findings.is_good,
            "checks": list(map(attrs.asdict, findings.all)),
        }
        write_json(facts)
    ctx.exit(Exit.OK if findings.is_good else Exit.FAILED)


async def _examine(
    findings: Findings,
    api: ApiOptions,
    explain_error: Callable[[ConfigurationError], str],
    webhook_url: str | None,
) -> None:
    try:
        service, secrets, route = _read_settings(api)
    except ConfigurationError as error:
        findings.add(Finding("settings", "failed", explain_error(error)))
        findings.skip(_REST, "an earlier check failed")
        return
    findings.add(Finding("settings", "ok", str(service.session_url())))
    _report_mistyped(findings)
    _report_missing(findings, secrets)
    await findings.run("store", check_store(os.environ))
    target = ServerAddress(service.base_url, _address_setting(api))
    async with aiohttp.ClientSession(trust_env=False) as http:
        if await check_network(findings, target, route):
            probe = ApiProbe(
                http=http,
                service=service,
                route=route,
                secrets=secrets,
                setting=target.setting,
            )
            await probe.check(findings)
        findings.skip(_REST[:-1], "an earlier check failed")
        webhooks = WebhookProbe(
            http=http,
            route=route,
            is_local=is_loopback(service.base_url.host),
            given=webhook_url,
        )
        await findings.run(_REST[-1], webhooks.check())


def _read_settings(api: ApiOptions) -> tuple[Service, Secrets, Route]:
    # A client names a bad setting, even one that no check needs.
    api.connect(api_key="unset")
    found = read_environment(os.environ, _VARIABLES)
    given = found | api.settings()
    version = given.get("version", "v1")
    service = Service.parse(
        given.get("base_url") or default_base_url(version),
        version=version,
        allow_http=api.allow_http,
    )
    secrets = Secrets(
        **{name: secret(name, found[name]) for name in _SECRETS & found.keys()}
    )
    tls = TLS(ca_file=found.get("ca_file")).build_context()
    return service, secrets, make_route(service, tls, api.proxy)


def _report_mistyped(findings: Findings) -> None:
    known = {*VARIABLES.values()}
    for name in sorted(os.environ.keys() - known):
        similar = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if name.startswith("BANKCONNECT") and similar:
            findings.add(
                Finding(
                    "settings",
                    "warning",
                    f"{name} is read by nothing",
                    f"rename it if you mean {similar[0]}",
                )
            )


def _report_missing(findings: Findings, secrets: Secrets) -> None:
    if secrets.api_key is None:
        findings.add(
            Finding(
                "key",
                "failed",
                "BANKCONNECT_API_KEY is not set",
                "set it to the key that FinBox gave you",
            )
        )
    if secrets.server_hash is None:
        findings.add(
            Finding(
                "server hash",
                # A service needs it, the creation of sessions does not.
                "failed"
                if os.environ.get("BANKCONNECT_CALLBACK_URL", "").strip()
                else "skipped",
                "BANKCONNECT_SERVER_HASH is not set",
                "set it to confirm outcomes, to set the webhook URL and to "
                "fetch statement data; creating sessions needs none",
            )
        )


def _address_setting(api: ApiOptions) -> str:
    return "BANKCONNECT_BASE_URL" if api.base_url is None else "--base-url"
