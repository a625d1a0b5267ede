"""
The FastAPI example, in process.
"""

import runpy

from pathlib import Path

import pytest

from fastapi.testclient import TestClient

from bankconnect_async import AsyncBankConnect
from bankconnect_async.web import CallbackProtocol, CallbackService


EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_app.py"
ORIGIN = "https://testserver"


@pytest.fixture(name="example", scope="module")
def _example():
    """The names of the example."""
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture(name="serve")
def _serve(example):
    """Make the application, and the list of what its callback is told."""

    def make(bank):
        told = []

        async def on_event(event):
            await example["on_event"](event)
            told.append(event)

        protocol = CallbackProtocol(f"{ORIGIN}/bank", secret="s" * 32)
        service = CallbackService(bank, protocol, on_event=on_event)
        app = example["make_app"](service, {"l-1": "customer-42"})
        return app, protocol, told

    return make


@pytest.fixture(name="client")
def _client(serve):
    """A test client whose bank is never asked, and what was told."""
    app, protocol, told = serve(AsyncBankConnect("k", redirect_url=None))
    with TestClient(app, base_url=ORIGIN, follow_redirects=False) as client:
        yield client, protocol, told


def test_return(client, capsys):
    """
    A customer who left comes back to a page, and the callback is told.
    """
    browser, protocol, told = client
    answer = browser.get(f"{protocol.return_url('customer-42')}?success=false")

    assert answer.status_code == 200
    assert "not complete yet" in answer.text
    assert (
        "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    )
    assert told[0].link_id == "customer-42"
    assert "ExitEvent" in capsys.readouterr().out


def test_webhook(client):
    """
    A webhook is answered, and told once the client is closed.
    """
    browser, protocol, told = client
    body = {"progress": "completed", "entity_id": "e-1"}
    answer = browser.post(protocol.webhook_url, json=body)
    browser.__exit__()

    assert answer.status_code == 200
    assert [webhook.entity_id for webhook in told] == ["e-1"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "connect", 401),
        ("GET", "redirect", 401),
        ("GET", "return/x?success=true", 403),
        ("POST", "events", 415),
        ("GET", "events", 405),
        ("POST", "webhook/x", 404),
    ],
)
def test_error_responses(client, method, path, status):
    """
    Statuses of refusals are those of the endpoints.
    """
    browser, _, told = client
    answer = browser.request(method, f"/bank/{path}")

    assert answer.status_code == status
    assert told == []


def test_from_env(example, monkeypatch):
    """
    The application can be made of environment variables alone.
    """
    monkeypatch.setenv("PUBLIC_URL", "https://lender.example")
    monkeypatch.setenv("SIGNING_KEY", "s" * 32)
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
    monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", "https://lender.example")
    paths = {route.path for route in example["from_env"]().routes}

    assert "/bank" in paths
