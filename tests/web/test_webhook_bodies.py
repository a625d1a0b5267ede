"""
`parse_webhook` decodes and verifies what the vendor posts.
"""

import json

import pytest

from yarl import URL

from bankconnect_async.models.webhooks import ExtractionWebhook, UnknownWebhook
from bankconnect_async.web import MAX_WEBHOOK, Notification


SECRET = "correct horse battery staple long enough"
EXTRACTED = {
    "entity_id": "e-1",
    "statement_id": "st-1",
    "link_id": "customer-42",
    "progress": "completed",
    "reason": "",
}


class TestReadWebhook:
    """
    `parse_webhook` accepts requests to the unguessable URL.
    """

    @pytest.fixture(name="webhook_call")
    def _webhook_call(self, ours, json_call):
        """Make a request to the webhook URL."""
        path = URL(ours.webhook_url).raw_path

        def make(body=b'{"progress": "completed"}', **headers):
            return json_call(
                body, **{"path": path, "Origin": "none", **headers}
            )

        return make

    def test_webhook(self, ours, webhook_call):
        """
        A body of the vendor is decoded without any browser header.
        """
        body = json.dumps(EXTRACTED).encode()

        assert ours.parse_webhook(webhook_call(body)) == Notification(
            webhook=ExtractionWebhook(
                entity_id="e-1",
                statement_id="st-1",
                link_id="customer-42",
                progress="completed",
                reason=None,
            )
        )

    @pytest.mark.parametrize(
        "path",
        [
            "/bank/webhook/",
            "/bank/webhook/guess",
            "/bank/webhook/" + "0" * 40,
            "/webhook/{name}",
            "/bank/webhook/{name}/",
            "/bank/webhook/{name}\udcff",
        ],
    )
    def test_guessed(self, ours, webhook_call, path):
        """
        Any other URL is a 404.
        """
        name = ours.webhook_url.rpartition("/")[2]
        call = webhook_call(path=path.format(name=name))

        assert ours.parse_webhook(call).status == 404

    def test_url_is_a_secret(self, ours, protocol):
        """
        The URL depends on the secret, and no repr shows it.
        """
        name = ours.webhook_url.rpartition("/")[2]

        assert len(name) == 40
        assert protocol().webhook_url == ours.webhook_url
        assert protocol(secret="y" * 32).webhook_url != ours.webhook_url
        assert name not in repr(ours)

    def test_rotation(self, protocol, ours, webhook_call):
        """
        The URL of an older secret works until that secret is removed.
        """
        rotated = protocol(secret=["z" * 32, SECRET])

        assert isinstance(rotated.parse_webhook(webhook_call()), Notification)
        assert rotated.webhook_url == protocol(secret="z" * 32).webhook_url
        assert (
            protocol(secret="z" * 32).parse_webhook(webhook_call()).status
            == 404
        )

    @pytest.mark.parametrize(
        ("required", "given", "status"),
        [
            (True, "tell nobody", None),
            (True, "tell everybody", 403),
            (True, "", 403),
            (True, "\udcff", 403),
            (True, None, 403),
            (False, "tell nobody", None),
            (False, "tell everybody", 403),
            (False, None, None),
        ],
    )
    def test_secret(self, protocol, webhook_call, required, given, status):
        """
        A wrong secret header is refused, and so is a missing one if it is
        required.
        """
        ours = protocol(
            webhook_secret="tell nobody", require_webhook_secret=required
        )
        headers = {} if given is None else {"X_Secret_Key": given}
        read = ours.parse_webhook(webhook_call(**headers))

        assert getattr(read, "status", None) == status

    def test_unasked_secret(self, ours, webhook_call):
        """
        A secret header is ignored if none is configured.
        """
        read = ours.parse_webhook(webhook_call(X_Secret_Key="whatever"))

        assert isinstance(read, Notification)

    @pytest.mark.parametrize(
        ("body", "headers", "status"),
        [
            (b"", {}, 400),
            (b"[]", {}, 400),
            (b"nonsense", {}, 400),
            (b"{}", {"Content_Type": "text/plain"}, 415),
            (b"{}", {"Content_Encoding": "br"}, 415),
            (b"{" + b" " * MAX_WEBHOOK, {}, 413),
        ],
    )
    def test_malformed(self, ours, webhook_call, body, headers, status):
        """
        Only a JSON object of a bounded size is accepted.
        """
        reply = ours.parse_webhook(webhook_call(body, **headers))

        assert reply.status == status

    def test_not_understood(self, ours, webhook_call):
        """
        An object of an unknown shape is kept, with the reason.
        """
        read = ours.parse_webhook(webhook_call(b'{"event_name": ["x"]}'))

        assert isinstance(read.webhook, UnknownWebhook)
        assert read.webhook.raw == {"event_name": ["x"]}
        assert "event_name" in str(read.error)
