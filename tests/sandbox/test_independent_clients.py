"""
Clients that share no code with the package, against each dialect.

`PlainClient` is written from the contract alone, with the standard library.
"""

import asyncio
import base64
import json
import time

from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest

from bankconnect_async.sandbox import Sandbox, statement_pdf


LINK_ID = "cust-7f31-0042"
FIXTURES = Path(__file__).parent.parent / "fixtures"
SESSION_REQUESTS = sorted(FIXTURES.glob("session.request.*.json"))
DIALECTS = {
    "seed": ("seed", "v1"),
    "v1.entity": ("entity", "v1"),
    "v1.session": ("session", "v1"),
    "v2": ("seed", "v2"),
}
# Parameters that others need, as the contract documents.
NEEDED_BY = {
    "bank_name": ("mode", "aa_journey_mode"),
    "mode": ("aa_journey_mode",),
    "aa_recurring_frequency_unit": ("aa_journey_mode",),
    "aa_recurring_frequency_value": ("aa_journey_mode",),
    "from_date": ("to_date",),
    "to_date": ("from_date",),
}
UPLOAD_PATHS = {
    "entity.request.file": "upload",
    "entity.request.file_url": "upload",
    "entity.request.base64": "upload_base64",
    "entity.request.bankless": "bankless_upload",
    "session.request.file": "upload_session",
    "session.request.file_url": "upload_session",
    "session.request.base64": "upload_session",
}
REQUIRED = {"file", "file_url", "bank_name", "session_id", "upload_type"}


