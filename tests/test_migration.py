"""
The migration page names only errors and methods that exist.
"""

import re

from pathlib import Path

import pytest

import bankconnect_async

from bankconnect_async import AsyncBankConnect
from bankconnect_async._resources.entities import EntityHandle


PAGE = (Path(__file__).parent.parent / "docs" / "migration.md").read_text()
# The second column of every table.
OURS = "\n".join(
    re.split(r"(?<!\\)\|", line)[2]
    for line in PAGE.splitlines()
    if line.startswith(("| `", "| its"))
)


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`(\w+Error)`", OURS)))
)
def test_errors_exist(name):
    """
    Every error of the page can be imported.
    """
    assert name in {*bankconnect_async.__all__, "ValueError"}


@pytest.mark.parametrize(
    ("owner", "name"),
    sorted(set(re.findall(r"\b(bank|entity)\.(\w+)", OURS))),
)
def test_calls_exist(owner, name):
    """
    Every method of the page exists.
    """
    cls = {"bank": AsyncBankConnect, "entity": EntityHandle}[owner]

    assert name in dir(cls)


def test_the_page_is_read():
    """
    The tables of the page are found, so that the tests above have input.
    """
    assert len(OURS.splitlines()) > 25
