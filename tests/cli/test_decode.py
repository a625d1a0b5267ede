"""
``bankconnect decode``.
"""

import json
import sys

from traceback import TracebackException

import pytest

from bankconnect_async import ReturnURL, SuccessEvent, build_redirect
from bankconnect_async.cli.app import app
from bankconnect_async.cli.messages import CommandError


SECRET = "s" * 32
BASE = "https://lender.example/return"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "event.iframe.success.seed.json",
            ("browser message", "first documentation", "success"),
        ),
        (
            "event.iframe.success.v1.json",
            ("browser message", "entity flow", "success"),
        ),
        (
            "event.iframe.success.v1.session.json",
            ("browser message", "session flow", "success"),
        ),
        (
            "event.iframe.exit.v1.json",
            ("browser message", "entity or session flow", "exit"),
        ),
        (
            "event.flat.info.legacy.manual.json",
            ("browser message", "flat form of 2021", "info"),
        ),
        (
            "redirect.success.seed.txt",
            ("return URL", "entity flow or first documentation", "success"),
        ),
        (
            "redirect.success.session.txt",
            ("return URL", "session flow", "success"),
        ),
        ("redirect.exit.txt", ("return URL", "any", "exit")),
        (
            "webhook.entity.failed.json",
            ("webhook", "entity flow", "extraction ended"),
        ),
        (
            "webhook.session.enrichment.completed.json",
            ("webhook", "session flow", "processing ended"),
        ),
        (
            "webhook.session.expiry.json",
            ("webhook", "session flow", "session expired"),
        ),
    ],
)
def test_samples(bankconnect, sample, name, expected):
    """
    It recognises the form, the dialect and the kind of each sample.
    """
    result = bankconnect("decode", "--json", sample(name).decode())

    facts = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert (facts["form"], facts["dialect"], facts["kind"]) == expected


def test_a_code_is_explained(bankconnect, sample):
    """
    The lines hold the facts, and the meaning of an error's code.
    """
    text = sample("event.iframe.error.v1.json").decode()
    lines = bankconnect("decode", text).out.splitlines()

    assert "error_type           MU003" in lines
    assert "meaning              the password of the PDF is wrong" in lines


def test_secrets_are_hidden_unless_asked_for(bankconnect):
    """
    Names, files and account numbers show with --show-secrets alone.
    """
    account = {
        "account_id": "a1",
        "account_number": "123456789012",
        "name": "Asha Canary",
        "statements": [{"statement_id": "s1", "upload_file_name": "asha.pdf"}],
    }
    text = json.dumps(
        {
            "session_id": "1d",
            "event_name": "ENRICHMENT_NOTIFICATION",
            "accounts": [account],
        }
    )
    hidden = bankconnect("decode", text).out
    shown = bankconnect("decode", text, "--show-secrets").out

    assert "s1" in hidden
    assert "9012" in hidden
    for secret in ("12345678", "Canary", "asha.pdf"):
        assert secret not in hidden
        assert secret in shown


@pytest.mark.parametrize(
    ("change", "signature"),
    [("", "valid"), ("x", "refused: the state of the URL is forged")],
)
def test_signatures(bankconnect, monkeypatch, change, signature):
    """
    With the key, the signature of a return URL is checked; the state itself
    is not printed.
    """
    monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", BASE)
    monkeypatch.setenv("BANKCONNECT_SIGNING_KEY", SECRET)
    state = ReturnURL(BASE, secret=SECRET).build("customer-42")
    url = str(build_redirect(state, SuccessEvent(session_id="1d")))
    text = url.replace("?", f"{change}?")
    result = bankconnect("decode", "--json", text)

    facts = json.loads(result.out)
    assert facts["signature"].startswith(signature)
    assert facts.get("link_id") == (None if change else "customer-42")
    assert state.name not in result.out


def test_the_key_is_in_no_traceback(monkeypatch):
    """
    A traceback with locals does not show a key that cannot be used.
    """
    monkeypatch.setenv("BANKCONNECT_REDIRECT_URL", BASE)
    monkeypatch.setenv("BANKCONNECT_SIGNING_KEY", "canary")
    with pytest.raises(CommandError) as caught:
        app(
            ["decode", "?success=true&session_id=1d"],
            standalone_mode=False,
        )

    report = TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    text = "".join(report.format())
    assert "BANKCONNECT_SIGNING_KEY: must be 32 bytes" in text
    assert "canary" not in text


def test_channels(bankconnect):
    """
    A bare payload needs the channel that delivered it.
    """
    payload = '{"entityId": "e1", "linkId": "c"}'
    bare = bankconnect("decode", payload)
    named = bankconnect("decode", payload, "--channel", "webview.onSuccess")

    assert bare.code == 1
    assert "required field missing @ $.type" in bare.err
    assert "payload of webview.onSuccess" in named.out


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        (b'\xef\xbb\xbf{"progress": "failed"}\r\n', 0, b"entity flow"),
        (b"\xff", 2, b"TEXT is neither JSON nor a return URL"),
    ],
    ids=["mark", "bytes"],
)
async def test_stdin(start, monkeypatch, raw, code, words):
    """
    A text from stdin is UTF-8, and may begin with a byte order mark.
    """
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    process = await start("decode")
    out, err = await process.communicate(raw)

    assert process.returncode == code
    assert words in out + err


def test_stdin_is_closed(bankconnect, monkeypatch):
    """
    A process without stdin has nothing to decode.
    """
    monkeypatch.setattr(sys, "stdin", None)
    result = bankconnect("decode")

    assert result.code == 2
    assert "there is nothing to decode" in result.err


@pytest.mark.parametrize("text", ["hello", "[1]", " "])
def test_other_texts_are_refused(bankconnect, text):
    """
    A text that is nothing of the kind exits with 2.
    """
    assert bankconnect("decode", text).code == 2
