"""
The sandbox takes what clients in the field send.

Each habit is listed in the contract, under "Later findings".
"""

import base64
import datetime

import aiohttp
import pytest

from bankconnect_async import AsyncBankConnect
from bankconnect_async.sandbox import Sandbox, statement_pdf


LINK_ID = "cust-7f31-0042"
KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}
APP = "http://localhost:3000"
PREFLIGHT = {
    "Origin": APP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}


@pytest.fixture(name="post_session")
def _post_session(http):
    """Create a session, and return the response's status and body."""

    async def post(sandbox, version="v1", **parameters):
        url = f"{sandbox.base_url}/{version}/session/"
        body = {"link_id": LINK_ID, "api_key": sandbox.api_key, **parameters}
        async with http.post(url, json=body) as response:
            return response.status, await response.json()

    return post


def error_code(body):
    """Return the code of an error of the session flow."""
    return body["error"]["code"]


class TestUploads:
    """
    Uploads of the entity flow name no link id.
    """

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    @pytest.mark.parametrize(
        "path", ["upload", "bankless_upload", "upload_base64"]
    )
    async def test_no_link_id(self, http, dialect, path):
        """
        An upload without `link_id` makes an entity without one.
        """
        file = statement_pdf("axis")
        async with Sandbox(dialect) as sandbox:
            data = aiohttp.FormData({"bank_name": "axis"})
            if path.endswith("base64"):
                data.add_field("file", base64.b64encode(file).decode())
            else:
                data.add_field("file", file, filename="a.pdf")
            url = f"{sandbox.base_url}/v1/statement/{path}/"
            async with http.post(url, data=data, headers=KEY) as response:
                status, body = response.status, await response.json()
            entity = sandbox.entities[body["entity_id"]]

        assert status == 200
        assert entity.link_id is None

    async def test_client(self):
        """
        The client uploads a statement of nobody with `link_id=None`.
        """
        async with (
            Sandbox("entity") as sandbox,
            AsyncBankConnect(
                sandbox.api_key,
                server_hash=sandbox.server_hash,
                base_url=sandbox.base_url,
                redirect_url=None,
            ) as bank,
        ):
            upload = await bank.upload(statement_pdf("axis"), link_id=None)
            entity = await bank.entity(upload.entity_id).get()

        assert entity.link_id is None


class TestPaths:
    """
    Clients call paths without the trailing slash.
    """

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "v1/entity"),
            ("GET", "v1/entity?page=1"),
            ("POST", "v1/session"),
            ("POST", "v2/session"),
            ("POST", "v1/statement/upload"),
            ("GET", "v1/session_data/1d/progress"),
        ],
    )
    async def test_redirect(self, http, method, path):
        """
        The response is a 301 to the path with the slash, query and all.
        """
        async with Sandbox() as sandbox:
            url = f"{sandbox.base_url}/{path}"
            async with http.request(
                method,
                url,
                json={"link_id": LINK_ID} if method == "POST" else None,
                headers=BOTH,
                allow_redirects=False,
            ) as response:
                location = response.headers["Location"]
            processed = sandbox.processed("entity")

        name, mark, query = path.partition("?")
        assert response.status == 301
        assert location == f"/bank-connect/{name}/{mark}{query}"
        assert processed == 0

    async def test_followed(self, http):
        """
        A client that follows the redirect gets the response.
        """
        async with Sandbox("entity") as sandbox:
            url = f"{sandbox.base_url}/v1/entity"
            async with http.get(url, headers=BOTH) as response:
                body = await response.json()

        assert response.status == 200
        assert body["count"] == 0

    async def test_unknown(self, http):
        """
        A path that does not exist with a slash is not found.
        """
        async with Sandbox() as sandbox:
            url = f"{sandbox.base_url}/v1/nowhere"
            async with http.get(url, allow_redirects=False) as response:
                pass

        assert response.status == 404


