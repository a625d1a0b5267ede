"""
Endpoints of both flows other than ``session/``, over loopback.
"""

import re
import uuid

import pytest

from bankconnect_async.sandbox import Sandbox
from bankconnect_async.testing import FakeClock


KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}
UNKNOWN = str(uuid.UUID(int=0))

ENDPOINTS = [
    ("GET", f"entity/{UNKNOWN}/", "entity"),
    ("GET", "entity/webhook_payloads/", "entity"),
    ("POST", "entity/update_webhook/", "entity"),
    ("GET", f"session_data/{UNKNOWN}/session_upload_status/", "session"),
    ("DELETE", f"session_data/{UNKNOWN}/delete/", "session"),
    ("POST", "session_data/update_webhook/", "session"),
]
REFUSALS = {
    "entity": (401, "error.detail.401.json"),
    "session": (403, "error.session_data.access_denied.json"),
}


async def ask(http, sandbox, method, path, *, headers=BOTH, **kwargs):
    """
    Send one request, and return status and JSON.
    """
    url = f"{sandbox.base_url}/v1/{path}"
    async with http.request(method, url, headers=headers, **kwargs) as answer:
        return answer.status, await answer.json()


class TestSecrets:
    """
    Authentication.
    """

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({}, id="none"),
            pytest.param(KEY, id="no-hash"),
            pytest.param({**BOTH, "server-hash": "x"}, id="bad-hash"),
            pytest.param({**BOTH, "x-api-key": "x"}, id="bad-key"),
        ],
    )
    async def test_refused(self, http, sample_json, endpoint, headers):
        """
        Without both secrets each flow has its own error.
        """
        method, path, flow = endpoint
        status, sample = REFUSALS[flow]
        async with Sandbox("entity") as sandbox:
            answer = await ask(http, sandbox, method, path, headers=headers)

        assert answer == (status, sample_json(sample))

    async def test_seed_knows_no_hash(self, sandbox, http, create):
        """
        The seed requires the key alone, but refuses a wrong hash.
        """
        session = await create(sandbox)
        await sandbox.play(session.session_id, "success")
        path = f"entity/{next(iter(sandbox.entities))}/"

        status, _ = await ask(http, sandbox, "GET", path, headers=KEY)
        refused, _ = await ask(
            http, sandbox, "GET", path, headers={**KEY, "server-hash": "x"}
        )

        assert (status, refused) == (200, 401)

    async def test_hash_alone(self, sandbox, http):
        """
        Every dialect requires the key.
        """
        status, _ = await ask(
            http, sandbox, "GET", "entity/webhook_payloads/", headers={}
        )

        assert status == 401


class TestEntity:
    """
    `GET entity/<entity_id>/`.
    """

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    async def test_found(self, http, create, sample_json, dialect):
        """
        The entity of a success shows its link id.
        """
        async with Sandbox(dialect) as sandbox:
            session = await create(sandbox)
            played = await sandbox.play(session.session_id, "success")
            entity_id = played.messages[0]["payload"]["entityId"]
            answer = await ask(http, sandbox, "GET", f"entity/{entity_id}/")

        assert answer == (
            200,
            {
                **sample_json("entity.get.response.json"),
                "entity_id": entity_id,
            },
        )

    @pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
    async def test_unknown(self, http, create, dialect):
        """
        An unknown id is not found, nor is a session's.
        """
        async with Sandbox(dialect) as sandbox:
            session = await create(sandbox)
            await sandbox.play(session.session_id, "success")
            answers = [
                await ask(http, sandbox, "GET", f"entity/{id_}/")
                for id_ in (UNKNOWN, session.session_id)
            ]

        assert answers == [(404, {"detail": "Not found."})] * 2


class TestUploadStatus:
    """
    `GET session_data/<session_id>/session_upload_status/`.
    """

    @staticmethod
    async def status_of(http, sandbox, session):
        """
        Ask for the status of *session*.
        """
        path = f"session_data/{session.session_id}/session_upload_status/"
        return await ask(http, sandbox, "GET", path)

    async def test_no_uploads(self, http, create, sample_json):
        """
        A new session has no uploads and expires in an hour.
        """
        clock = FakeClock(epoch=1775026114.0)
        async with Sandbox("session", clock=clock) as sandbox:
            session = await create(
                sandbox, from_date="01/10/2025", to_date="31/03/2026"
            )
            answer = await self.status_of(http, sandbox, session)

        name = "session_data.session_upload_status.response.no_uploads.json"
        documented = sample_json(name)
        assert answer == (
            200,
            {
                **documented,
                "session_id": session.session_id,
                # The page's heading has a space, and its JSON none (U-20).
                "upload_status": "NO_UPLOAD",
            },
        )

    @pytest.mark.parametrize("mode", ["pdf", "online"])
    async def test_completed(self, http, create, sample_json, mode):
        """
        A success completes the session with one account.
        """
        async with Sandbox("session") as sandbox:
            session = await create(
                sandbox,
                from_date="01/10/2025",
                to_date="31/03/2026",
                bank_name="AXIS",
            )
            await sandbox.play(session.session_id, "success", mode=mode)
            status, body = await self.status_of(http, sandbox, session)

        documented = sample_json(
            "session_data.session_upload_status.response.json"
        )
        (account,) = body["accounts"]
        (statement,) = account["statements"]
        (sample,) = documented["accounts"]
        assert status == 200
        assert body.keys() == documented.keys()
        assert body["upload_status"] == "COMPLETED"
        assert account.keys() == sample.keys()
        assert statement.keys() == sample["statements"][0].keys()
        assert re.fullmatch(r"\d{12}", account["account_number"])
        assert account["full_bank_name"] == "Axis Bank"
        assert account["months"] == sample["months"]
        assert statement["source"] == mode

    @pytest.mark.parametrize(
        ("then", "word"), [(None, "EXPIRED"), ("success", "COMPLETED")]
    )
    async def test_expired(self, http, create, then, word):
        """
        A completed session does not expire.
        """
        clock = FakeClock()
        async with Sandbox("session", clock=clock) as sandbox:
            session = await create(sandbox)
            if then:
                await sandbox.play(session.session_id, then)
            clock.now += 3600
            _, body = await self.status_of(http, sandbox, session)

        assert body["upload_status"] == word

    async def test_unknown(self, sandbox, http, create, sample_json):
        """
        A session of the entity flow is not found.
        """
        session = await create(sandbox)

        assert await self.status_of(http, sandbox, session) == (
            404,
            sample_json("error.session_data.session_not_found.json"),
        )

    async def test_v2(self, sandbox, http, create):
        """
        A session of v2 is found in every dialect.
        """
        session = await create(sandbox, "v2")

        status, body = await self.status_of(http, sandbox, session)

        assert (status, body["upload_status"]) == (200, "NO_UPLOAD")

    async def test_deleted(self, sandbox, http, create, sample_json):
        """
        A deleted session is gone, also in the browser.
        """
        session = await create(sandbox, "v2")
        path = f"session_data/{session.session_id}/delete/"
        deleted = sample_json("error.session_data.session_deleted.json")

        first = await ask(http, sandbox, "DELETE", path)
        second = await ask(http, sandbox, "DELETE", path)
        page = await http.get(session.redirect_url)

        assert first == (200, {"message": "success"})
        assert second == (410, deleted)
        assert await self.status_of(http, sandbox, session) == (410, deleted)
        assert page.status == 404
