"""
The description that a package index shows, made of the README.
"""

import re
import runpy
import sys
import types

from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURES = re.findall(r"!\[[^]]*\]\(([^)]*)\)", README)


@pytest.fixture(name="update")
def _update(monkeypatch):
    """The metadata for the URL of a repository, without a build."""
    interface = types.SimpleNamespace(MetadataHookInterface=object)
    name = "hatchling.metadata.plugin.interface"
    monkeypatch.setitem(sys.modules, name, interface)
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))["DescriptionHook"]()

    def update(repository):
        hook.root = str(ROOT)
        hook.config = {"repository": repository}
        metadata = {"version": "1.2.3"}
        hook.update(metadata)
        return metadata

    return update


def test_links_and_pictures_are_absolute(update):
    """
    Each target of the README leads to the tag of the version.
    """
    metadata = update("https://code.example/lender/sdk/")
    text = metadata["readme"]["text"]
    base = "https://code.example/lender/sdk"
    for target in PICTURES:
        assert f"({base}/raw/v1.2.3/{target})" in text
    assert f"[Start]({base}/blob/v1.2.3/docs/start.md)" in text
    assert all(
        target.startswith("https:")
        for target in re.findall(r"\]\(([^)]*)\)", text)
    )
    assert metadata["urls"]["Repository"] == base
    assert metadata["urls"]["Changelog"].startswith(f"{base}/blob/v1.2.3/")


def test_without_a_repository_the_text_stays(update):
    """
    Without a repository there are no links and pictures, and the same code.
    """
    metadata = update("")
    text = metadata["readme"]["text"]
    assert PICTURES
    assert not re.search(r"\]\((?!https:)", text)
    assert "| Start |" in text
    fences = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    assert fences.findall(text) == fences.findall(README)
    assert metadata["urls"] == {}