class TestSessionParameters:
    """
    Parameters that pages of different dates describe differently.
    """

    @pytest.mark.parametrize(
        "mode", ["only_once", "only_recurring", "once_with_recurring"]
    )
    @pytest.mark.parametrize("dialect", ["entity", "session"])
    async def test_journey_modes(self, post_session, dialect, mode):
        """
        Each mode of an Account Aggregator journey is taken (U-08).
        """
        async with Sandbox(dialect) as sandbox:
            status, body = await post_session(
                sandbox,
                mode="aa",
                bank_name="hdfc",
                aa_journey_mode=mode,
                aa_recurring_frequency_unit="month",
                aa_recurring_frequency_value=1,
            )

        assert (status, body.get("error")) == (200, None)

    async def test_to_date_of_today(self, post_session):
        """
        The entity flow takes a `to_date` of today, and none after it (U-04).
        """
        async with Sandbox("entity") as sandbox:
            today = _india_today(sandbox)
            statuses = [
                (
                    await post_session(
                        sandbox,
                        from_date="01/01/2020",
                        to_date=f"{today + datetime.timedelta(days):%d/%m/%Y}",
                    )
                )[0]
                for days in (0, 1)
            ]

        assert statuses == [200, 400]

    async def test_flat_consents(self, post_session):
        """
        `consents` may be a flat map of texts, as the Android builder has it.
        """
        consents = {"CC0001": "01/04/2027"}
        async with Sandbox() as sandbox:
            status, _ = await post_session(sandbox, "v2", consents=consents)
            (session,) = sandbox.sessions.values()

        assert status == 200
        assert session.parameters["consents"] == consents

    async def test_flat_consents_of_the_client(self):
        """
        The client sends a flat map of consents as it is.
        """
        consents = {"CC0001": "01/04/2027"}
        async with (
            Sandbox() as sandbox,
            AsyncBankConnect(
                sandbox.api_key,
                base_url=sandbox.base_url,
                version="v2",
                redirect_url=None,
            ) as bank,
        ):
            await bank.create_session(LINK_ID, consents=consents)
            (session,) = sandbox.sessions.values()

        assert session.parameters["consents"] == consents

    @pytest.mark.parametrize("version", ["v1", "v2"])
    @pytest.mark.parametrize(
        ("dates", "code"),
        [
            (("2026-01-01", "31/01/2026"), "INVALID_DATE_FORMAT"),
            (("01/01/2026", "soon"), "INVALID_DATE_FORMAT"),
            (("31/01/2026", "01/01/2026"), "INVALID_DATE_RANGE"),
            (("01/01/2026", "01/01/2026"), "INVALID_DATE_RANGE"),
        ],
    )
    async def test_max_dates(self, post_session, version, dates, code):
        """
        The format and the order of the `max_` dates are checked.
        """
        async with Sandbox("session") as sandbox:
            status, body = await post_session(
                sandbox,
                version,
                max_from_date=dates[0],
                max_to_date=dates[1],
            )

        assert (status, error_code(body)) == (400, code)

    async def test_named_parameters(self):
        """
        The client has names for parameters of clients in the field.
        """
        parameters = {
            "program_id": "gold-loan",
            "aa_vendor": "onemoney",
            "max_from_date": datetime.date(2026, 1, 1),
            "max_to_date": datetime.date(2026, 1, 31),
        }
        async with (
            Sandbox("session") as sandbox,
            AsyncBankConnect(
                sandbox.api_key, base_url=sandbox.base_url, redirect_url=None
            ) as bank,
        ):
            await bank.create_session(LINK_ID, **parameters)
            (session,) = sandbox.sessions.values()

        assert parameters.items() <= session.parameters.items()


def _india_today(sandbox):
    zone = datetime.timezone(datetime.timedelta(hours=5.5))
    return datetime.datetime.fromtimestamp(sandbox.clock.time(), zone).date()


