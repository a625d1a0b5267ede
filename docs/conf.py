"""
Settings of the documentation site; ``nox -s docs`` builds it.
"""

import re

from importlib import import_module
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from bankconnect_async import __version__


logger = logging.getLogger(__name__)

project = "bankconnect-async"
author = "bankconnect-async maintainers"
release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_llms_txt",
]
# Links to headings, as hosts of Git make them.
myst_heading_anchors = 4
# In docstrings, `name` is code.
default_role = "code"
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# A long signature has a line for each parameter.
python_maximum_signature_line_length = 79
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Options", "params_style")]
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"bankconnect-async {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

# The package also exports what these modules hold, which have own pages.
DESCRIBED_APART = "bankconnect_async.errors", "bankconnect_async.models"

# A default that is an object or a function, as `repr` writes it.
OBJECT = re.compile(
    r"<(?:(?:function|bound method) )?(?:\w+\.)*(\w+)[^<>]*(?:<[^<>]*>)?>"
)
# An option in the text of a command's help.
OPTION = re.compile(r"(?<![\w`-])--[a-z][a-z-]*")


def skip_described_apart(
    app: Sphinx, _what: str, _name: str, obj: Any, *_: object
) -> bool | None:
    """
    Leave errors and models out of the page of the package.
    """
    if app.env.docname != "reference/package":
        return None
    module = getattr(obj, "__module__", None) or ""
    return module.startswith(DESCRIBED_APART) or None


def name_defaults(*event: Any) -> tuple[str, str] | None:
    """
    Name the defaults in a signature that have no literal.
    """
    *_, signature, returns = event
    if signature is None:  # that of a module
        return None
    return OBJECT.sub(r"\1", signature), returns


def mark_options(_app: Sphinx, _context: object, lines: list[str]) -> None:
    """
    Show options in a command's help as code, without dashes for hyphens.
    """
    lines[:] = [
        line
        if line.lstrip().startswith((".. ", ":"))
        else OPTION.sub(r"``\g<0>``", line)
        for line in lines
    ]


def escape_stars(_app: Sphinx, _context: object, lines: list[str]) -> None:
    """
    Escape the stars of a command's help, which are no emphasis.
    """
    lines[:] = [line.replace("*", r"\*") for line in lines]


def check_names(_app: Sphinx, env: BuildEnvironment) -> None:
    """
    Warn about public names that the reference does not have.
    """
    described = env.domains.python_domain.objects
    names = {name.rpartition(".")[2] for name in described}
    for module in described:
        if described[module].objtype == "module":
            for name in getattr(import_module(module), "__all__", ()):
                if name not in names:
                    logger.warning("%s.%s is not described", module, name)


def setup(app: Sphinx) -> None:
    """
    Connect the functions above.
    """
    app.connect("autodoc-skip-member", skip_described_apart)
    app.connect("autodoc-process-signature", name_defaults)
    app.connect("env-check-consistency", check_names)
    for part in "description", "options", "epilog":
        app.connect(f"sphinx-click-process-{part}", mark_options)
    app.connect("sphinx-click-process-description", escape_stars)
