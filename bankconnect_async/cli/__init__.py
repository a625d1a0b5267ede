"""
The command line: ``bankconnect``, with the extra ``[cli]``.
"""

import sys


__all__ = ["main"]


def main() -> None:
    """
    Run ``bankconnect``.

    Without click and rich it says what to install, and exits with 2. Ctrl-C
    exits with 130, even while modules are imported.
    """
    try:
        _run()
    except KeyboardInterrupt:
        sys.stderr.write("bankconnect: interrupted\n")
        sys.exit(130)


def _run() -> None:
    try:
        import click  # noqa: F401, PLC0415 - asked for, not used yet
        import rich  # noqa: F401, PLC0415
    except ImportError:
        sys.stderr.write(
            "bankconnect needs click and rich: "
            "pip install 'bankconnect-async[cli]'\n"
        )
        sys.exit(2)
    from .app import app  # noqa: PLC0415 - it imports both

    app(prog_name="bankconnect")
