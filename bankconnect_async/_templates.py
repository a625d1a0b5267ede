"""
HTML pages from template files.
"""

import functools
import html
import importlib.resources
import string

from collections.abc import Mapping


def render(
    package: str, name: str, markup: Mapping[str, str] = {}, /, **texts: object
) -> str:
    """
    Fill in a template.

    Args:
        package: The package whose `templates` folder has the file.
        name: The name of the file.
        markup: The values that are inserted as they are.
        **texts: The values that are escaped.
    """
    escaped = {key: html.escape(str(text)) for key, text in texts.items()}
    template = string.Template(read_template(package, name))
    return template.substitute(markup, **escaped)


@functools.cache
def read_template(package: str, name: str) -> str:
    """
    Return the text of a file in the `templates` folder of *package*.
    """
    folder = importlib.resources.files(package) / "templates"
    return (folder / name).read_text(encoding="utf-8")