class PlainClient:
    """
    A client as somebody writes it who has read the contract.
    """

    def __init__(self, base_url, key, server_hash):
        self.base = urlsplit(base_url)
        self.key = key
        self.headers = {"x-api-key": key, "server-hash": server_hash}

    def call(self, method, path, *, form=None, body=None, headers=None):
        """Send a request, follow a redirect, and return status and body."""
        headers, data = dict(self.headers if headers is None else headers), b""
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(form).encode()
        elif body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        connection = HTTPConnection(self.base.netloc, timeout=30)
        try:
            path = path if path.startswith("/") else self.url(path)
            connection.request(method, path, data or None, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status == 301:
            # As libraries do it, whatever the method was.
            return self.call("GET", response.headers["Location"])
        return response.status, json.loads(content)

    def url(self, path):
        """Return the path of an endpoint on the server."""
        return f"{self.base.path}/{path}"

    def create_session(self, version="v1", **parameters):
        """Create a session, and return its id and its URL."""
        body = {"link_id": LINK_ID, "api_key": self.key, **parameters}
        path = f"{version}/session/"
        status, made = self.call("POST", path, body=body, headers={})
        assert status == 200, made
        query = parse_qs(urlsplit(made["redirect_url"]).query)
        (in_url,) = query["session_id"]
        return made.get("session_id", in_url), made["redirect_url"]

    def poll(self, path, is_done):
        """Ask until it is done, and return the last body."""
        for _ in range(500):
            status, body = self.call("GET", path)
            assert status == 200, body
            if is_done(body):
                return body
            time.sleep(0.02)
        raise TimeoutError(path)

    def control(self, name, **arguments):
        """Call a control endpoint of the sandbox."""
        status, body = self.call("POST", f"/sandbox/{name}", body=arguments)
        assert status == 200, body
        return body


def use(sandbox, work):
    """Let a client work in a thread, as a synchronous program does."""
    client = PlainClient(
        sandbox.base_url, sandbox.api_key, sandbox.server_hash
    )
    return asyncio.to_thread(work, client)


def is_extracted(body):
    """Tell whether every statement of an entity is processed."""
    return all(each["status"] == "completed" for each in body["progress"])


class TestPlainClient:
    """
    The whole way, from a session to its data.
    """

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    @pytest.mark.parametrize("slash", ["/", ""], ids=["slash", "no slash"])
    async def test_entity_flow(self, dialect, slash):
        """
        The redirect names the entity, whose transactions come after polling.
        """

        def work(client):
            session_id, _ = client.create_session(
                redirect_url="https://lender.example/return"
            )
            played = client.control(
                "play", session_id=session_id, action="success"
            )
            query = parse_qs(urlsplit(played["redirect"]).query)
            (entity_id,) = query["entity_id"]
            path = f"v1/entity/{entity_id}"
            body = client.poll(f"{path}/transactions{slash}", is_extracted)
            _, entity = client.call("GET", f"{path}{slash}")
            _, hooks = client.call(
                "GET", f"v1/entity/webhook_payloads{slash}?link_id={LINK_ID}"
            )
            return query, entity, body["transactions"], hooks["payloads"]

        async with Sandbox(dialect, processing_time=0) as sandbox:
            query, entity, rows, (payload,) = await use(sandbox, work)

        assert query["success"] == ["true"]
        assert entity["link_id"] == LINK_ID
        assert payload["entity_id"] == entity["entity_id"]
        assert len(rows) > 10

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    @pytest.mark.parametrize("link_id", [LINK_ID, None])
    async def test_uploads(self, dialect, link_id):
        """
        A statement is uploaded as Base64, with and without a link id.
        """
        file = base64.b64encode(statement_pdf("axis", LINK_ID)).decode()

        def work(client):
            status, body = client.call(
                "POST",
                "v1/statement/bankless_upload_base64/",
                form={"file": file}
                | ({"link_id": link_id} if link_id else {}),
                headers={"x-api-key": client.key},
            )
            assert status == 200, body
            path = f"v1/entity/{body['entity_id']}"
            identity = client.poll(f"{path}/identity/", is_extracted)
            return identity, client.call("GET", f"{path}/")[1]

        async with Sandbox(dialect) as sandbox:
            identity, entity = await use(sandbox, work)

        assert entity["link_id"] == link_id
        assert len(identity["identity"]) == 1

    @pytest.mark.parametrize("version", ["v1", "v2"])
    async def test_session_flow(self, receiver, version):
        """
        Uploads, processing and insights follow each other by their states.
        """
        file = base64.b64encode(statement_pdf("axis", LINK_ID)).decode()

        def work(client):
            session_id, url = client.create_session(
                version, accept_anything=True
            )
            assert f"session_id={session_id}" in url
            data = f"v1/session_data/{session_id}"
            states = [
                client.call("GET", f"{data}/session_upload_status/")[1],
            ]
            status, body = client.call(
                "POST",
                "v1/statement/upload_session/",
                form={
                    "session_id": session_id,
                    "upload_type": "BASE64",
                    "file": file,
                },
                headers={"x-api-key": client.key},
            )
            assert status == 200, body
            states.append(
                client.call("GET", f"{data}/session_upload_status/")[1]
            )
            # Without a body, and without a Content-Type.
            begun = client.call("POST", f"{data}/initiate_processing/")
            client.poll(
                f"{data}/progress/",
                lambda body: body["session_progress"] == "completed",
            )
            _, status = client.call("GET", f"{data}/session_status/")
            _, insights = client.call("GET", f"{data}/insights/")
            return states, begun[0], status, insights

        async with Sandbox("session", webhook_url=receiver.url) as sandbox:
            states, begun, status, insights = await use(sandbox, work)
            await sandbox.webhooks_sent()

        assert [state["upload_status"] for state in states] == [
            "NO_UPLOAD",
            "COMPLETED",
        ]
        assert begun == 202
        (account,) = insights["accounts"]
        assert account["data"]["transactions"]
        assert [each["account_status"] for each in status["accounts"]] == [
            "completed"
        ]
        assert [body["event_name"] for body in receiver.bodies] == [
            "SESSION_REQUIREMENT_COMPLETION_NOTIFICATION",
            "ENRICHMENT_NOTIFICATION",
        ]

    @pytest.mark.parametrize("which", DIALECTS)
    async def test_failure_then_success(self, which):
        """
        A wrong password leaves the journey open, in every dialect.
        """
        dialect, version = DIALECTS[which]

        def work(client):
            session_id, _ = client.create_session(version)
            return [
                client.control("play", session_id=session_id, action=action)
                for action in ("failure", "failure", "success")
            ]

        async with Sandbox(dialect) as sandbox:
            played = await use(sandbox, work)

        first, second, last = [each["messages"][0] for each in played]
        assert first == second
        assert first["payload"]["reason"] == "Password Incorrect"
        assert last["status"].removeprefix("fb-") == "success"


def without_each(parameters):
    """Return the parameters, and again without each optional one."""
    yield parameters
    for name in parameters.keys() - {"link_id", "api_key"}:
        left_out = {name, *NEEDED_BY.get(name, ())}
        yield {
            key: value
            for key, value in parameters.items()
            if key not in left_out
        }


@pytest.mark.parametrize("path", SESSION_REQUESTS, ids=lambda path: path.stem)
async def test_documented_session_requests(path):
    """
    Each request of the contract is taken, without any optional part too.
    """
    name = path.stem.removeprefix("session.request.")
    (which,) = [each for each in DIALECTS if name.startswith(each)]
    dialect, version = DIALECTS[which]
    request = json.loads(path.read_bytes())

    def work(client):
        refused = []
        for parameters in without_each(request):
            headers = {"x-api-key": client.key}
            if "api_key" in parameters:
                parameters["api_key"], headers = client.key, {}
            status, body = client.call(
                "POST", f"{version}/session/", body=parameters, headers=headers
            )
            if status != 200:
                refused.append((parameters, body))
        return refused

    async with Sandbox(dialect) as sandbox:
        assert await use(sandbox, work) == []


@pytest.mark.parametrize(
    "path",
    sorted(FIXTURES.glob("webhook.update.request.*.json")),
    ids=lambda path: path.stem,
)
async def test_documented_webhook_updates(path):
    """
    Each documented update of the webhook is taken, without its mode too.
    """
    group = "entity" if ".entity." in path.name else "session_data"
    request = json.loads(path.read_bytes())

    def work(client):
        return [
            client.call("POST", f"v1/{group}/update_webhook/", body=body)[0]
            for body in (request, {"webhook_url": request["webhook_url"]})
        ]

    async with Sandbox("session") as sandbox:
        assert await use(sandbox, work) == [200, 200]


@pytest.mark.parametrize("name", UPLOAD_PATHS)
async def test_documented_uploads(http, create, sample_json, name):
    """
    Each upload of the contract is taken, without any optional field too.
    """
    fields = sample_json(f"upload.{name}.fields.json")
    optional = fields.keys() - REQUIRED
    if UPLOAD_PATHS[name] == "upload_session":
        optional |= fields.keys() & {"bank_name"}
    statuses = []
    dialect = name.partition(".")[0]
    async with Sandbox(dialect) as sandbox:
        url = f"{sandbox.base_url}/v1/statement/{UPLOAD_PATHS[name]}/"
        headers = {"x-api-key": sandbox.api_key}
        for left_out in ({}, *({each} for each in optional)):
            made = {
                key: value
                for key, value in fields.items()
                if key not in left_out
            }
            if "entity_id" in made:
                async with http.post(
                    f"{sandbox.base_url}/v1/entity/", headers=headers
                ) as response:
                    made["entity_id"] = (await response.json())["entity_id"]
            if "session_id" in made:
                made["session_id"] = (await create(sandbox)).session_id
            data = aiohttp.FormData()
            for key, value in made.items():
                file = statement_pdf(fields.get("bank_name", "axis"))
                if key != "file":
                    data.add_field(key, value)
                elif "base64" in name:
                    data.add_field(key, base64.b64encode(file).decode())
                else:
                    data.add_field(key, file, filename="statement.pdf")
            async with http.post(url, data=data, headers=headers) as response:
                statuses.append(response.status)

    assert statuses == [200] * (1 + len(optional))
