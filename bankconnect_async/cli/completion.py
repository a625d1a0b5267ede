"""
The command ``completion``.
"""

from typing import Final

import click

from click.shell_completion import (
    BashComplete,
    FishComplete,
    ShellComplete,
    ZshComplete,
)

from .output import write_output


_SHELLS: Final[dict[str, type[ShellComplete]]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


@click.command()
@click.argument("shell", type=click.Choice([*_SHELLS]))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """
    Print the script that completes commands and options in a SHELL.

    For bash and zsh, add eval "$(bankconnect completion SHELL)" to ~/.bashrc
    or ~/.zshrc. For fish, write the output to
    ~/.config/fish/completions/bankconnect.fish.
    """
    script = _SHELLS[shell](
        ctx.find_root().command, {}, "bankconnect", "_BANKCONNECT_COMPLETE"
    )
    write_output(script.source().encode())
