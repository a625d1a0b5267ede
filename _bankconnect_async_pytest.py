"""
Fixtures of bankconnect-async for pytest.

pytest imports this module whenever it starts, so that it stands beside the
package: a suite that uses none of the fixtures does not import the package.
"""

import inspect

from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest


try:
    from pytest_asyncio import fixture as _async_fixture
except ImportError:  # anyio's own plugin runs async fixtures of pytest
    _async_fixture = pytest.fixture  # type: ignore[assignment]

if TYPE_CHECKING:
    from types import ModuleType

    from bankconnect_async import AsyncBankConnect, BlockingPortal
    from bankconnect_async.sandbox import Faults, Sandbox
    from bankconnect_async.testing import DocumentedFailure, FakeClock

T = TypeVar("T")

_FAILURE = "bankconnect_failure"
_NO_DUPLICATES = "no_duplicate_sessions"


def _package() -> "ModuleType":
    import bankconnect_async.sandbox  # noqa: PLC0415 - see above
    import bankconnect_async.testing  # noqa: PLC0415

    return bankconnect_async


@asynccontextmanager
async def _entered(
    request: pytest.FixtureRequest, resource: "AbstractAsyncContextManager[T]"
) -> "AsyncIterator[T]":
    function = request.function
    # A test of hypothesis calls the function that was written.
    given = getattr(function, "hypothesis", None)
    if inspect.iscoroutinefunction(getattr(given, "inner_test", function)):
        async with resource as entered:
            yield entered
        return
    # The loop of this fixture does not run during a synchronous test.
    portal = request.getfixturevalue("bankconnect_portal")
    entered = portal.call(resource.__aenter__)
    try:
        yield entered
    finally:
        portal.call(resource.__aexit__, None, None, None)


@pytest.fixture
def bankconnect_sandbox_settings() -> "Mapping[str, Any]":
    """
    Arguments of the sandbox; override it to choose them.
    """
    return {}


@pytest.fixture
def bankconnect_settings() -> "Mapping[str, Any]":
    """
    Arguments of the client; override it to choose them.
    """
    return {}


@pytest.fixture
def bankconnect_clock() -> "FakeClock":
    """
    The client's clock, on which retries and polls wait in no time.
    """
    clock: FakeClock = _package().testing.FakeClock()
    return clock


@pytest.fixture
def bankconnect_portal() -> "Iterator[BlockingPortal]":
    """
    The loop of the sandbox and the client in a synchronous test.
    """
    with _package().BlockingPortal() as portal:
        yield portal


@_async_fixture
async def bankconnect_sandbox(
    request: pytest.FixtureRequest,
    bankconnect_sandbox_settings: "Mapping[str, Any]",
) -> "AsyncIterator[Sandbox]":
    """
    A running sandbox, which processes statements at once.
    """
    settings = {"processing_time": 0, **bankconnect_sandbox_settings}
    sandbox = _package().sandbox.Sandbox(**settings)
    async with _entered(request, sandbox):
        yield sandbox


@_async_fixture
async def bankconnect(
    request: pytest.FixtureRequest,
    bankconnect_sandbox: "Sandbox",
    bankconnect_clock: "FakeClock",
    bankconnect_settings: "Mapping[str, Any]",
) -> "AsyncIterator[AsyncBankConnect]":
    """
    A client of `bankconnect_sandbox`.
    """
    package = _package()
    settings: dict[str, Any] = {"clock": bankconnect_clock}
    callspec = getattr(request.node, "callspec", None)
    failure = callspec and callspec.params.get(_FAILURE)
    if failure and failure.error is package.RequestTimeoutError:
        # No response is lost by it, because none comes.
        settings["timeouts"] = package.Timeouts(read=0.1)
    client = package.testing.make_client(
        bankconnect_sandbox, **{**settings, **bankconnect_settings}
    )
    async with _entered(request, client):
        yield client


@pytest.fixture
def bankconnect_faults(bankconnect_sandbox: "Sandbox") -> "Faults":
    """
    The faults of `bankconnect_sandbox`; none by default.
    """
    return bankconnect_sandbox.faults


@_async_fixture
async def bankconnect_failure(
    request: pytest.FixtureRequest, bankconnect_sandbox: "Sandbox"
) -> "AsyncIterator[DocumentedFailure]":
    """
    A documented failure, which every request meets; the test runs for each.
    """
    failure: DocumentedFailure = request.param
    if failure.fault is None:
        async with _entered(request, bankconnect_sandbox.outage()):
            yield failure
    else:
        bankconnect_sandbox.faults.always(failure.fault)
        yield failure


@pytest.fixture
def no_duplicate_sessions(bankconnect_sandbox: "Sandbox") -> None:
    """
    Fail the test if a `link_id` has two sessions when it ends.
    """


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """
    Run a test that asks for a failure once for each.
    """
    if _FAILURE not in metafunc.fixturenames:
        return
    # A test may choose some of them by a mark of its own.
    if not any(
        _FAILURE in names
        for mark in metafunc.definition.iter_markers("parametrize")
        for names in mark.args[:1]
    ):
        failures = _package().testing.FAILURES
        metafunc.parametrize(
            _FAILURE,
            failures,
            ids=[failure.name for failure in failures],
            indirect=True,
        )


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(
    pyfuncitem: pytest.Function,
) -> "Generator[None, object, object]":
    """
    Look for duplicate sessions when a test is over.
    """
    result = yield
    if _NO_DUPLICATES in pyfuncitem.fixturenames:
        duplicates = _package().testing.duplicate_sessions(
            pyfuncitem.funcargs["bankconnect_sandbox"]
        )
        if duplicates:
            found = ", ".join(
                f"{count} of {link_id}"
                for link_id, count in duplicates.items()
            )
            pytest.fail(f"sessions were created twice: {found}", pytrace=False)
    return result
