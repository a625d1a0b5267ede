"""
Webhooks of the sandbox, posted to a receiver on loopback.
"""

import datetime
import re
import socket

import pytest

from bankconnect_async._codec.event_keys import event_key
from bankconnect_async._codec.webhooks import decode_webhook
from bankconnect_async.sandbox import Sandbox, SentWebhook
from bankconnect_async.testing import FakeClock


HEADERS = {
    "x-api-key": "sandbox-api-key",
    "server-hash": "sandbox-server-hash",
}
COMPLETED = "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION"
EXPIRED = "SESSION_EXPIRY_NOTIFICATION"


async def update(http, sandbox, family, **body):
    """
    Set the endpoint, and return status and JSON.
    """
    url = f"{sandbox.base_url}/v1/{family}/update_webhook/"
    async with http.post(url, json=body, headers=HEADERS) as answer:
        return answer.status, await answer.json()


async def payloads(http, sandbox, **query):
    """
    Ask for missed webhooks, and return status and JSON.
    """
    url = f"{sandbox.base_url}/v1/entity/webhook_payloads/"
    async with http.get(url, params=query, headers=HEADERS) as answer:
        return answer.status, await answer.json()


class TestEntityFlow:
    """
    One webhook per statement.
    """

    @pytest.fixture(name="told")
    async def _told(self, create, receiver):
        """Do one step, and return what was posted, and the entity's id."""

        async def told(action, **details):
            async with Sandbox(webhook_url=receiver.url) as sandbox:
                session = await create(sandbox)
                await sandbox.play(session.session_id, action, **details)
                await sandbox.webhooks_sent()
                (entity_id,) = sandbox.entities
            (body,) = receiver.bodies
            return body, entity_id

        return told

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    async def test_completed(self, create, receiver, sample_json, dialect):
        """
        The webhook of a success has the entity's id that the browser got.
        """
        async with Sandbox(dialect, webhook_url=receiver.url) as sandbox:
            session = await create(sandbox)
            await sandbox.play(session.session_id, "success")
            (sent,) = await sandbox.webhooks_sent()
            (entity_id,) = sandbox.entities

        (body,) = receiver.bodies
        assert body == {
            **sample_json("webhook.entity.completed.json"),
            "entity_id": entity_id,
            "statement_id": body["statement_id"],
        }
        assert body["statement_id"]
        assert receiver.headers[0]["Content-Type"] == "application/json"
        assert sent == SentWebhook(url=receiver.url, body=body, status=200)

    @pytest.mark.parametrize(
        ("error_type", "sample", "reason"),
        [
            ("MU003", "failed", "Password Incorrect"),
            ("MU006", "failed", "PDF is not parsable"),
            (
                "NB003",
                "failed.netbanking_no_statement",
                "Net banking login failed",
            ),
        ],
    )
    async def test_failed(self, told, sample_json, error_type, sample, reason):
        """
        The webhook of a failure has its reason; a login has no statement.
        """
        documented = sample_json(f"webhook.entity.{sample}.json")

        body, entity_id = await told("failure", error_type=error_type)

        assert bool(body["statement_id"]) is bool(documented["statement_id"])
        assert body == {
            **documented,
            "entity_id": entity_id,
            "statement_id": body["statement_id"],
            "reason": reason,
        }

    @pytest.mark.parametrize("action", ["exit", "manual", "bank_selected"])
    async def test_silent(self, sandbox, create, action):
        """
        Exits and steps in between send no webhook.
        """
        session = await create(sandbox)
        await sandbox.play(session.session_id, action, bank="HDFC")

        assert await sandbox.webhooks_sent() == ()

    async def test_order(self, create, receiver):
        """
        Webhooks arrive in the order in which they were due.
        """
        async with Sandbox(webhook_url=receiver.url) as sandbox:
            session = await create(sandbox)
            for action in ("failure", "failure", "success"):
                await sandbox.play(session.session_id, action)
            await sandbox.webhooks_sent()

        assert [body["progress"] for body in receiver.bodies] == [
            "failed",
            "failed",
            "completed",
        ]

    @pytest.mark.parametrize(
        ("mode", "told"),
        [
            pytest.param({}, ["online"], id="left-out"),
            pytest.param({"webhook_mode": 0}, ["online"], id="0"),
            pytest.param({"webhook_mode": 1}, ["pdf", "online"], id="1"),
            pytest.param({"webhook_mode": "1"}, ["pdf", "online"], id="text"),
        ],
    )
    async def test_mode(self, http, create, receiver, mode, told):
        """
        Manual uploads send webhooks in mode 1 only; 0 is the default.
        """
        url = receiver.url
        async with Sandbox("entity") as sandbox:
            # That this is 1 now is not remembered.
            await update(
                http, sandbox, "entity", webhook_url=url, webhook_mode=1
            )
            answer = await update(
                http, sandbox, "entity", webhook_url=url, **mode
            )
            for played in ("pdf", "online"):
                session = await create(sandbox, link_id=played)
                await sandbox.play(session.session_id, "success", mode=played)
            await sandbox.webhooks_sent()

        assert answer == (200, {"message": "success"})
        assert [body["link_id"] for body in receiver.bodies] == told

    @pytest.mark.parametrize(
        ("body", "problems"),
        [
            ({}, {"webhook_url": ["This field is required."]}),
            (
                {"webhook_url": "hooks", "webhook_mode": 2},
                {
                    "webhook_url": ["Enter a valid URL."],
                    "webhook_mode": ['"2" is not a valid choice.'],
                },
            ),
            (
                {"webhook_url": "https://a.example", "webhook_mode": [1]},
                {"webhook_mode": ["A valid integer is required."]},
            ),
        ],
    )
    async def test_bad_update(self, sandbox, http, body, problems):
        """
        A bad update is refused field by field.
        """
        answer = await update(http, sandbox, "entity", **body)

        assert answer == (400, problems)


