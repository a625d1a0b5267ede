"""
Every check of this project; ``nox`` runs the default ones.
"""

import os
import re
import shutil
import subprocess
import sys

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox


nox.options.reuse_venv = "yes"
# CI must not pass because an interpreter is missing.
nox.options.error_on_missing_interpreters = "CI" in os.environ

PROJECT = nox.project.load_toml("pyproject.toml")
PACKAGE = "bankconnect_async"
DECLARED = nox.project.python_versions(PROJECT)
# Safe path keeps the checkout off sys.path, so that the installed wheel is
# what is tested; development mode shows what was left open.
INSTALLED = {"PYTHONSAFEPATH": "1"}
# But not what C code does with memory, because the package has none.
STRICT = {**INSTALLED, "PYTHONDEVMODE": "1", "PYTHONMALLOC": "default"}


def backend() -> str:
    """
    Return the tool that makes environments.

    uv installs in seconds what takes pip a minute for each environment. But
    it does not read pip's settings, so it serves only where it finds
    packages without them.
    """
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    if uv is None:
        return "virtualenv"
    command = [uv, "pip", "install", "--dry-run", "--no-cache", "-p"]
    command += [sys.executable, "--reinstall", "attrs"]
    done = subprocess.run(command, capture_output=True, check=False)
    return "virtualenv" if done.returncode else "uv"


def group(name: str) -> list[str]:
    """
    Return the requirements of a dependency group, ours left out.

    The package itself is installed from the wheel that a session builds.
    """
    return [
        requirement
        for requirement in nox.project.dependency_groups(PROJECT, name)
        if not requirement.startswith("bankconnect-async")
    ]


def works(version: str) -> bool:
    """
    Tell whether there is a Python *version* that runs.

    A shim on the PATH whose interpreter is missing does not count.
    """
    program = shutil.which(f"python{version}")
    return (
        program is not None
        and not subprocess.run(
            [program, "-c", ""], capture_output=True, check=False
        ).returncode
    )


def pythons() -> list[str]:
    """
    Return the versions to test: all of them in CI, else what is here.
    """
    if "CI" in os.environ:
        return DECLARED
    missing = [version for version in DECLARED if not works(version)]
    if not missing:
        return DECLARED
    here = [version for version in DECLARED if version not in missing]
    here = here or [f"{sys.version_info.major}.{sys.version_info.minor}"]
    sys.stderr.write(
        f"nox: Python {', '.join(missing)} not found on this machine; "
        f"testing on {', '.join(here)} only\n"
    )
    return here


nox.options.default_venv_backend = backend()
PYTHONS = pythons()
EXAMPLES = "examples/engines"
QUICK = ["--numprocesses=3", "-m", "not long and not browser"]
EXTRAS = "cli,dask,encryption,otel,postgres,sandbox,speed,tables"


