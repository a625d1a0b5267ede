"""
Guarantees about the package as a whole.
"""

import ast
import collections
import gc
import importlib.metadata
import importlib.resources
import pkgutil
import re
import subprocess
import sys

from pathlib import Path

import pytest

import bankconnect_async

from bankconnect_async import errors


ROOT = Path(__file__).parent.parent
PACKAGE = Path(bankconnect_async.__file__).parent


def parse(path):
    """
    Parse a file.

    On Python 3.11, a traceback that is formatted in the middle of it breaks
    it, and a finalizer that the garbage collector runs may format one.
    """
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def imports(path):
    """Return the top-level names of all modules that *path* imports."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


@pytest.mark.long
def test_only_transport_speaks_aiohttp():
    """
    Apart from the transport, aiohttp is imported for types and by servers
    only.
    """
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if "aiohttp" in imports(path)
    }

    assert users <= {
        "_http",
        "_resources",
        "arguments.py",
        "cli",
        "client.py",
        "sandbox",
        "web",
    }


def test_who_creates_sessions_imports_nothing_else():
    """
    Creating a session imports neither handles nor other responses nor uploads.
    """
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, bankconnect_async as b\n"
            "b.AsyncBankConnect('key')\n"
            "print(*(m for m in sys.modules if m.startswith(b.__name__)))",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )

    loaded = {name.partition(".")[2] for name in done.stdout.split()}
    assert "client" in loaded
    assert not loaded & {
        "_resources.downloads",
        "_resources.entities",
        "_resources.organisation",
        "_resources.polling",
        "_resources.sessions",
        "_resources.uploads",
        "models.core_schemas",
        "models.entities",
        "models.insights",
        "models.values",
        "sandbox",
    }


def test_exports_are_sorted_and_complete():
    """
    Every public error and every name of `__all__` can be imported.
    """
    names = bankconnect_async.__all__

    assert len(set(names)) == len(names)
    assert all(hasattr(bankconnect_async, name) for name in names)
    exported = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and value.__module__ == errors.__name__
        and not name.startswith("_")
    }
    assert exported <= set(names)


def test_is_typed():
    """
    Type checkers of our users see our annotations.
    """
    assert (
        importlib.resources.files(bankconnect_async)
        .joinpath("py.typed")
        .is_file()
    )


def test_one_version():
    """
    Package, metadata and changelog name the same version.
    """
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)

    assert newest is not None
    assert newest[1] == bankconnect_async.__version__
    assert (
        importlib.metadata.version("bankconnect-async")
        == bankconnect_async.__version__
    )


def test_public_names_are_documented():
    """
    Every public class and function of every public module has a docstring.
    """
    missing = []
    for module in pkgutil.walk_packages([str(PACKAGE)]):
        path = PACKAGE / f"{module.name}.py"
        if module.name.startswith("_") or not path.is_file():
            continue
        missing += [
            f"{module.name}.{node.name}"
            for node in parse(path).body
            if isinstance(
                node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            )
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ]

    assert not missing


@pytest.mark.long
def test_class_names_are_unique():
    """
    No two public classes of the package share a name.
    """
    places = collections.defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and node.name[0] != "_":
                places[node.name].add(str(path.relative_to(PACKAGE)))

    assert not {name: at for name, at in places.items() if len(at) > 1}


def test_signatures_hold_no_environment():
    """
    No default is the environment, whose secrets `help` would print.
    """
    defaults = {
        (path.name, node.name, ast.unparse(default))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for default in (*node.args.defaults, *node.args.kw_defaults)
        if default is not None
    }

    assert ("client.py", "from_env", "None") in defaults
    assert not [found for found in defaults if "environ" in found[2]]
