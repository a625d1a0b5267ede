"""
The wire contract in ``docs/contract/``, to which code and tests refer.
"""

import json
import re

from pathlib import Path

import bankconnect_async


ROOT = Path(__file__).parent.parent
CONTRACT = ROOT / "docs" / "contract"
PACKAGE = Path(bankconnect_async.__file__).parent
SOURCES = [
    path
    for folder in (PACKAGE, ROOT / "tests")
    for path in sorted(folder.rglob("*.py"))
]


def registered():
    """Return the ids of the register of uncertain points, and later ones."""
    text = (CONTRACT / "README.md").read_text(encoding="utf-8")
    return set(re.findall(r"^(?:\| |- )(U-\d\d)\b", text, re.MULTILINE))


def test_uncertain_points_are_registered():
    """
    Each uncertain point that the code cites stands in the register.
    """
    cited = {
        name
        for path in SOURCES
        for name in re.findall(r"\bU-\d\d\b", path.read_text(encoding="utf-8"))
    }

    assert "U-15" in cited
    assert cited <= registered()


def test_cited_pages_exist():
    """
    Each page of the contract that the code cites is in the repository.
    """
    pages = {path.name for path in CONTRACT.glob("*.md")}
    cited = {
        name
        for path in SOURCES
        for name in re.findall(
            r"`((?:callbacks|rest-api|session-api|webhooks)\.md)`",
            path.read_text(encoding="utf-8"),
        )
    }

    assert cited
    assert cited <= pages


def test_samples_are_listed(fixture_names):
    """
    The list of samples names the fixtures, each of them once.
    """
    samples = json.loads((CONTRACT / "samples.json").read_bytes())
    names = [sample["file"] for sample in samples]

    assert len(names) == len(set(names))
    assert set(names) <= fixture_names