def selection(python: str) -> str:
    """
    Return the expression for the tests that run on this Python.

    Long tests run on one Python, and those that need a browser or a server
    on another one, which measures coverage.
    """
    is_last = python == PYTHONS[-1]
    is_long = python == PYTHONS[len(PYTHONS) // 2]
    match is_last, is_long:
        case True, True:
            return ""
        case True, False:
            return "not long"
        case False, True:
            return "long or not (browser or servers)"
    return "not (long or browser or servers)"


def prose() -> list[str]:
    """
    Return the pages that are written in our own words.
    """
    return sorted(
        str(page)
        for folder in (".", "docs", "docs/adr", "benchmarks")
        for page in Path(folder).glob("*.md")
    )


@nox.session(python=PYTHONS, tags=["tests"])
def tests(session: nox.Session) -> None:
    """
    Run the suite against the installed wheel, not the checkout.
    """
    session.install(f".[{EXTRAS}]", *group("cov"))
    env = STRICT if session.python == PYTHONS[0] else INSTALLED
    # One more than a small machine has cores, because many tests wait for
    # sockets.
    suite = ["-m", "pytest", "--numprocesses=3"]
    # No line is for one version only, so that once is enough for measuring
    # coverage, for development mode, for the tests that are long in
    # themselves, and for those of other programs.
    suite += ["-m", selection(str(session.python))]
    suite += session.posargs
    # The newest Python measures lines at no cost (PEP 669).
    if session.python == PYTHONS[-1]:
        session.run("coverage", "run", *suite, env=env)
        # A part of the suite says nothing about the limit.
        if not session.posargs:
            session.notify("coverage_report")
    else:
        session.run("python", *suite, env=env)


@nox.session(python=PYTHONS[0], venv_backend="uv", default=False)
def lowest(session: nox.Session) -> None:
    """
    Run the suite with the lowest versions that the project declares.
    """
    session.install(
        "--resolution=lowest-direct", f".[{EXTRAS}]", *group("tests")
    )
    session.run("python", "-m", "pytest", *QUICK, env=INSTALLED)


@nox.session(python=PYTHONS[-1], venv_backend="uv", default=False)
def prerelease(session: nox.Session) -> None:
    """
    Run the suite with the newest aiohttp, pre-releases included.
    """
    # A requirement that names a pre-release allows them. The last one of
    # version 4 is older than version 3.8.
    session.install(f".[{EXTRAS}]", *group("tests"), "aiohttp>=3.14.0rc0,<4")
    session.run("python", "-m", "pytest", *QUICK, env=INSTALLED)


@nox.session
def engines(session: nox.Session) -> None:
    """
    Test the example for Temporal in its own test environment.
    """
    session.install(".[sandbox]", *group("engines"))
    suite = ["-m", "pytest", "-o", f"pythonpath={EXAMPLES}"]
    suite.append(f"{EXAMPLES}/test_temporal.py")
    session.run("python", *suite, env=INSTALLED)


@nox.session(default=False)
def airflow(session: nox.Session) -> None:
    """
    Run the example for Airflow; installing Airflow takes a while.
    """
    session.install(".", *group("airflow"))
    test = f"{EXAMPLES}/test_airflow.py"
    session.run("python", "-m", "pytest", test, env=INSTALLED)


@nox.session
def coverage_report(session: nox.Session) -> None:
    """
    Combine what the test runs measured, and hold it to the limit.
    """
    session.install("coverage[toml]>=7.10")
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """
    Check style, spelling, prose, workflows and the direction of imports.
    """
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")
    session.run("proselint", "check", *prose())
    session.run("zizmor", "--offline", "--quiet", ".github")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """
    Check types with mypy and pyright, ours and what our users see of them.
    """
    session.install("-e", f".[{EXTRAS}]", *group("typing"))
    commands = [
        ["mypy"],
        ["pyright"],
        ["pyright", "--verifytypes", PACKAGE, "--ignoreexternal"],
    ]
    # What only other systems run.
    for platform in "win32", "darwin":
        cache = f"--cache-dir=.mypy_cache/{platform}"
        commands.append(["mypy", "--platform", platform, cache, PACKAGE])
    # Each of them keeps one core busy.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda command: session.run(*command), commands))


@nox.session
def build(session: nox.Session) -> None:
    """
    Build wheel and sdist, and check them.
    """
    session.install(*group("build"))
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    command = ["python", "-m", "build", "--outdir", str(dist)]
    path = [session.bin, os.environ["PATH"]]
    if session.venv_backend == "uv":
        # It makes both environments of the build in a second, and is beside
        # nox.
        command.append("--installer=uv")
        path.append(str(Path(sys.executable).parent))
    session.run(*command, env={"PATH": os.pathsep.join(path)})
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    (wheel,) = map(str, dist.glob("*.whl"))
    (sdist,) = map(str, dist.glob("*.tar.gz"))
    session.run("check-wheel-contents", wheel)
    # Two points are for the URL and the address of who publishes it.
    session.run("pyroma", "--min=8", sdist)
    session.notify("installed", [f"{wheel}[cli]"])


@nox.session(default=False, reuse_venv=False)
def installed(session: nox.Session) -> None:
    """
    Run the wheel that the session ``build`` made, in an empty environment.
    """
    session.install(*session.posargs or [".[cli]"])
    session.run("bankconnect", "--version", env=INSTALLED)


@nox.session(default=False)
def sbom(session: nox.Session) -> None:
    """
    Write a bill of what the package installs, in CycloneDX.
    """
    session.install("cyclonedx-bom>=7")
    folder = Path(session.create_tmp())
    session.run("python", "-m", "venv", "--clear", str(folder / "empty"))
    scripts = folder / "empty" / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")
    pip = [python, "-m", "pip"]
    session.run(*pip, "install", "--quiet", ".", external=True)
    # The package does not depend on it.
    session.run(*pip, "uninstall", "--quiet", "--yes", "pip", external=True)
    session.run(
        *["cyclonedx-py", "environment", "--output-reproducible"],
        *["--pyproject", "pyproject.toml"],
        *["--output-file", str(folder / "sbom.cdx.json"), python],
    )


@nox.session
def testing_extra(session: nox.Session) -> None:
    """
    Run the test files of the page on testing, with its extra alone.
    """
    session.install(".[testing]")
    page = Path("docs", "testing.md").read_text(encoding="utf-8")
    folder = Path(session.create_tmp())
    for name, text in re.findall(
        r"^```python\n# (test_\w+\.py)\n(.*?)^```",
        page,
        re.MULTILINE | re.DOTALL,
    ):
        (folder / name).write_text(text, encoding="utf-8")
    suite = ["-m", "pytest", f"--rootdir={folder}", "-c", os.devnull]
    session.run("python", *suite, str(folder), env=INSTALLED)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """
    Build the site of the documentation; a broken link is an error.
    """
    session.install(f".[{EXTRAS},testing]", *group("docs"))
    site = Path(session.create_tmp()) / "site"
    session.run(
        *["sphinx-build", "--fail-on-warning", "--fresh-env", "--quiet"],
        *["--keep-going", "docs", str(site)],
        env=INSTALLED,
    )
    session.log(f"the site is at {site / 'index.html'}")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """
    Measure what a session costs; ``nox -s bench -- --help`` says how.
    """
    session.install(".[dask,speed,tables]", *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs)


if __name__ == "__main__":
    nox.main()
