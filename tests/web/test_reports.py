"""
A reported success reaches the callback once the server has confirmed it.
"""

import pytest

from yarl import URL

from bankconnect_async import SessionRequest
from bankconnect_async.errors import InvalidCallbackError
from bankconnect_async.models.events import SuccessEvent
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import WebRequest


VISIT = WebRequest()
DIALECTS = ("seed", "entity", "session")


@pytest.mark.parametrize("dialect", DIALECTS)
class TestClaims:
    """
    Only a genuine success reaches the callback as confirmed, in every dialect.
    """

    async def test_genuine(self, dialect, bank_of, make, posted, told):
        """
        A success that the server confirms is delivered as confirmed.
        """
        async with Sandbox(dialect) as sandbox, bank_of(sandbox) as bank:
            endpoints = make(bank)
            session = await bank.create_session("customer-42")
            played = await sandbox.play(session.session_id, "success")
            call = posted(endpoints, session, played.messages[0])
            reply = await endpoints.handle_event(call)

        assert (reply.status, reply.body) == (204, b"")
        (event,) = told.events
        assert isinstance(event, SuccessEvent)
        assert event.link_id == "customer-42"
        assert event.confirmed is True
        assert not told.failures

    async def test_stolen(self, dialect, bank_of, make, posted, told):
        """
        Another customer's success, posted from one's own page, is refused.
        """
        async with Sandbox(dialect) as sandbox, bank_of(sandbox) as bank:
            endpoints = make(bank)
            victim = await bank.create_session("victim")
            played = await sandbox.play(victim.session_id, "success")
            thief = await bank.create_session("thief")
            call = posted(endpoints, thief, played.messages[0])
            reply = await endpoints.handle_event(call)

        assert reply.status == 403
        assert told.events == []
        ((event, error),) = told.failures
        assert event.link_id == "thief"
        assert event.confirmed is False
        assert isinstance(error, InvalidCallbackError)

    async def test_stolen_behind_a_signed_url(
        self, dialect, bank_of, make, told
    ):
        """
        Another customer's success behind one's own signed return URL is
        refused.
        """
        async with Sandbox(dialect) as sandbox, bank_of(sandbox) as bank:
            endpoints = make(bank)
            home = endpoints.protocol.return_url
            victim = await bank.create_session(
                SessionRequest(link_id="victim", redirect_url=home("victim"))
            )
            played = await sandbox.play(victim.session_id, "success")
            query = URL(played.redirect).raw_query_string
            thief = await endpoints.redirect(VISIT, "thief")
            cookie = thief.headers["Set-Cookie"].partition(";")[0]
            path = f"{URL(home('thief')).raw_path}?{query}"
            reply = await endpoints.handle_return(
                WebRequest(path=path, headers={"Cookie": cookie})
            )

        assert reply.status == 403
        assert b"could not confirm" in reply.body
        assert told.events == []
        ((event, error),) = told.failures
        assert (event.link_id, event.confirmed) == ("thief", False)
        assert isinstance(error, InvalidCallbackError)

    async def test_made_up(self, dialect, bank_of, make, posted, told):
        """
        An id that the server never issued is no success.
        """
        ids = {"entityId": "e-0", "sessionId": "s-0"}
        message = {
            "type": "finbox-bankconnect",
            "status": "success",
            "payload": ids,
        }
        async with Sandbox(dialect) as sandbox, bank_of(sandbox) as bank:
            endpoints = make(bank)
            session = await bank.create_session("customer-42")
            call = posted(endpoints, session, message)
            reply = await endpoints.handle_event(call)

        assert reply.status == 403
        assert told.events == []

    async def test_too_early(self, dialect, bank_of, make, posted, told):
        """
        One's own session is no success before anything was uploaded.
        """
        async with Sandbox(dialect) as sandbox, bank_of(sandbox) as bank:
            endpoints = make(bank)
            session = await bank.create_session("customer-42")
            message = {
                "type": "finbox-bankconnect",
                "status": "success",
                "payload": {"sessionId": session.session_id},
            }
            call = posted(endpoints, session, message)
            reply = await endpoints.handle_event(call)

        assert reply.status == 403
        assert told.events == []

    async def test_other_process(self, dialect, bank_of, make, told):
        """
        A return is confirmed by a process that did not create the session.
        """
        async with Sandbox(dialect) as sandbox:
            async with bank_of(sandbox) as bank:
                reply = await make(bank).redirect(VISIT, "customer-42")
            cookie = reply.headers["Set-Cookie"].partition(";")[0]
            session_id = URL(reply.headers["Location"]).query["session_id"]
            played = await sandbox.play(session_id, "success")
            call = WebRequest(
                path=URL(played.redirect).raw_path_qs,
                headers={"Cookie": cookie},
            )
            async with bank_of(sandbox) as other:
                reply = await make(other).handle_return(call)

        assert reply.status == 200
        assert b"Thank you" in reply.body
        (event,) = told.events
        assert (event.link_id, event.confirmed) == ("customer-42", True)


async def test_without_cookie_nothing_can_be_said(bank_of, make, told):
    """
    A session-flow return in another browser is delivered unconfirmed.
    """
    async with Sandbox("session") as sandbox:
        async with bank_of(sandbox) as bank:
            reply = await make(bank).redirect(VISIT, "customer-42")
        session_id = URL(reply.headers["Location"]).query["session_id"]
        played = await sandbox.play(session_id, "success")
        async with bank_of(sandbox) as other:
            reply = await make(other).handle_return(
                WebRequest(path=URL(played.redirect).raw_path_qs)
            )

    assert reply.status == 403
    assert told.events == []
    ((event, _),) = told.failures
    assert (event.session_id, event.confirmed) == (session_id, None)
