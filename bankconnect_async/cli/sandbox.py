"""
The command ``sandbox``.
"""

import asyncio
import logging
import shlex

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any, Final

import click

from bankconnect_async.errors import ConfigurationError
from bankconnect_async.sandbox import Dialect, Sandbox

from .options import allow_host_option, dialect_option, port_option
from .output import write_output
from .signals import serve_until_interrupted
from .stderr import Stderr


# The largest number of lines that wait for a slow terminal.
_MAX_LINES: Final = 10_000


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="HOST",
    help="The address to listen on.",
)
@port_option(8600)
@allow_host_option
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help="An origin whose pages may create sessions, such as "
    "https://app.example; pages of this machine always may. Repeat the "
    "option for more.",
)
@dialect_option("The dialect of v1; v2 is always served.")
@click.option(
    "--api-key",
    metavar="KEY",
    default="sandbox-api-key",
    help="The API key that it accepts.",
)
@click.option(
    "--server-hash",
    metavar="HASH",
    default="sandbox-server-hash",
    help="The server hash that it accepts.",
)
@click.option(
    "--webhook-url",
    metavar="URL",
    help="The URL of webhooks, until update_webhook/ sets another.",
)
@click.option(
    "--allow-remote-webhooks",
    is_flag=True,
    help="Send webhooks to other machines and containers, too.",
)
@click.option(
    "--processing-time",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=0.3,
    help="The processing time of statements; 60 leaves time for trigger "
    "finish.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="SPEC",
    help="A fault, such as 503 or reset:after@0.1; see above. Repeat "
    "the option for more.",
)
@click.option(
    "--fault-seed",
    type=int,
    metavar="N",
    help="The seed of random faults, to repeat an earlier run.",
)
@click.option(
    "--quiet",
    is_flag=True,
    help="Print no line for each request.",
)
def sandbox(
    *,
    dialect: Dialect,
    faults: tuple[str, ...],
    fault_seed: int | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """
    Serve a simulation of the vendor's API until interrupted.

    It prints the environment variables that point clients to it, and on
    stderr a line for each request, without its query.

    A SPEC is FAULT for every request, FAULT@PROBABILITY, or FAULT,FAULT,...
    for the next requests in turn. A prefix PREFIX*= limits the SPEC to link
    ids that start with PREFIX; each of them gets the list by itself.

    A FAULT is ok, refuse, slow-accept[:SECONDS], reset, eof,
    stall[:SECONDS], truncate, garbage, html, empty, redirect,
    hang-up[:SECONDS], or a status such as 503. It may be followed by :after
    (the fault comes after processing), :head or :body (the part of the
    response that is cut or stalls), :retry-after=SECONDS and :date.
    """
    server = Sandbox(dialect, **settings)
    seed = server.faults.load(faults, seed=fault_seed)
    if seed is not None:
        click.echo(f"random faults: --fault-seed {seed}", err=True)
    try:
        with nullcontext() if quiet else _request_lines():
            asyncio.run(serve_until_interrupted(server, _print_environment))
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {server.host}, port {server.port} "
            f"({exc.strerror}): choose another --host or --port"
        ) from exc


@contextmanager
def _request_lines() -> Iterator[None]:
    # A terminal that is stopped stops no server.
    with closing(Stderr(max_pending=_MAX_LINES)) as stderr:
        handler = logging.StreamHandler(stderr)
        log = logging.getLogger("bankconnect_async.sandbox.requests")
        level = log.level
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)


async def _print_environment(server: Sandbox) -> None:
    write_output(
        (
            f"# A sandbox of the Bank Connect API; not the vendor's.\n"
            f"export BANKCONNECT_BASE_URL={server.base_url}\n"
            f"export BANKCONNECT_API_KEY={shlex.quote(server.api_key)}\n"
            f"export BANKCONNECT_SERVER_HASH="
            f"{shlex.quote(server.server_hash)}\n"
        ).encode()
    )
