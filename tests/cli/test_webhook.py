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


def test_what_is_no_url_is_refused(bankconnect, service):
    """
    The error is the client's, whatever the parser of URLs makes of it.
    """
    result = bankconnect("webhook", "https://[]@/", "--flow", "session")

    assert (result.code, service.request_log) == (2, ())
    assert "must be an absolute http or https URL" in result.err


def test_a_service_is_needed(bankconnect, service):
    """
    Without a URL the variables of the service have to be set.
    """
    result = bankconnect("webhook", "--flow", "entity")

    assert (result.code, service.request_log) == (2, ())
    assert "BANKCONNECT_CALLBACK_URL is not set" in result.err


@pytest.mark.parametrize("sandbox_settings", [{"dialect": "session"}])
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("http://a.example/s3cret",), 2),
        (("http://a.example/s3cret", "--allow-http"), 0),
        (("http://127.0.0.1:8080/s3cret",), 0),
    ],
    ids=["refused", "allowed", "loopback"],
)
def test_plain_http(bankconnect, service, args, code):
    """
    A URL without TLS is refused, unless it is on this machine or the user
    allows it.
    """
    result = bankconnect("webhook", *args, "--flow", "session")

    assert (result.code, len(service.request_log)) == (code, not code)
    assert ("uses plain http" in result.err) is bool(code)
    assert "s3cret" not in result.err
    assert "allow_http=" not in result.err
