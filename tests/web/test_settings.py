"""
The settings of the protocol, and their repr.
"""

import datetime

import pytest

from bankconnect_async.errors import ConfigurationError
from bankconnect_async.web import CallbackProtocol, WebRequest, WebResponse


class TestSettings:
    """
    Settings that cannot work are refused, and secrets are hidden.
    """

    @pytest.mark.parametrize(
        ("field", "settings"),
        [
            ("base", {"base": "lender.example/bank"}),
            ("base", {"base": "https://lender.example/bank?x=1"}),
            ("base", {"base": "https://u:p@lender.example/bank"}),
            ("secret", {"secret": "short"}),
            ("secret", {"secret": []}),
            ("max_age", {"max_age": datetime.timedelta(0)}),
            ("next_url", {"next_url": "//evil.example"}),
            ("next_url", {"next_url": "/\\evil.example"}),
            ("next_url", {"next_url": "javascript:alert(1)"}),
            ("next_url", {"next_url": "https:///path"}),
            ("next_url", {"next_url": "/a\r\nSet-Cookie: x"}),
            ("next_url", {"next_url": ""}),
        ],
    )
    def test_refused(self, protocol, field, settings):
        """
        The error names the bad setting.
        """
        with pytest.raises(ConfigurationError) as caught:
            protocol(**settings)

        assert list(caught.value.fields) == [field]

    @pytest.mark.parametrize("bad", [{"max_age": None}, {"next_url": ""}])
    def test_traceback_shows_no_secret(self, bad):
        """
        No frame of the package has a secret among its locals.
        """
        with pytest.raises(ConfigurationError) as caught:
            CallbackProtocol(
                "https://lender.example",
                secret="hunter2" * 5,
                webhook_secret="hunter2",
                **bad,
            )
        frame, shown = caught.value.__traceback__.tb_next, []
        while frame is not None:
            # One that is not made yet cannot be shown at all.
            local = dict(frame.tb_frame.f_locals)
            shown += [repr(local[name]) for name in local.keys() - {"self"}]
            frame = frame.tb_next

        assert shown
        assert "hunter2" not in "".join(shown)

    def test_repr_shows_no_secret(self, protocol):
        """
        The repr of the protocol shows no secret.
        """
        ours = protocol(secret="hunter2" * 5, webhook_secret="hunter2")

        assert "hunter2" not in repr(ours)

    @pytest.mark.parametrize(
        "url", ["/", "/next?a=b#c", "https://lender.example", "/ü"]
    )
    def test_good_continue_to(self, protocol, url):
        """
        `next_url` may be a path or a web address.
        """
        assert protocol(next_url=url).next_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            ("X-Next", f"/s3cret{each}")
            for each in ("\r", "\n", "\0", "\v", "\x7f", "\ud800", " ", "\t")
        ],
        *[(name, "s3cret") for name in ("X-Next:", "X\r\nNext", "")],
    ],
)
def test_headers_that_cannot_be_sent(name, value):
    """
    A header that would end early or cannot be encoded is refused by its name.
    """
    with pytest.raises(ValueError, match="headers: ") as caught:
        WebResponse(status=303, headers={name: value})

    assert name[-4:] in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_repr_of_a_call_is_discreet():
    """
    The repr of a request shows neither cookie nor body nor path.
    """
    call = WebRequest(
        path="/s3cret", headers={"Cookie": "s3cret"}, body=b"s3cret"
    )
    reply = WebResponse(
        status=200, headers={"Set-Cookie": "s3cret"}, body=b"s3cret"
    )

    assert "s3cret" not in repr(call)
    assert "s3cret" not in repr(reply)
