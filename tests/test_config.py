"""
The settings of a client are checked at once, and errors name the bad one.
"""

import ssl

import pytest
import trustme

from yarl import URL

from bankconnect_async import (
    CURRENT_BASE_URL,
    DEFAULT_BASE_URL,
    TLS,
    AsyncBankConnect,
    ConfigurationError,
    Pool,
    Timeouts,
)
from bankconnect_async.config import (
    Secret,
    Service,
    parse_proxy,
    read_environment,
    secret,
)


def test_defaults_are_the_documented_addresses():
    """
    The seed document's host is the default, and today's host has a name.
    """
    service = Service.parse(DEFAULT_BASE_URL, version="v1", allow_http=False)

    assert str(service.session_url()) == (
        "https://portal.finbox.in/bank-connect/v1/session/"
    )
    assert CURRENT_BASE_URL == (
        "https://apis.bankconnect.finbox.in/bank-connect"
    )


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.example/bank-connect",
        "https://api.example/bank-connect/",
        URL("https://api.example/bank-connect"),
        "http://127.0.0.1:8600/bank-connect",
        "http://localhost/bank-connect",
        "http://[::1]:8600/bank-connect",
    ],
)
def test_takes_https_and_loopback(base_url):
    """
    Plain http is accepted on loopback.
    """
    service = Service.parse(base_url, version="v2", allow_http=False)

    assert service.session_url().path == "/bank-connect/v2/session/"


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("http://api.example/bank-connect", "plain http"),
        ("http://127.0.0.1.example/", "plain http"),
        ("api.example", "absolute https URL"),
        ("", "absolute https URL"),
        ("ftp://api.example", "absolute https URL"),
        ("https://", "absolute https URL|not a URL"),
        ("https://user:pw@api.example/", "must not hold a user"),
        ("https://api.example/?a=b", "must not hold"),
        ("https://api.example/#a", "must not hold"),
        ("https://api.example:port/", "not a URL"),
        ("https://[::g]/", "absolute https URL|not a URL"),
        ("https://a..b/", "absolute https URL"),
        ("https://.example.com/", "absolute https URL"),
        (f"https://{'a' * 64}.example/", "absolute https URL"),
        ("https://[]@/", "not a URL|absolute https URL"),
        (None, "absolute https URL"),
    ],
)
def test_refuses_other_addresses(base_url, words):
    """
    The error for a bad base URL says what to do and hides its password.
    """
    with pytest.raises(ConfigurationError, match=words) as caught:
        Service.parse(base_url, version="v1", allow_http=False)

    assert list(caught.value.fields) == ["base_url"]
    assert "pw" not in str(caught.value)


def test_plain_http_can_be_allowed():
    """
    A sandbox in another container needs an explicit permission.
    """
    service = Service.parse(
        "http://sandbox:8600/bank-connect", version="v1", allow_http=True
    )

    assert service.base_url.host == "sandbox"


@pytest.mark.parametrize("version", ["", "1", "v", "v1/../v2", None, 1])
def test_refuses_other_versions(version):
    """
    The version is one path segment.
    """
    with pytest.raises(ConfigurationError) as caught:
        Service.parse(DEFAULT_BASE_URL, version=version, allow_http=False)

    assert list(caught.value.fields) == ["version"]


@pytest.mark.parametrize(
    "value", ["", " ", None, 7, "a\nb", "ключ", " padded ", "tab\t"]
)
def test_secrets_must_fit_into_a_header(value):
    """
    A key that would break the header is refused without being shown.
    """
    with pytest.raises(ConfigurationError) as caught:
        secret("api_key", value)

    assert list(caught.value.fields) == ["api_key"]
    assert "ключ" not in str(caught.value)


def test_secrets_hide_in_reprs():
    """
    A secret compares as its text, and its repr is stars.
    """
    hidden = secret("api_key", "canary-key")

    assert hidden == "canary-key"
    assert repr(hidden) == "'***'"
    assert "canary" not in repr({"key": Secret("canary-key")})
    # Printers cut long texts before they ask for the repr.
    assert "canary" not in repr(Secret("canary-key" * 20)[:80])


