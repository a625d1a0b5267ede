"""
The pytest plugin and the parts for tests of our users.
"""

import json
import re

from pathlib import Path

import pytest

from bankconnect_async import (
    EnrichmentWebhook,
    ExpiryWebhook,
    ExtractionWebhook,
    UploadWebhook,
    decode_webhook,
)
from bankconnect_async.models.webhooks import WebhookName
from bankconnect_async.store import MemorySessionStore
from bankconnect_async.testing import (
    FAILURES,
    enrichment_webhook,
    expiry_webhook,
    extraction_webhook,
    upload_webhook,
)
from bankconnect_async.web import CallbackService


pytest_plugins = ("pytester",)

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "testing.md"
CONTRACT = DOCS / "contract" / "session-api.md"
FILE = re.compile(
    r"^```python\n# test_\w+\.py\n(.*?)^```", re.MULTILINE | re.DOTALL
)
INI = """
[pytest]
asyncio_default_fixture_loop_scope = {scope}
asyncio_default_test_loop_scope = {scope}
asyncio_mode = {mode}
filterwarnings = error
"""
LAZY_NAMES = CallbackService, MemorySessionStore
# The plugin, wherever the package is not installed.
OPTIONS = ("-p", "_bankconnect_async_pytest", "-p", "no:cacheprovider")


@pytest.fixture(name="run")
def _run(pytester, monkeypatch):
    """Return a function that runs a test file in a suite of its own."""
    # Settings of this suite are not for that one.
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # A module that is imported only in a run is imported again in the next
    # one, and its classes are others.
    assert LAZY_NAMES

    def run(*texts, options=(), mode="strict", scope="function"):
        pytester.makeini(INI.format(mode=mode, scope=scope))
        names = map("test_{}".format, range(len(texts)))
        pytester.makepyfile(**dict(zip(names, texts, strict=True)))
        return pytester.runpytest_inprocess(*OPTIONS, *options)

    return run


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "mode", "scope", "least"),
    [
        ((), "strict", "function", 40),
        (("-k", "not failure"), "auto", "session", 4),
    ],
    ids=["strict", "auto"],
)
def test_the_page_on_testing(options, mode, scope, least, run):
    """
    A reader's copies of the test files pass without a warning, in both modes
    of pytest-asyncio.
    """
    files = FILE.findall(PAGE.read_text())

    found = run(*files, options=options, mode=mode, scope=scope)

    found = found.parseoutcomes()

    assert found.keys() <= {"passed", "deselected"}
    assert found["passed"] >= least


def test_duplicates_fail_the_test(run):
    """
    A test that created a session twice fails, and the failure names the
    customer; one that failed by itself shows its own failure.
    """
    result = run(
        """
        import pytest
        from bankconnect_async.sandbox import Fault

        pytestmark = [
            pytest.mark.asyncio,
            pytest.mark.usefixtures("no_duplicate_sessions"),
        ]

        async def test_twin(bankconnect, bankconnect_faults):
            bankconnect_faults.script(Fault.reset(after=True))
            await bankconnect.create_session("customer-42")

        async def test_own_failure(bankconnect, bankconnect_faults):
            bankconnect_faults.script(Fault.reset(after=True))
            await bankconnect.create_session("customer-42")
            assert False, "own"

        async def test_two_customers(bankconnect):
            await bankconnect.create_session("customer-1")
            await bankconnect.create_session("customer-2")
        """
    )

    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(
        [
            "sessions were created twice: 2 of customer-42",
            "*AssertionError: own",
        ]
    )


def test_synchronous_tests(run):
    """
    The fixtures work in a test without a loop: faults, duplicates, and an
    outage among the failures.
    """
    result = run(
        """
        import pytest
        from bankconnect_async.sandbox import Fault

        @pytest.mark.usefixtures("no_duplicate_sessions")
        def test_twin(bankconnect, bankconnect_faults, bankconnect_portal):
            bankconnect_faults.script(Fault.reset(after=True))
            bankconnect_portal.call(bankconnect.create_session, "customer-42")

        def test_failures(
            bankconnect, bankconnect_failure, bankconnect_portal
        ):
            with pytest.raises(bankconnect_failure.error):
                bankconnect_portal.call(bankconnect.create_session, "c")
        """,
        options=("-k", "twin or refused or 500"),
    )

    found = result.parseoutcomes()
    assert {name: found[name] for name in ("passed", "failed")} == {
        "passed": 2,
        "failed": 1,
    }
    result.stdout.fnmatch_lines(["*created twice: 2 of customer-42"])