class TestPayloads:
    """
    Recovery of missed webhooks.
    """

    async def test_as_documented(self, http, create, sample_json):
        """
        All webhooks of a link id return, newest first, even undelivered.
        """
        documented = sample_json("webhook.payloads.response.entity.json")
        clock = FakeClock(epoch=1775026114.0)
        async with Sandbox("entity", clock=clock) as sandbox:
            session = await create(sandbox)
            other = await create(sandbox, link_id="other")
            await sandbox.play(
                session.session_id, "failure", error_type="NB003"
            )
            clock.now += 60
            await sandbox.play(session.session_id, "success")
            await sandbox.play(other.session_id, "success")
            status, body = await payloads(
                http, sandbox, link_id="cust-7f31-0042"
            )

        assert status == 200
        assert body.keys() == documented.keys()
        assert [entry.keys() for entry in body["payloads"]] == [
            entry.keys() for entry in documented["payloads"]
        ]
        assert [
            (entry["progress"], entry["date_time"])
            for entry in body["payloads"]
        ] == [
            ("completed", "2026-04-01 06:49:34"),
            ("failed", "2026-04-01 06:48:34"),
        ]

    async def test_same_as_posted(self, sandbox, http, create, receiver):
        """
        A recovered webhook equals the one that was sent.
        """
        await update(
            http, sandbox, "entity", webhook_url=receiver.url, webhook_mode=1
        )
        session = await create(sandbox)
        await sandbox.play(session.session_id, "success")
        await sandbox.webhooks_sent()
        _, body = await payloads(http, sandbox, link_id="cust-7f31-0042")

        (posted,) = map(decode_webhook, receiver.bodies)
        (recovered,) = map(decode_webhook, body["payloads"])
        assert event_key(recovered) == event_key(posted)
        assert isinstance(recovered.date_time, datetime.datetime)

    async def test_nothing(self, sandbox, http):
        """
        A link id without webhooks has an empty list.
        """
        answer = await payloads(http, sandbox, link_id="nobody")

        assert answer == (200, {"payloads": []})

    async def test_whose(self, sandbox, http):
        """
        The link id is required.
        """
        answer = await payloads(http, sandbox)

        assert answer == (400, {"link_id": ["This field is required."]})


class TestSessionFlow:
    """
    Webhooks that name their event.
    """

    async def test_completed(self, create, receiver, sample_json):
        """
        The webhook of a success masks the account number.
        """
        async with Sandbox("session", webhook_url=receiver.url) as sandbox:
            session = await create(
                sandbox,
                from_date="01/10/2025",
                to_date="31/03/2026",
                bank_name="AXIS",
            )
            await sandbox.play(session.session_id, "success")
            await sandbox.webhooks_sent()

        (body,) = receiver.bodies
        documented = sample_json("webhook.session.requirement_completion.json")
        (account,) = body["accounts"]
        (sample,) = documented["accounts"]
        assert body == {
            **documented,
            "session_id": session.session_id,
            "accounts": body["accounts"],
        }
        assert account.keys() == sample.keys()
        assert (
            account["statements"][0].keys() == sample["statements"][0].keys()
        )
        assert re.fullmatch(r"X{12}\d{4}", account["account_number"])
        assert account["months"] == sample["months"]

    @pytest.mark.parametrize("times", [1, 3])
    async def test_expired(self, http, create, receiver, sample_json, times):
        """
        An expiry sends one webhook, when it is noticed.
        """
        clock = FakeClock()
        async with Sandbox(
            "session", webhook_url=receiver.url, clock=clock
        ) as sandbox:
            session = await create(sandbox)
            clock.now += 3600
            for _ in range(times):
                await http.get(session.redirect_url)
            await sandbox.webhooks_sent()

        (body,) = receiver.bodies
        documented = sample_json("webhook.session.expiry.json")
        assert body.keys() == documented.keys()
        assert body["event_name"] == EXPIRED
        assert body["message"] == documented["message"]
        assert body["accounts"] == []

    @pytest.mark.parametrize(
        ("dialect", "then", "names"),
        [
            ("session", None, [EXPIRED]),
            ("session", "success", [COMPLETED]),
            ("entity", None, []),
        ],
    )
    async def test_expire(self, create, receiver, dialect, then, names):
        """
        `expire` sends a webhook about an open session of the session flow.
        """
        async with Sandbox(dialect, webhook_url=receiver.url) as sandbox:
            session = await create(sandbox)
            if then:
                await sandbox.play(session.session_id, then)
            sandbox.expire(session.session_id)
            await sandbox.webhooks_sent()

        assert [body["event_name"] for body in receiver.bodies] == names

    @pytest.mark.parametrize(
        ("mode", "names"),
        [
            pytest.param({}, [COMPLETED, EXPIRED], id="left-out"),
            pytest.param({"webhook_mode": 1}, [COMPLETED, EXPIRED], id="1"),
            pytest.param({"webhook_mode": 3}, [COMPLETED, EXPIRED], id="3"),
            pytest.param({"webhook_mode": [EXPIRED]}, [EXPIRED], id="list"),
        ],
    )
    async def test_mode(self, http, create, receiver, mode, names):
        """
        Only a list of event names limits the webhooks.
        """
        async with Sandbox("session") as sandbox:
            answer = await update(
                http, sandbox, "session_data", webhook_url=receiver.url, **mode
            )
            done, late = [await create(sandbox) for _ in range(2)]
            await sandbox.play(done.session_id, "success")
            sandbox.expire(late.session_id)
            await sandbox.webhooks_sent()

        assert answer == (200, {"message": "success"})
        assert [body["event_name"] for body in receiver.bodies] == names

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({}, "INVALID_REQUEST"),
            ({"webhook_url": "hooks"}, "INVALID_URL"),
            (
                {"webhook_url": "https://a.example", "webhook_mode": "all"},
                "INVALID_REQUEST",
            ),
            (
                {"webhook_url": "https://a.example", "webhook_mode": [1]},
                "INVALID_REQUEST",
            ),
        ],
    )
    async def test_bad_update(self, sandbox, http, body, code):
        """
        A bad update is refused with a code.
        """
        status, answer = await update(http, sandbox, "session_data", **body)

        assert (status, answer["error"]["code"]) == (400, code)


