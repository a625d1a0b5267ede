"""
``bankconnect webhook``.
"""

import pytest

from bankconnect_async.web import CallbackProtocol


BASE = "https://lender.example/bank"
OURS = CallbackProtocol(BASE, secret="n" * 32).webhook_url


@pytest.mark.parametrize("sandbox_settings", [{"dialect": "session"}])
@pytest.mark.parametrize(
    ("args", "url"),
    [((), OURS), (("https://a.example/hook",), "https://a.example/hook")],
    ids=["service", "URL"],
)
def test_the_url_is_set(  # noqa: PLR0913, PLR0917
    bankconnect, monkeypatch, service, tmp_path, args, url
):
    """
    The URL is that of the service, or the one that is given; its path is a
    secret. No store is made.
    """
    monkeypatch.setenv("BANKCONNECT_STORE", f"{tmp_path}/sessions.db")
    monkeypatch.setenv("BANKCONNECT_CALLBACK_URL", BASE)
    monkeypatch.setenv("BANKCONNECT_SIGNING_KEY", f"{'n' * 32},{'o' * 32}")

    result = bankconnect("webhook", *args, "--flow", "session")

    assert (result.code, result.out) == (0, "")
    origin = url[: url.index("/", 8)]
    assert result.err == f"webhooks of the session flow go to {origin}/…\n"
    (request,) = service.request_log
    assert request.parameters["webhook_url"] == url
    assert list(tmp_path.iterdir()) == []


def test_a_service_is_needed(bankconnect, service):
    """
    Without a URL the variables of the service have to be set.
    """
    result = bankconnect("webhook", "--flow", "entity")

    assert (result.code, service.request_log) == (2, ())
    assert "BANKCONNECT_CALLBACK_URL is not set" in result.err
