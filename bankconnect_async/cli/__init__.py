"""
The command line: ``bankconnect``, with the extra ``[cli]``.
"""

import sys


__all__ = ["main"]


def main() -> None:
    """
    Run ``bankconnect``.

    Without click or rich it prints how to install them, and exits with 2.
    Ctrl-C exits with 130, even during imports.
    """
    try:
        from .app import app  # noqa: PLC0415 - it imports click and rich

        app(prog_name="bankconnect")
    except ModuleNotFoundError as exc:
        if str(exc.name).partition(".")[0] not in {"click", "rich"}:
            raise
        sys.stderr.write(
            "bankconnect needs click and rich: "
            "pip install 'bankconnect-async[cli]'\n"
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("bankconnect: interrupted\n")
        sys.exit(130)
