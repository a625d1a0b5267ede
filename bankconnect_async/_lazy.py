"""
Names of a package that are imported on first use (PEP 562).
"""

import importlib
import sys

from collections.abc import Callable, Collection, Mapping
from typing import Any


def lazy_names(
    package: str,
    modules: Mapping[str, str],
    *,
    submodules: Collection[str] = (),
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    Make the ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: The name of the package.
        modules: The names in each module, separated by blanks, by the
            module's name below the package.
        submodules: The modules that are names of the package themselves.
    """
    homes = {
        name: module
        for module, names in modules.items()
        for name in names.split()
    }

    def get(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f".{name}", package)
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}"
            )
        module = importlib.import_module(f".{homes[name]}", package)
        value = getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *submodules})

    return get, list_names