def test_fixtures_under_anyio(run):
    """
    The fixtures work in a test that anyio's plugin runs, and take settings
    from a fixture that is overridden.
    """
    result = run(
        """
        import pytest

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        def bankconnect_sandbox_settings():
            return {"dialect": "session", "api_key": "another"}

        @pytest.fixture
        def bankconnect_settings():
            return {"redirect_url": "https://lender.example/return"}

        async def test_create(bankconnect, bankconnect_sandbox):
            session = await bankconnect.create_session("customer-42")
            (request,) = bankconnect_sandbox.request_log
            found = request.parameters["redirect_url"]
            assert found == "https://lender.example/return"
            assert bankconnect_sandbox.api_key == "another"
            assert session.session_id
        """
    )

    result.assert_outcomes(passed=1)


def test_other_suites_do_not_import_the_package(run_program):
    """
    The plugin by itself imports nothing of the package.
    """
    code = (
        "import sys, _bankconnect_async_pytest as plugin\n"
        "print(plugin.__name__, 'bankconnect_async' in sys.modules)"
    )

    assert run_program(code) == "_bankconnect_async_pytest False\n"


def shape(document):
    """Return the keys of a document, at all depths."""
    if isinstance(document, dict):
        return {key: shape(value) for key, value in document.items()}
    if isinstance(document, list):
        return [shape(each) for each in document[:1]]
    return None


@pytest.mark.parametrize(
    ("body", "cls", "sample_name"),
    [
        (
            extraction_webhook("e", link_id="c"),
            ExtractionWebhook,
            "entity.completed",
        ),
        (
            extraction_webhook("e", progress="failed", reason="Bad"),
            ExtractionWebhook,
            "entity.failed",
        ),
        (
            upload_webhook("s"),
            UploadWebhook,
            "session.requirement_completion",
        ),
        (
            expiry_webhook("s", accounts=upload_webhook("s")["accounts"]),
            ExpiryWebhook,
            "session.expiry",
        ),
        (
            enrichment_webhook("s"),
            EnrichmentWebhook,
            "session.enrichment.completed",
        ),
        (
            enrichment_webhook("s", error_code="UNPARSABLE"),
            EnrichmentWebhook,
            "session.enrichment.failed",
        ),
    ],
)
def test_bodies_of_webhooks(body, cls, sample_name, sample_json):
    """
    Each body has the keys of the documented sample, at all depths, and decodes
    to the class of its event.
    """
    assert shape(body) == shape(sample_json(f"webhook.{sample_name}.json"))
    webhook = decode_webhook(json.dumps(body))
    assert type(webhook) is cls


def test_arguments_of_webhooks():
    """
    Arguments set what the webhook says.
    """
    renamed = upload_webhook("s", event_name=WebhookName.UPLOADED_2024)
    failed = enrichment_webhook(
        "s", error_code="INCOMPLETE_MONTHS", insights_available=True
    )

    assert (
        decode_webhook(renamed).event_name == "SESSION_COMPLETION_NOTIFICATION"
    )
    assert decode_webhook(expiry_webhook("s")).accounts == ()
    found = decode_webhook(failed)
    assert found.insights_available
    assert found.accounts[0].account_status == "failed"
    (account,) = decode_webhook(upload_webhook("s")).accounts
    assert account.months[0] == "2025-10"
    assert account.months[-1] == "2026-03"


def test_every_documented_failure_is_a_case():
    """
    The failures have each code of the contract's table, with its status.
    """
    table = CONTRACT.read_text().partition("## Error codes")[2]
    codes = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", table, re.MULTILINE)

    cases = {each.name: each.fault for each in FAILURES}
    assert len(codes) >= 19
    for code, status in codes:
        assert cases[code].behaviour.status == int(status)
    assert len(cases) == len(FAILURES)
