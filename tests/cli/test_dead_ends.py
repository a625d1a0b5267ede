"""
Mistakes of new users: each message names the next step.
"""

import pytest

from bankconnect_async.sandbox import statement_pdf


def test_a_missing_key_is_named_once(bankconnect):
    """
    The message names the missing variable and its meaning.
    """
    result = bankconnect("session", "a", "--inline-frame")

    assert result.code == 2
    assert result.err == (
        "bankconnect: BANKCONNECT_API_KEY is not set: set it to the key that "
        "FinBox gave you\n"
    )


def test_an_unknown_host_is_named(bankconnect, monkeypatch):
    """
    The message names a host that has no address.
    """
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
    monkeypatch.setenv(
        "BANKCONNECT_BASE_URL", "https://mistyped.invalid/bank-connect"
    )
    result = bankconnect("session", "a", "--inline-frame")

    assert result.code == 1
    assert "could not be looked up (mistyped.invalid:443)" in result.err


def test_a_port_without_a_server_is_named(
    bankconnect, monkeypatch, unused_tcp_port
):
    """
    The message names an address without a server.
    """
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
    address = f"127.0.0.1:{unused_tcp_port}"
    result = bankconnect(
        *("session", "a", "--inline-frame"),
        *("--base-url", f"http://{address}/bank-connect"),
    )

    assert f"({address}, Connection refused)" in result.err
    assert "check BANKCONNECT_BASE_URL" in result.err


@pytest.mark.parametrize("command", ["fetch", "wait"])
def test_a_wrong_server_hash_may_be_to_blame(
    bankconnect, service, monkeypatch, command
):
    """
    The message names both secrets if both were sent.
    """
    monkeypatch.setenv("BANKCONNECT_SERVER_HASH", "wrong")
    result = bankconnect(command, "f5057fee-4c3e-4459-82dd-21250b729601")

    assert result.code == 3
    assert result.err.endswith(
        "; check BANKCONNECT_SERVER_HASH and BANKCONNECT_API_KEY; bankconnect "
        "doctor tells which one is wrong\n"
    )


@pytest.mark.parametrize("sandbox_settings", [{"dialect": "entity"}])
def test_a_missing_server_hash_is_named(bankconnect, service, monkeypatch):
    """
    If no server hash is set, the message names that variable alone.
    """
    monkeypatch.delenv("BANKCONNECT_SERVER_HASH")
    result = bankconnect("fetch", "f5057fee-4c3e-4459-82dd-21250b729601")

    assert result.code == 3
    assert result.err.endswith("; set BANKCONNECT_SERVER_HASH\n")
    assert "BANKCONNECT_API_KEY" not in result.err


def test_a_mistyped_command_is_corrected(bankconnect):
    """
    The message suggests the most similar command.
    """
    result = bankconnect("sesion")

    assert result.code == 2
    assert "Did you mean 'session'?" in result.err


def test_a_session_is_refused_for_the_key_alone(
    bankconnect, service, monkeypatch
):
    """
    The message names the key alone, because session requests hold no server
    hash.
    """
    monkeypatch.setenv("BANKCONNECT_API_KEY", "wrong")
    result = bankconnect("session", "a", "--inline-frame")

    assert result.code == 3
    assert result.err.endswith("; check BANKCONNECT_API_KEY\n")


@pytest.mark.parametrize(
    ("param", "advice"),
    [
        ("bankname=axis", "write bank_name, or extra.bankname if you mean"),
        ("From-Date=01/01/2026", "write from_date, or extra.From-Date if"),
        ("loan=5", "loan: is unknown; send it as extra.loan"),
    ],
)
def test_a_mistyped_parameter_is_corrected(bankconnect, param, advice):
    """
    The message suggests the most similar documented name.
    """
    result = bankconnect("session", "a", "--sandbox", "--param", param)

    assert result.code == 2
    assert advice in result.err


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_locked_pdf_names_the_variable(
    bankconnect, service, monkeypatch, tmp_path, password
):
    """
    The message names the variable for the password of a PDF.
    """
    monkeypatch.setenv("BANKCONNECT_SERVER_HASH", service.server_hash)
    if password is not None:
        monkeypatch.setenv("BANKCONNECT_PDF_PASSWORD", password)
    path = tmp_path / "statement.pdf"
    path.write_bytes(statement_pdf("hdfc", "a", password="right"))
    result = bankconnect(
        "upload", path, "--link-id", "a", "--bank-name", "hdfc"
    )

    assert result.code == 1
    assert "; give the PDF's in BANKCONNECT_PDF_PASSWORD\n" in result.err


@pytest.mark.parametrize("version", ["v1", "v2", "v1/"])
def test_a_base_url_with_a_version_is_refused(
    bankconnect, monkeypatch, version
):
    """
    A base URL that ends in a version is refused.
    """
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
    result = bankconnect(
        *("session", "a", "--inline-frame"),
        *("--base-url", f"https://api.example/bank-connect/{version}"),
    )

    assert result.code == 2
    assert f"must not end in /{version.strip('/')}: the" in result.err


@pytest.mark.parametrize(
    "changed",
    [["--dialect", "session"], ["--redirect-url", "https://x.example/"]],
)
def test_a_refused_output_comes_without_a_summary(batch, changed):
    """
    A refused output prints one message and no summary.
    """
    batch(b"link_id\na\n", "--sandbox")
    ran = batch(b"link_id\na\n", "--sandbox", *changed)

    assert ran.result.code == 2
    assert len(ran.result.err.splitlines()) == 1
    assert "created" not in ran.result.err.partition(":")[0]
    assert "use --fresh" in ran.result.err or "--fresh to" in ran.result.err


@pytest.mark.parametrize(
    ("args", "advice"),
    [
        (
            ["--proxy", "http://lender:canary@p.example"],
            "--proxy takes no user and password: set BANKCONNECT_PROXY",
        ),
        (
            ["--proxy", "http://p.example", "--sandbox"],
            "--proxy and --sandbox exclude each other",
        ),
        (
            ["--proxy", "p.example:3128"],
            "--proxy or BANKCONNECT_PROXY: must be an absolute http",
        ),
    ],
)
def test_a_proxy_that_cannot_be_used(bankconnect, monkeypatch, args, advice):
    """
    The message says where the proxy goes, and shows no password.
    """
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
    result = bankconnect("session", "a", "--inline-frame", *args)

    assert result.code == 2
    assert advice in result.err
    assert "canary" not in result.err


def test_a_proxy_of_the_environment_is_named(
    bankconnect, monkeypatch, unused_tcp_port
):
    """
    An https API goes through HTTPS_PROXY, and a failure names the proxy and
    the variables to check.
    """
    place = f"127.0.0.1:{unused_tcp_port}"
    monkeypatch.setenv("BANKCONNECT_API_KEY", "key")
    monkeypatch.setenv("HTTPS_PROXY", f"http://{place}")
    result = bankconnect("session", "a", "--inline-frame", "--attempts", "1")

    assert result.code == 1
    assert f"the proxy could not be reached ({place}" in result.err
    assert "BANKCONNECT_PROXY" in result.err
