"""
The web package imports no framework that it does not need.
"""

import ast

from pathlib import Path

from bankconnect_async import web


PACKAGE = Path(web.__file__).parent


def test_only_the_adapter_needs_aiohttp():
    """
    Only the module of `mount` imports aiohttp.
    """
    users = {
        path.name
        for path in PACKAGE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and node.module == "aiohttp")
        or (
            isinstance(node, ast.Import)
            and any(alias.name == "aiohttp" for alias in node.names)
        )
    }

    assert users == {"aiohttp_routes.py"}


def test_other_frameworks_do_not_load_aiohttp_web(run_program):
    """
    Importing the protocol does not import aiohttp's server.
    """
    script = (
        "import sys, bankconnect_async.web as w\n"
        "import bankconnect_async.web.protocol\n"
        "assert 'aiohttp.web' not in sys.modules\n"
        "assert w.mount and 'aiohttp.web' in sys.modules"
    )

    assert run_program(script) == ""


def test_exports():
    """
    Every name of `__all__` exists, and no other name resolves.
    """
    assert sorted(web.__all__) == sorted(set(web.__all__))
    assert all(hasattr(web, name) for name in web.__all__)
    assert not hasattr(web, "unmount")
