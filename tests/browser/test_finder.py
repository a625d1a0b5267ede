"""
The search for a browser to run these tests in.
"""

import threading

from concurrent.futures import ThreadPoolExecutor

import pytest


class Machine:
    """
    A machine with some commands, which may get more.
    """

    def __init__(self, *commands, broken=()):
        self.commands = set(commands)
        self.broken = set(broken)
        self.ran = []

    def which(self, command):
        """Find a command."""
        return f"/bin/{command}" if command in self.commands else None

    def run(self, command):
        """Run a command."""
        self.ran.append(" ".join(command))
        if any(word in self.ran[-1] for word in self.broken):
            return False
        if "apt-get install" in self.ran[-1]:
            self.commands.add("chromium")
        return True


@pytest.fixture(name="find")
def _find(finder, debian_class, tmp_path):
    """Find a browser on a machine."""

    def find(machine, *, is_root=True, is_downloaded=False):
        path = tmp_path / "chrome"
        if is_downloaded:
            path.touch()
        return finder(
            debian=debian_class(
                which=machine.which, is_root=is_root, run=machine.run
            ),
            run=machine.run,
            downloaded=lambda: str(path),
        ).find()

    return find


@pytest.mark.parametrize(
    "command", ["chromium", "chromium-browser", "google-chrome"]
)
def test_on_the_path(find, command):
    """
    An installed browser is used, and no command runs.
    """
    machine = Machine(command, "apt-get")

    assert find(machine) == f"/bin/{command}"
    assert machine.ran == []


def test_package(find):
    """
    Root on Debian installs the package.
    """
    machine = Machine("apt-get")

    assert find(machine) == "/bin/chromium"
    assert machine.ran[0] == "apt-get update"
    assert machine.ran[1].startswith("apt-get install -y")


def test_two_at_once(find):
    """
    Of two that miss the package, one installs it and the other waits.
    """
    machine = Machine("apt-get")
    second = threading.Barrier(2)

    def run(command):
        try:
            second.wait(timeout=0.5)
        except threading.BrokenBarrierError:
            return Machine.run(machine, command)
        pytest.fail("both run a command")

    machine.run = run
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(find, [machine, machine]))

    assert found == ["/bin/chromium"] * 2
    assert len(machine.ran) == 2


@pytest.mark.parametrize(
    ("machine", "is_root"),
    [
        (Machine("apt-get"), False),
        (Machine(), True),
        (Machine("apt-get", broken=["update"]), True),
    ],
    ids=["not root", "not Debian", "offline"],
)
def test_download(find, machine, is_root):
    """
    Without a package, Playwright downloads a browser.
    """
    assert find(machine, is_root=is_root).endswith("chrome")
    assert machine.ran[-1].endswith("playwright install chromium")


def test_downloaded_before(find):
    """
    A browser that Playwright has downloaded is used.
    """
    machine = Machine()

    assert find(machine, is_downloaded=True).endswith("chrome")
    assert machine.ran == []


def test_nothing_helps(find):
    """
    Without any browser the tests fail with one line that says what to do.
    """
    with pytest.raises(pytest.fail.Exception) as failed:
        find(Machine("apt-get", broken=["apt-get", "playwright"]))

    assert "apt-get install chromium" in str(failed.value)
    assert "\n" not in str(failed.value)
