"""
Every block of the README runs as printed.
"""

import os
import re
import shlex
import subprocess
import sys

from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CONSOLE = [
    line.removeprefix("$ ")
    for block in re.findall(
        r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL
    )
    for line in block.splitlines()
]


def run(arguments, where):
    """
    Run a command and return the finished process.

    Development mode warns of steps that take 0.1 s, as they may on a loaded
    machine; readers do not use it.
    """
    environment = {**os.environ}
    environment.pop("PYTHONDEVMODE", None)
    return subprocess.run(
        arguments,
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(block, tmp_path):
    """
    A reader can paste a block into a file and run it.
    """
    done = run([sys.executable, "-W", "error", "-c", block], tmp_path)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("line", CONSOLE)
def test_commands_run(line, tmp_path):
    """
    A reader can type a command, in a folder that has the examples.
    """
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    program, *arguments = shlex.split(line)
    assert program == "bankconnect"
    script = "from bankconnect_async.cli import main; main()"

    done = run([sys.executable, "-c", script, *arguments], tmp_path)

    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_the_mounted_service_closes_its_client(tmp_path):
    """
    The block that mounts the endpoints leaves no connection open.
    """
    (block,) = [each for each in PYTHON if "\nmount(" in each]
    block += """
import asyncio


async def serve():
    runner = web.AppRunner(app)
    await runner.setup()
    assert bank._executor.transport.is_open
    await runner.cleanup()
    assert not bank._executor.transport.is_open


asyncio.run(serve())
"""
    done = run([sys.executable, "-W", "error", "-c", block], tmp_path)

    assert (done.returncode, done.stderr) == (0, "")


def test_there_are_blocks():
    """
    The README has blocks, so that the tests above have input.
    """
    assert len(PYTHON) >= 4
    assert len(CONSOLE) >= 4


def test_the_two_commands_stand_there():
    """
    The main job and the tests are one line each.
    """
    lines = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)

    assert len(lines) == 2
    assert "bankconnect batch --sandbox examples/links.csv" in lines[0]
    assert lines[1].endswith(".venv/bin/nox")