class TestCrossOrigin:
    """
    The vendor's React sample creates the session from the browser.
    """

    async def test_preflight(self, http):
        """
        A page of this machine may create a session.
        """
        async with Sandbox() as sandbox:
            url = f"{sandbox.base_url}/v1/session/"
            async with http.options(url, headers=PREFLIGHT) as response:
                headers = response.headers
            requests = sandbox.received("")

        assert response.status == 204
        assert headers["Access-Control-Allow-Origin"] == APP
        assert "POST" in headers["Access-Control-Allow-Methods"]
        allowed = headers["Access-Control-Allow-Headers"].split(", ")
        assert {"content-type", "x-api-key"} <= {*allowed}
        assert headers["Vary"] == "Origin"
        assert requests == 0

    @pytest.mark.parametrize(
        ("key", "status"), [("sandbox-api-key", 200), ("other", 401)]
    )
    async def test_response(self, http, key, status):
        """
        The page may read the response, of an error too.
        """
        async with (
            Sandbox() as sandbox,
            http.post(
                f"{sandbox.base_url}/v1/session/",
                json={"link_id": LINK_ID, "api_key": key},
                headers={"Origin": APP, "Sec-Fetch-Site": "cross-site"},
            ) as response,
        ):
            pass

        assert response.status == status
        assert response.headers["Access-Control-Allow-Origin"] == APP

    @pytest.mark.parametrize("origin", ["https://evil.example", "null"])
    async def test_other_machines(self, http, origin):
        """
        A page of another machine is refused unless its origin is allowed.
        """
        statuses = []
        for origins in ([], ["https://evil.example"]):
            async with Sandbox(allow_origins=origins) as sandbox:
                url = f"{sandbox.base_url}/v1/session/"
                body = {"link_id": LINK_ID, "api_key": sandbox.api_key}
                headers = {"Origin": origin}
                async with http.post(
                    url, json=body, headers=headers
                ) as response:
                    allowed = response.headers.get(
                        "Access-Control-Allow-Origin"
                    )
                statuses.append(response.status)

        is_named = origin != "null"
        assert statuses == [400, 200 if is_named else 400]
        assert allowed == (origin if is_named else None)

    async def test_other_endpoints(self, http):
        """
        No page may read data or change settings, with the key or without.
        """
        async with Sandbox() as sandbox:
            url = f"{sandbox.base_url}/v1/entity/"
            async with http.options(url, headers=PREFLIGHT) as response:
                assert response.status == 405
            headers = {**BOTH, "Origin": APP}
            async with http.get(url, headers=headers) as response:
                assert response.status == 200

        assert "Access-Control-Allow-Origin" not in response.headers


class TestUploadStatus:
    """
    The states are spelt as the only printed JSON has them (U-20).
    """

    async def test_underscores(self, http, create):
        """
        A state of two words has an underscore.
        """
        states = []
        async with Sandbox("session") as sandbox:
            session = await create(
                sandbox, from_date="01/01/2026", to_date="30/06/2026"
            )
            url = (
                f"{sandbox.base_url}/v1/session_data/{session.session_id}"
                "/session_upload_status/"
            )
            for uploads in (0, 1):
                if uploads:
                    await self._upload(http, sandbox, session)
                async with http.get(url, headers=BOTH) as response:
                    states.append((await response.json())["upload_status"])

        assert states == ["NO_UPLOAD", "IN_PROGRESS"]

    async def _upload(self, http, sandbox, session):
        file = statement_pdf(
            "axis",
            from_date=datetime.date(2026, 1, 1),
            to_date=datetime.date(2026, 1, 31),
        )
        data = aiohttp.FormData(
            {"session_id": session.session_id, "upload_type": "PDF"}
        )
        data.add_field("file", file, filename="a.pdf")
        url = f"{sandbox.base_url}/v1/statement/upload_session/"
        async with http.post(url, data=data, headers=KEY) as response:
            assert response.status == 200


class TestEmptyPosts:
    """
    A POST without a body has no `Content-Type`.
    """

    async def test_taken(self, http, create):
        """
        The sandbox takes one.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            await sandbox.play(session.session_id, "success")
            url = (
                f"{sandbox.base_url}/v1/session_data/{session.session_id}"
                "/initiate_processing/"
            )
            async with http.post(
                url, headers=BOTH, skip_auto_headers=["Content-Type"]
            ) as response:
                assert response.status == 202

    async def test_sent(self, raw_server, answer):
        """
        The client sends one.
        """
        heads = []

        async def accept(server, reader, writer):
            heads.append(await server.read_request(reader))
            writer.write(
                answer(
                    b'{"session_id": "1d", "message": "success"}',
                    status="202 Accepted",
                )
            )

        async with (
            raw_server(accept) as server,
            AsyncBankConnect(
                "key", base_url=server.base_url, redirect_url=None
            ) as bank,
        ):
            await bank.session("1d").initiate_processing()

        (head,) = heads
        assert head.startswith(b"POST ")
        assert b"content-type" not in head.lower()