class TestDelivery:
    """
    Delivery of webhooks.
    """

    async def test_secret(self, create, receiver):
        """
        Every webhook has the shared secret.
        """
        async with Sandbox(
            webhook_url=receiver.url, webhook_secret="hush"
        ) as sandbox:
            session = await create(sandbox)
            await sandbox.play(session.session_id, "success")
            await sandbox.webhooks_sent()

        assert receiver.headers[0]["x-secret-key"] == "hush"

    async def test_no_secret(self, create, receiver):
        """
        Without a secret there is no such header.
        """
        async with Sandbox(webhook_url=receiver.url) as sandbox:
            session = await create(sandbox)
            await sandbox.play(session.session_id, "success")
            await sandbox.webhooks_sent()

        assert "x-secret-key" not in receiver.headers[0]

    @pytest.mark.parametrize("status", [302, 500])
    async def test_refused(self, create, receiver, status):
        """
        A refused webhook is recorded; a redirect is not followed.
        """
        receiver.status = status
        async with Sandbox(webhook_url=receiver.url) as sandbox:
            session = await create(sandbox)
            await sandbox.play(session.session_id, "success")
            (sent,) = await sandbox.webhooks_sent()

        assert (sent.status, sent.problem) == (status, None)
        assert len(receiver.bodies) == 1

    async def test_nobody_there(self, create):
        """
        An unreachable receiver does not stop the journey.
        """
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{reserved.getsockname()[1]}/"
            async with Sandbox(webhook_url=url) as sandbox:
                session = await create(sandbox)
                played = await sandbox.play(session.session_id, "success")
                (sent,) = await sandbox.webhooks_sent()

        assert played.messages
        assert sent.status is None
        assert sent.problem == "ClientConnectorError"

    @pytest.mark.parametrize(
        ("url", "allow", "problem"),
        [
            ("https://lender.invalid/", False, "leads to another machine"),
            ("http://127.0.0.1.lender.invalid/", False, "leads to another"),
            ("http://lender.invalid:99999/", False, "ValueError"),
            # Earlier versions of aiohttp ask for the name's address.
            ("http://256.1:1/", True, ("InvalidUrl", "ClientConnectorError")),
        ],
    )
    async def test_elsewhere(self, http, create, url, allow, problem):
        """
        Webhooks to other machines are sent only if allowed.
        """
        async with Sandbox(allow_remote_webhooks=allow) as sandbox:
            status, _ = await update(
                http, sandbox, "entity", webhook_url=url, webhook_mode=1
            )
            session = await create(sandbox)
            await sandbox.play(session.session_id, "success")
            (sent,) = await sandbox.webhooks_sent()

        assert status == 200
        assert sent.problem.startswith(problem)
        assert "lender" not in repr(sent)

    async def test_closing_gives_up(self, create):
        """
        A receiver that never responds does not delay `aclose`.
        """
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
            async with Sandbox(webhook_url=url) as sandbox:
                session = await create(sandbox)
                for action in ("failure", "success"):
                    await sandbox.play(session.session_id, action)

            assert await sandbox.webhooks_sent() == ()