@pytest.mark.parametrize(
    ("proxy", "address", "credentials"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128", None),
        (URL("https://proxy.example"), "https://proxy.example", None),
        (
            "http://user:p%40ss@127.0.0.1:1/",
            "http://127.0.0.1:1",
            "Basic dXNlcjpwQHNz",
        ),
        ("http://user@127.0.0.1:1", "http://127.0.0.1:1", "Basic dXNlcjo="),
    ],
)
def test_a_proxy_s_credentials_are_split_off(proxy, address, credentials):
    """
    The proxy address in errors has no password.
    """
    url, found = parse_proxy(proxy)

    assert str(url) == address
    assert found == credentials


@pytest.mark.parametrize(
    "proxy",
    ["", "proxy", "socks5://127.0.0.1", "http://a..b:1", "http://[::g]:1", 7],
)
def test_refuses_other_proxies(proxy):
    """
    A proxy that cannot work is refused where the client is made.
    """
    with pytest.raises(ConfigurationError) as caught:
        parse_proxy(proxy)

    assert list(caught.value.fields) == ["proxy"]


def test_blank_variables_count_as_missing():
    """
    A blank environment variable counts as unset.
    """
    assert read_environment(
        {"A": "1", "B": "  ", "C": " 3 "}, {"a": "A", "b": "B", "c": "C"}
    ) == {"a": "1", "c": "3"}


def test_secrets_of_the_environment_are_hidden_at_once():
    """
    A secret from the environment shows in no repr.
    """
    found = read_environment({"A": "canary"}, {"api_key": "A"})

    assert found == {"api_key": "canary"}
    assert "canary" not in repr(found)


@pytest.mark.parametrize("value", [0, -1, True, "5", None, float("inf")])
@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (Timeouts, "connect"),
        (Timeouts, "read"),
        (Timeouts, "pool"),
        (Pool, "keepalive"),
        (Pool, "limit"),
        (Pool, "max_age"),
    ],
)
def test_limits_are_above_zero(cls, name, value):
    """
    A limit of zero or less is refused.
    """
    with pytest.raises(ConfigurationError) as caught:
        cls(**{name: value})

    assert list(caught.value.fields) == [name]


class TestTLS:
    """
    The TLS settings.
    """

    def test_a_private_ca_is_added_to_the_system_s(self, tmp_path):
        """
        The system's certificates stay trusted, and TLS 1.2 is the minimum.
        """
        ca_file = tmp_path / "ca.pem"
        trustme.CA().cert_pem.write_to_path(str(ca_file))
        system = len(ssl.create_default_context().get_ca_certs())

        context = TLS(ca_file=ca_file).build_context()

        assert len(context.get_ca_certs()) == system + 1
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname

    def test_names_the_file_that_cannot_be_used(self, tmp_path):
        """
        The error for a missing or broken file has the setting's name and the
        path.
        """
        broken = tmp_path / "broken.pem"
        broken.write_text("no certificate")
        for name, file in [
            ("ca_file", tmp_path / "missing.pem"),
            ("ca_file", broken),
            ("cert_file", tmp_path / "missing.pem"),
            ("cert_file", broken),
        ]:
            with pytest.raises(ConfigurationError) as caught:
                TLS(**{name: file}).build_context()
            assert list(caught.value.fields) == [name]
            assert str(file) in str(caught.value)

    def test_the_key_s_password_is_hidden(self):
        """
        The repr hides the password.
        """
        assert "canary" not in repr(TLS(key_password="canary"))

    @pytest.mark.parametrize("tls", [False, "ca.pem"])
    def test_nothing_else(self, tls):
        """
        Anything else is refused, so verification cannot be switched off.
        """
        with pytest.raises(ConfigurationError, match="SSLContext") as e:
            AsyncBankConnect("key", tls=tls)

        assert list(e.value.fields) == ["tls"]
