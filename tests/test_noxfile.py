"""
The checks that ``nox`` runs, without running them.
"""

import runpy
import sys
import types

from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent


class Session:
    """
    Records what a session of nox would run.
    """

    def __init__(self, python, posargs):
        self.python = python
        self.posargs = posargs
        self.ran = []
        self.notified = []

    def install(self, *requirements):
        """Install nothing."""

    def run(self, *command, **_):
        """Record a command."""
        self.ran.append(command)

    def notify(self, name):
        """Record the session that follows."""
        self.notified.append(name)


@pytest.fixture(name="noxfile")
def _noxfile(monkeypatch):
    """The noxfile, on a nox that does nothing."""

    def session(function=None, **_):
        return function or session

    project = types.SimpleNamespace(
        load_toml=lambda _: {},
        python_versions=lambda _: ["3.11", "3.12", "3.13"],
        dependency_groups=lambda *_: [],
    )
    nox = types.SimpleNamespace(
        session=session,
        project=project,
        options=types.SimpleNamespace(),
        Session=Session,
    )
    monkeypatch.setitem(sys.modules, "nox", nox)
    # All of the versions, whichever are on this machine.
    monkeypatch.setenv("CI", "1")
    return runpy.run_path(str(ROOT / "noxfile.py"))


def test_the_whole_suite_is_held_to_its_coverage(noxfile):
    """
    Without arguments the last Python measures coverage, and the report
    follows.
    """
    session = Session("3.13", [])
    noxfile["tests"](session)

    assert session.ran[0][:2] == ("coverage", "run")
    assert session.notified == ["coverage_report"]


def test_a_part_of_the_suite_is_not(noxfile):
    """
    A run of one file is not held to the coverage limit.
    """
    session = Session("3.13", ["tests/test_session_requests.py"])
    noxfile["tests"](session)

    assert session.ran[0][-1] == "tests/test_session_requests.py"
    assert session.notified == []


def test_every_test_runs_on_some_python(noxfile):
    """
    Tests that are long, and those of other programs, run on one Python each.
    """
    selection = noxfile["selection"]

    assert {each: selection(each) for each in ("3.11", "3.12", "3.13")} == {
        "3.11": "not (long or browser or servers)",
        "3.12": "long or not (browser or servers)",
        "3.13": "not long",
    }


def test_journals_that_were_put_aside_are_not_committed(tmp_path):
    """
    Backed-up journals are ignored by git, because they hold session URLs.
    """
    patterns = (ROOT / ".gitignore").read_text().splitlines()

    names = "out.jsonl.old-1", "links.csv.old-23", "out.jsonl.shard-0-of-4"
    for name in names:
        assert any(Path(name).match(each) for each in patterns)
