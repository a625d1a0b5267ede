"""
Fixtures that run the command line.

In this process a command is fast and measured by coverage. As a process of its
own it has a terminal, signals and file descriptors.
"""

import asyncio
import json
import os
import sys
import threading

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import pytest

import bankconnect_async

from bankconnect_async.cli.app import app
from bankconnect_async.sandbox import Sandbox


#: What commands import.
PRELOADED = (
    "bankconnect_async.cli.batch.run",
    "bankconnect_async.cli.collect.command",
    "bankconnect_async.sandbox.server",
)


@attrs.frozen
class Result:
    """
    The result of a command.
    """

    code: int
    out: str
    err: str


def _parse(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(name="parse", scope="session")
def _parse_fixture() -> Callable[[str], list[Any]]:
    """Parse JSON lines."""
    return _parse


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in [*os.environ]:
        if "BANKCONNECT" in name or name.lower() in {
            "https_proxy",
            "no_proxy",
        }:
            monkeypatch.delenv(name)


@pytest.fixture(name="bankconnect")
def _bankconnect(capfd) -> Callable[..., Result]:
    """Run a command in this process."""

    def run(*args: object) -> Result:
        with pytest.raises(SystemExit) as stop:
            app([str(arg) for arg in args], prog_name="bankconnect")
        out, err = capfd.readouterr()
        return Result(int(stop.value.code or 0), out, err)

    return run


@attrs.frozen
class Batch:
    """
    A batch that ran in this process, and its records.
    """

    result: Result
    records: list[Any]

    def by_line(self) -> dict[int, Any]:
        """Return the records by their line numbers."""
        return {record["line"]: record for record in self.records}


@pytest.fixture(name="batch")
def _batch(bankconnect, tmp_path) -> Callable[..., Batch]:
    """Run ``bankconnect batch`` over some bytes."""

    def run(data: bytes, *args: object) -> Batch:
        source, output = tmp_path / "links.csv", tmp_path / "out.jsonl"
        source.write_bytes(data)
        result = bankconnect("batch", source, "--output", output, *args)
        written = output.read_text() if output.exists() else ""
        return Batch(result, _parse(written))

    return run


@pytest.fixture(name="sandbox_settings")
def _sandbox_settings() -> dict[str, Any]:
    """Return the settings of the sandbox; tests replace them."""
    return {}


@pytest.fixture(name="service_loop")
def _service_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run the event loop of the service in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(name="service")
def _service(monkeypatch, sandbox_settings, service_loop) -> Iterator[Sandbox]:
    """
    Serve the API in a thread, and point the environment to it.
    """
    sandbox = Sandbox(**sandbox_settings)
    asyncio.run_coroutine_threadsafe(sandbox.start(), service_loop).result()
    monkeypatch.setenv("BANKCONNECT_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("BANKCONNECT_API_KEY", sandbox.api_key)
    monkeypatch.setenv("BANKCONNECT_SERVER_HASH", sandbox.server_hash)
    yield sandbox
    asyncio.run_coroutine_threadsafe(sandbox.aclose(), service_loop).result()


@pytest.fixture(name="command", scope="session")
def _command() -> list[str]:
    """Return the words that start ``bankconnect`` without an installation."""
    return [sys.executable, "-m", "bankconnect_async.cli"]


@pytest.fixture(name="start")
async def _start(
    command, forking, monkeypatch
) -> AsyncIterator[Callable[..., Awaitable[asyncio.subprocess.Process]]]:
    """
    Start a command as a process of its own, with pipes as its streams.

    Without an environment of its own, it is forked.
    """
    package = Path(bankconnect_async.__file__).parent
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    started: list[asyncio.subprocess.Process] = []

    async def start(
        *args: object, **streams: Any
    ) -> asyncio.subprocess.Process:
        pipes = dict.fromkeys(
            ("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE
        )
        with nullcontext() if "env" in streams else forking(*PRELOADED):
            process = await asyncio.create_subprocess_exec(
                *command, *map(str, args), **{**pipes, **streams}
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture(name="begin")
def _begin(
    start, tmp_path
) -> Callable[..., Awaitable[tuple[asyncio.subprocess.Process, Path]]]:
    """Start a batch of so many link ids; gives its process and its output."""

    async def begin(
        count: int, *words: object
    ) -> tuple[asyncio.subprocess.Process, Path]:
        source, output = tmp_path / "links.csv", tmp_path / "out.jsonl"
        ids = (f"customer-{number:05}\n" for number in range(count))
        source.write_text("link_id\n" + "".join(ids))
        process = await start(
            *("batch", source, "--output", output, "--inline-frame", *words),
            # A signal to its group reaches no other process.
            start_new_session=True,
        )
        return process, output

    return begin


@pytest.fixture(name="children", scope="session")
def _children() -> Callable[[int], list[int]]:
    """Return the processes that a process started."""

    def children(pid: int) -> list[int]:
        lists = Path(f"/proc/{pid}/task").glob("*/children")
        return [
            int(each) for text in lists for each in text.read_text().split()
        ]

    return children
