"""
The command line as a whole.
"""

import asyncio
import sys

import pytest

import bankconnect_async

from bankconnect_async.cli import app as _app


COMMANDS = sorted(_app.app.commands)


def test_version(bankconnect):
    """
    The version is that of the package.
    """
    result = bankconnect("--version")

    assert result.code == 0
    assert bankconnect_async.__version__ in result.out


def test_help(bankconnect):
    """
    The help names the commands, the variables of secrets and the exit codes.
    """
    result = bankconnect("--help")

    assert result.code == 0
    for word in (*COMMANDS, "BANKCONNECT_API_KEY", "Exit codes", "130"):
        assert word in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_commands(bankconnect, command):
    """
    Every option of every command has a help text that begins in upper case.
    """
    result = bankconnect(command, "-h")

    assert result.code == 0
    for param in _app.app.commands[command].params:
        if param.param_type_name == "option":
            text = getattr(param, "help", None) or ""
            assert text[:1].isupper() or text.startswith("v1"), param.name


@pytest.mark.parametrize("args", [["nope"], ["batch", "x"], ["--nope"]])
def test_usage(bankconnect, args):
    """
    An unknown command or option exits with 2.
    """
    result = bankconnect(*args)

    assert result.code == 2
    assert result.out == ""
    assert "Usage: bankconnect" in result.err


@pytest.mark.parametrize("command", COMMANDS)
def test_secrets_are_no_options_of_clients(command):
    """
    No client command takes a secret from the command line, which other users
    of the machine can see.
    """
    names = {param.name for param in _app.app.commands[command].params}

    assert command == "sandbox" or not names & {"api_key", "server_hash"}


@pytest.mark.parametrize("missing", ["click", "rich"])
async def test_without_the_extra(missing):
    """
    Without click or rich the command prints how to install them.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"import sys; sys.modules[{missing!r}] = None; "
        f"from bankconnect_async.cli import main; main()",
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()

    assert process.returncode == 2
    assert b"pip install 'bankconnect-async[cli]'" in err
    assert b"Traceback" not in err


async def test_a_command_imports_no_others():
    """
    A command does without the libraries of others and without the sandbox,
    and the sandbox without what only uploads need.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys\n"
        # What a tool that measures coverage imports does not count.
        "before = set(sys.modules)\n"
        "from bankconnect_async.cli.app import app\n"
        "app(['fetch', '--help'], standalone_mode=False)\n"
        "print(*sys.modules.keys() - before)\n"
        "import bankconnect_async.sandbox.server\n"
        "print(*sys.modules.keys() - before)",
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()

    modules, with_sandbox = (
        set(line.split()) for line in out.decode().splitlines()[-2:]
    )
    assert "bankconnect_async.sandbox.data_api.uploads" in with_sandbox
    assert "pypdf" not in with_sandbox
    assert "bankconnect_async.cli.statements" in modules
    assert not modules & {
        "aiohttp.web",
        "bankconnect_async.collecting",
        "bankconnect_async.report",
        "bankconnect_async.sandbox.server",
        "bankconnect_async.web",
        "pyarrow",
        "pypdf",
        "rich",
        "sqlite3",
    }


@pytest.mark.parametrize(
    "module", ["bankconnect_async", "bankconnect_async.cli"]
)
async def test_as_a_module(module):
    """
    The package runs as a module, under the name of the script.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--version"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()

    assert process.returncode == 0
    assert out.startswith(b"bankconnect, version ")


@pytest.mark.parametrize(
    ("closed", "problem"),
    [
        ("<&-", b"stdin: is closed."),
        (">&-", b"stdout: is closed: name another --output"),
    ],
)
@pytest.mark.usefixtures("start")
async def test_closed_streams(command, closed, problem):
    """
    A process without stdin or stdout prints what to do.
    """
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {closed}', "sh", *command),
        *("batch", "-", "--sandbox", "--output", "-"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()

    assert err.startswith(problem)
    assert err.count(b"\n") == 1
    assert process.returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(bankconnect, monkeypatch, shell):
    """
    The script of a shell asks the program itself, which lists its commands.
    """
    script = bankconnect("completion", shell)
    monkeypatch.setenv("_BANKCONNECT_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "bankconnect de")
    monkeypatch.setenv("COMP_CWORD", "de" if shell == "fish" else "1")
    found = bankconnect()

    assert (script.code, script.err) == (0, "")
    assert f"_BANKCONNECT_COMPLETE={shell}_complete" in script.out
    for command in ("decode", "demo"):
        assert command in found.out
    assert "batch" not in found.out
