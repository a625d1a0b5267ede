"""
The blocks of the README and of the pages run as printed.

The links of all pages lead somewhere.
"""

import logging.config
import os
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
import tomllib

from contextlib import closing
from pathlib import Path

import attrs
import pytest

from aiohttp.test_utils import TestClient, TestServer
from starlette.testclient import TestClient as Browser

from bankconnect_async import errors
from bankconnect_async.cli.app import app


ROOT = Path(__file__).parent.parent
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "benchmarks").rglob("*.md"),
]
README = (ROOT / "README.md").read_text()
TEXTS = {page.stem: page.read_text() for page in (ROOT / "docs").glob("*.md")}
CAMPAIGNS = TEXTS["campaigns"]
FRAMEWORKS = TEXTS["web-frameworks"]
# The blocks of these pages build on one another, or are test files.
OTHERS = "campaigns", "start", "testing", "web-frameworks"
BLOCK = re.compile(
    r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
# The first line of a block that is a file for the blocks below it.
FILE = re.compile(r"# (\w+\.py)\n")
# Ports of this machine.
PORT = re.compile(r"(?<=\blocalhost:|127\.0\.0\.1:)\d+|(?<=\bport[ =])\d+")
TIMEOUT = 120
# The programs that a reader has installed.
PROGRAMS = {
    "bankconnect": "-c 'from bankconnect_async.cli import main; main()'",
    "python": "-W error",
}


SERVE = """
import asyncio


async def serve():
    runner = web.AppRunner(app)
    await runner.setup()
    assert bank._executor.transport.is_open
    await runner.cleanup()
    assert not bank._executor.transport.is_open


asyncio.run(serve())
"""


def read_blocks(page):
    """Return a page's Python blocks and commands, as pairs with the kind."""
    for language, text in BLOCK.findall(page):
        if language == "python":
            yield language, text
        else:
            for line in text.splitlines():
                if line.startswith("$ "):
                    yield language, line.removeprefix("$ ")


@attrs.define
class Reader:
    """
    Runs the blocks of a page in one folder, as a reader does in a terminal.

    Attributes:
        folder: The folder.
        variables: The environment variables that were exported.
        ports: Free ports for those of the page.
        servers: The processes in the background.
    """

    folder: Path
    variables: dict = attrs.field(factory=dict)
    ports: dict = attrs.field(factory=dict)
    servers: list = attrs.field(factory=list)

    def __attrs_post_init__(self):
        programs = self.folder / "bin"
        programs.mkdir()
        for name, arguments in PROGRAMS.items():
            program = programs / name
            program.write_text(
                f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n'
            )
            program.chmod(0o700)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.communicate(timeout=TIMEOUT)

    def run(self, language, text):
        """
        Run a Python block or a command, or save a block that is a file.
        """
        text = PORT.sub(self._free_port, text)
        if file := FILE.match(text):
            (self.folder / file[1]).write_text(text)
        elif language == "python":
            stderr = self._finish(["python", "-c", text])
            assert stderr == ""
        elif text.startswith("export "):
            name, _, value = shlex.split(text)[1].partition("=")
            self.variables[name] = value
        elif text.endswith(" &"):
            server = self._start(shlex.split(text.removesuffix(" &")))
            self.servers.append(server)
            # Servers print a line when they listen.
            assert server.stdout.readline(), server.stderr.read()
        else:
            stderr = self._finish(["sh", "-c", text])
            assert "Traceback" not in stderr

    def _finish(self, arguments):
        process = self._start(arguments)
        stdout, stderr = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, stdout + stderr
        return stderr

    def _start(self, arguments):
        environment = {
            **os.environ,
            **self.variables,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }
        # Development mode warns of steps that take 0.1 s, as they may on a
        # loaded machine; readers do not use it.
        environment.pop("PYTHONDEVMODE", None)
        # Blocks import files that the reader has saved.
        environment.pop("PYTHONSAFEPATH", None)
        return subprocess.Popen(
            arguments,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _free_port(self, found):
        if found[0] not in self.ports:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.ports[found[0]] = str(listener.getsockname()[1])
        return self.ports[found[0]]


@pytest.fixture(name="reader")
def _reader(tmp_path):
    """Return a reader in a folder that has the examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with Reader(tmp_path) as reader:
        yield reader


def single_blocks():
    """Yield the blocks that a reader can run by themselves."""
    pages = {name: TEXTS[name] for name in TEXTS.keys() - set(OTHERS)}
    for name, page in sorted({"README": README, **pages}.items()):
        for block in BLOCK.finditer(page):
            if block[0] not in TEXTS["start"]:  # whose blocks run below
                yield pytest.param(block[0], id=name)


@pytest.mark.long
@pytest.mark.parametrize("block", list(single_blocks()))
def test_blocks(block, reader):
    """
    A reader can run each block by itself.
    """
    for language, text in read_blocks(block):
        reader.run(language, text)


@pytest.mark.long
def test_start(reader):
    """
    The first page leads to a service that takes a customer's outcome.
    """
    for language, text in read_blocks(TEXTS["start"]):
        reader.run(language, text)

    printed = iter(reader.servers[-1].stdout.readline, "")
    assert any("UploadWebhook(" in line for line in printed)


@pytest.mark.long
def test_mounted_service(reader):
    """
    The first block that mounts the endpoints leaves no connection open.
    """
    block, _ = [
        text
        for language, text in read_blocks(TEXTS["frame"])
        if language == "python" and "\nmount(" in text
    ]
    reader.run("python", f"{block}{SERVE}")


@pytest.mark.long
def test_campaign(reader):
    """
    A reader can follow a campaign, and has each outcome once in the end.
    """
    for language, text in read_blocks(CAMPAIGNS):
        reader.run(language, text)

    with closing(sqlite3.connect(reader.folder / "outcomes.db")) as outcomes:
        rows = sorted(
            outcomes.execute("SELECT link_id, outcome FROM outcomes")
        )
    assert rows == [
        ("customer-1", "EnrichmentWebhook"),
        ("customer-1", "SuccessEvent"),
        ("customer-1", "UploadWebhook"),
        ("customer-2", "EnrichmentWebhook"),
        ("customer-2", "SuccessEvent"),
        ("customer-2", "UploadWebhook"),
        ("customer-3", "EnrichmentWebhook"),
        ("customer-3", "UploadWebhook"),
    ]


@pytest.fixture(name="run_section")
def _run_section(tmp_path, monkeypatch):
    """Run the block of a section about a framework; return its names."""
    _, service = next(read_blocks(FRAMEWORKS))
    (tmp_path / FILE.match(service)[1]).write_text(service)
    monkeypatch.syspath_prepend(tmp_path)
    # Litestar sets up logging for the whole process.
    monkeypatch.setattr(logging.config, "dictConfig", lambda _: None)

    def run(framework):
        _, _, section = FRAMEWORKS.partition(f"\n## {framework}\n")
        names = {"__name__": framework}
        exec(next(read_blocks(section))[1], names)  # noqa: S102
        return names

    yield run
    del sys.modules["bank_service"]


#: A webhook, and a request for a page that creates no session.
WEBHOOK = {"progress": "completed", "entity_id": "e-1"}
PREFETCH = {
    "Cookie": "customer=customer-42",
    "X-Customer": "customer-42",
    "Sec-Purpose": "prefetch",
}


@pytest.mark.long
@pytest.mark.parametrize(
    "framework",
    ["FastAPI", "Starlette", "Litestar", "Quart", "Without a framework"],
)
def test_asgi_frameworks(framework, run_section, capsys):
    """
    The endpoints answer in each framework, and close with its application.
    """
    names = run_section(framework)
    service = names["service"]
    return_url = service.protocol.return_url("customer-42")
    with Browser(names["app"], base_url="https://lender.example") as browser:
        answers = [
            browser.get("/bank/connect"),
            browser.get("/bank/connect", headers=PREFETCH),
            browser.head("/bank/connect"),
            browser.get(f"{return_url}?success=false"),
            browser.post(service.protocol.webhook_url, json=WEBHOOK),
        ]
        assert service.bank._executor.transport.is_open

    assert [answer.status_code for answer in answers] == [
        *(401, 403, 405, 200, 200)
    ]
    assert re.findall(r"(\w+)\(", capsys.readouterr().out) == [
        *("ExitEvent", "ExtractionWebhook")
    ]
    assert not service.bank._executor.transport.is_open


async def test_aiohttp_framework(run_section, capsys):
    """
    The endpoints of a sub-application are at the address of the base.
    """
    names = run_section("aiohttp")
    protocol = names["service"].protocol
    return_url = protocol.return_url("customer-42").partition(".example")[2]
    webhook_url = protocol.webhook_url.partition(".example")[2]
    async with TestClient(TestServer(names["app"])) as browser:
        answers = [
            await browser.get("/bank/connect"),
            await browser.get("/bank/connect", headers=PREFETCH),
            await browser.head("/bank/connect"),
            await browser.get(f"{return_url}?success=false"),
            await browser.post(webhook_url, json=WEBHOOK),
        ]

    assert [answer.status for answer in answers] == [401, 403, 405, 200, 200]
    assert re.findall(r"(\w+)\(", capsys.readouterr().out) == [
        *("ExitEvent", "ExtractionWebhook")
    ]
    assert not names["bank"]._executor.transport.is_open


def test_there_are_blocks():
    """
    The pages have blocks, so that the tests above have input.
    """
    assert len(list(single_blocks())) >= 20
    assert len(list(read_blocks(TEXTS["start"]))) >= 5
    assert len(list(read_blocks(CAMPAIGNS))) >= 20


def read_table(page, head):
    """Return the names in the first column of a table of a page."""
    rows = TEXTS[page].partition(f"| {head} |")[2].split("\n\n")[0]
    cells = re.findall(r"^\| ([^|]*) \|", rows, re.MULTILINE)
    return set(re.findall(r"`(\w+)", "".join(cells)))


def test_tables():
    """
    The pages list all extras, all commands and all environment variables.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    sources = (ROOT / "bankconnect_async").rglob("*.py")
    variables = {
        name
        for source in sources
        for name in re.findall(r"\bBANKCONNECT_[A-Z_]+\b", source.read_text())
    }

    assert read_table("start", "Extra") == (
        project["project"]["optional-dependencies"].keys()
    )
    assert read_table("command-line", "Command") == app.commands.keys()
    assert read_table("environment", "Variable") == variables - {
        "BANKCONNECT_"
    }


def test_tree_of_errors():
    """
    The tree of errors has each class below its base, which catches it.
    """
    _, _, tree = TEXTS["errors"].partition("## The tree of errors")
    found, branch = {}, {}
    for line in tree.splitlines():
        if names := re.findall(r"[A-Z]\w+Error", line):
            depth = line.index(names[0]) // 4
            branch[depth] = names[0]
            found |= dict.fromkeys(names, branch.get(depth - 1))

    classes = {
        cls
        for name, cls in vars(errors).items()
        if name.endswith("Error")
        and issubclass(cls, errors.BankConnectError)
        and errors.StatementError not in cls.__bases__
        and not name.startswith("_")
    }
    assert found == {
        cls.__name__: next(
            (base.__name__ for base in cls.__mro__[1:] if base in classes),
            None,
        )
        for cls in classes
    }


def test_tests_that_pages_name():
    """
    Each test file that a page names is in the repository.
    """
    names = {
        name
        for page in PAGES
        for name in re.findall(r"`(tests/[\w/]+\.py)`", page.read_text())
    }

    assert len(names) >= 15
    assert [name for name in names if not (ROOT / name).exists()] == []


def anchors(text):
    """Return the anchors of a page's headings, as hosts of Git make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    """
    Each link within the repository leads to a file, and to its heading.
    """
    for target in re.findall(r"\]\(([^()\s]+)\)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            path, _, anchor = target.partition("#")
            found = page.parent / path if path else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(found.read_text()), target


# Words that are out of use, or that say nothing in a reference.
BAD_WORDS = re.compile(
    r"\b(anew|borne|heed|hitherto|obviously|seamless|simply|thereof|upon"
    r"|utilize|whilst|whither)\b",
    re.IGNORECASE,
)
NOT_PROSE = re.compile(
    r"^```.*?^```|^    .*?$|<!--.*?-->", re.MULTILINE | re.DOTALL
)
END_OF_SENTENCE = re.compile(
    r"(?<=[.!?])\s+|\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\. ))| \| "
)


def read_sentences(page):
    """Return the sentences of a page, without code and links."""
    text = NOT_PROSE.sub("\n\n", page)
    text = re.sub(r"`[^`]*`", "`code`", re.sub(r"\]\([^)]*\)", "]", text))
    return [" ".join(part.split()) for part in END_OF_SENTENCE.split(text)]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "contract" not in page.parts],
    ids=lambda page: page.name,
)
def test_sentences(page):
    """
    Sentences have 45 words at most, none twice in a row, and no bad ones.
    """
    for sentence in read_sentences(page.read_text()):
        assert len(sentence.split()) <= 45, sentence
        assert not re.search(r"\b([a-z]+) \1\b", sentence), sentence
        assert not BAD_WORDS.search(sentence), sentence


def test_the_readme_is_short():
    """
    The README is one page of reading; the rest is on other pages.
    """
    assert len(README.splitlines()) <= 150


def test_the_two_commands_stand_there():
    """
    The main job and the tests are one line each.
    """
    lines = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)

    assert len(lines) == 2
    assert "bankconnect batch --sandbox examples/links.csv" in lines[0]
    assert lines[1].endswith(".venv/bin/nox")
