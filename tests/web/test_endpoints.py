"""
Failures of the vendor or of the callback lose no report.
"""

import pytest

from yarl import URL

from bankconnect_async import AsyncBankConnect, SessionRequest
from bankconnect_async.errors import (
    AuthenticationError,
    ConnectError,
    InvalidRequestError,
)
from bankconnect_async.models.events import ErrorEvent
from bankconnect_async.models.sessions import Session
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import WebRequest, read_body


VISIT = WebRequest()
SESSION = Session(link_id="customer-42", session_id="s-1", redirect_url=URL())
SUCCESS_QUERY = "success=true&entity_id=e"


class TestProviderTrouble:
    """
    If the vendor cannot be reached, a report is neither lost nor believed.
    """

    @pytest.fixture(name="asked_by")
    def _asked_by(self, bank_of, make, posted):
        """Report a success in both workflows, and return the responses."""

        async def ask(settings):
            async with Sandbox("entity") as sandbox:
                async with bank_of(sandbox) as bank:
                    session = await bank.create_session("customer-42")
                played = await sandbox.play(session.session_id, "success")
                async with bank_of(sandbox, **settings) as bank:
                    if not settings:
                        await sandbox.aclose()
                    endpoints = make(bank)
                    path = URL(endpoints.protocol.return_url("customer-42"))
                    return (
                        await endpoints.handle_event(
                            posted(endpoints, session, played.messages[0])
                        ),
                        await endpoints.handle_return(
                            WebRequest(path=f"{path.raw_path}?{SUCCESS_QUERY}")
                        ),
                    )

        return ask

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, (503, ConnectError)),
            ({"api_key": "wrong"}, (502, AuthenticationError)),
        ],
    )
    async def test_confirm(self, asked_by, told, settings, expected):
        """
        A temporary failure is a 503, a permanent one a 502.
        """
        status, kind = expected
        reply, page = await asked_by(settings)

        assert (reply.status, page.status) == (status, status)
        assert ("Retry-After" in reply.headers) == (status == 503)
        assert ("Retry-After" in page.headers) == (status == 503)
        assert b"try again" in page.body
        assert told.events == []
        assert [type(error) for _, error in told.failures] == [kind, kind]

    async def test_without_server_hash(self, bank_of, make, caplog):
        """
        A missing server hash is named at the start, and in the reason why a
        success was not confirmed.
        """
        async with (
            Sandbox("entity") as sandbox,
            bank_of(sandbox, server_hash=None) as bank,
            make(bank, on_failure=None) as endpoints,
        ):
            path = URL(endpoints.protocol.return_url("customer-42")).raw_path
            page = await endpoints.handle_return(
                WebRequest(path=f"{path}?{SUCCESS_QUERY}")
            )

        assert page.status == 502
        warning, error = caplog.records
        assert "set server_hash or BANKCONNECT_SERVER_HASH" in warning.message
        assert error.message.startswith("SuccessEvent is not confirmed: ")
        assert "no server_hash (BANKCONNECT_SERVER_HASH)" in str(
            error.exc_info[1]
        )

    @pytest.mark.parametrize("way", ["connect", "redirect"])
    async def test_no_session(self, bank_of, make, way, caplog):
        """
        If no session can be created, a page and a log line say so.
        """
        async with Sandbox() as sandbox, bank_of(sandbox) as bank:
            await sandbox.aclose()
            reply = await getattr(make(bank), way)(VISIT, "customer-42")

        assert reply.status == 503
        assert b"cannot be reached" in reply.body
        assert "no session" in caplog.text


class TestBegin:
    """
    `connect` and `redirect` create a session for the visiting customer.
    """

    async def test_request(self, bank_of, make):
        """
        The service may return a whole request; only its `redirect_url` is
        replaced.
        """
        request = SessionRequest(
            link_id="customer-42",
            redirect_url="https://elsewhere.example",
            bank_name="axis",
        )
        async with Sandbox() as sandbox, bank_of(sandbox) as bank:
            endpoints = make(bank)
            page = await endpoints.connect(VISIT, request)
            redirect = await endpoints.redirect(VISIT, request)
        framed, alone = sandbox.sessions.values()

        assert (page.status, redirect.status) == (200, 303)
        assert framed.parameters["bank_name"] == "axis"
        assert "redirect_url" not in framed.parameters
        assert alone.parameters["redirect_url"].startswith(
            "https://lender.example/bank/return/"
        )

    @pytest.mark.parametrize("way", ["connect", "redirect"])
    async def test_only_for_visits(self, offline, way):
        """
        No session is created for a request that no person made.
        """
        call = WebRequest(headers={"Sec-Fetch-Dest": "iframe"})
        reply = await getattr(offline, way)(call, "customer-42")

        assert reply.status == 403

    @pytest.mark.parametrize(
        ("way", "link_id"),
        [("connect", ""), ("redirect", ""), ("redirect", "x" * 200)],
    )
    async def test_impossible(self, offline, way, link_id):
        """
        A customer for whom no session can be built is an error of the service.
        """
        with pytest.raises(InvalidRequestError):
            await getattr(offline, way)(VISIT, link_id)


@pytest.mark.parametrize("way", ["connect", "redirect"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "get"])
async def test_other_methods(offline, way, method):
    """
    Only a GET or a POST begins a journey, whatever the framework routes.
    """
    reply = await getattr(offline, way)(
        WebRequest(method=method), "customer-42"
    )

    assert (reply.status, reply.headers["Allow"]) == (405, "GET, POST")


class TestCallbackTrouble:
    """
    An event that the callback rejects goes to the failure hook.
    """

    async def test_event(self, offline, posted, told):
        """
        The page is told that its event was not accepted.
        """
        told.breaks = RuntimeError("no database")
        message = {
            "type": "finbox-bankconnect",
            "status": "error",
            "payload": {"error_type": "MU003", "reason": "wrong"},
        }
        reply = await offline.handle_event(posted(offline, SESSION, message))

        assert reply.status == 500
        ((event, error),) = told.failures
        assert isinstance(event, ErrorEvent)
        assert error is told.breaks

    async def test_return(self, offline, told):
        """
        The customer sees a page that blames the service.
        """
        told.breaks = RuntimeError("no database")
        path = URL(offline.protocol.return_url("customer-42")).raw_path
        reply = await offline.handle_return(
            WebRequest(path=f"{path}?success=false")
        )

        assert reply.status == 500
        assert b"on our side" in reply.body
        assert len(told.failures) == 1

    async def test_without_hook(self, make, told, caplog):
        """
        Without a hook the log names the kind of the lost event, and not its
        content.
        """
        endpoints = make(
            AsyncBankConnect("key", redirect_url=None), on_failure=None
        )
        told.breaks = RuntimeError("no database")
        path = URL(endpoints.protocol.return_url("customer-42")).raw_path
        await endpoints.handle_return(WebRequest(path=f"{path}?success=false"))

        (record,) = caplog.records
        assert record.message == "ExitEvent is lost"
        assert record.exc_info[1] is told.breaks
        assert "customer-42" not in caplog.text


@pytest.mark.parametrize(("limit", "length"), [(5, 6), (6, 9), (100, 9)])
async def test_read_body(limit, length):
    """
    Reading stops as soon as the body is over its limit.
    """

    async def chunks():
        for chunk in (b"abc", b"def", b"ghi"):
            yield chunk

    assert len(await read_body(chunks(), limit)) == length
