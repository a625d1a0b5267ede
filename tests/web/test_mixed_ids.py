"""
A confirmed event carries no id of another customer.
"""

import datetime
import functools
import itertools
import json
import random

from urllib.parse import urlencode

import attrs
import pytest

from yarl import URL

from bankconnect_async import (
    AsyncBankConnect,
    MemorySessionStore,
    SessionRequest,
)
from bankconnect_async.models.events import SuccessEvent
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.web import WebRequest


DIALECTS = ("seed", "entity", "session")
# One browser message, one redirect and one webhook each.
ROUNDS = {"quick": 200, "long": 1000}
PER_PAIR = 5

KEYS = ("entityId", "sessionId", "linkId", "linkID", "entity_id", "note")
QUERY = ("entity_id", "session_id", "link_id", "note")
WEBHOOK = ("entity_id", "session_id", "link_id", "statement_id")


@attrs.frozen
class Customer:
    """
    A customer whose journey succeeded, with all their ids.
    """

    link_id: str
    session: object
    message: dict
    redirect: str

    @property
    def ids(self):
        """Return all of the customer's ids."""
        payload = self.message["payload"]
        found = {self.link_id, self.session.session_id, *payload.values()}
        return sorted(found)


@pytest.fixture(name="journey")
def _journey(ours):
    """Play a successful journey of a new customer."""
    numbers = itertools.count()

    async def succeed(sandbox, bank):
        link_id = f"customer-{next(numbers):06}"
        url = ours.return_url(link_id)
        session = await bank.create_session(
            SessionRequest(link_id=link_id, redirect_url=url)
        )
        played = await sandbox.play(session.session_id, "success")
        return Customer(link_id, session, played.messages[0], played.redirect)

    return succeed


def mixture(chance, ids, keys):
    """
    Put random *ids* under random *keys*.
    """
    chosen = chance.sample(keys, chance.randint(1, len(keys)))
    said = {key: chance.choice(ids) for key in chosen}
    if chance.random() < 0.1:
        said[chosen[0]] = f"{said[chosen[0]]}/../{chance.choice(ids)}"
    if chance.random() < 0.1:
        said[chance.choice(ids)] = "success"
    return said


def carried(event, ids):
    """
    Return which of *ids* appear anywhere in *event*.
    """
    text = json.dumps(attrs.asdict(event))
    return [id_ for id_ in ids if id_ in text]


@pytest.fixture(name="send")
def _send(posted, webhook_call):
    """Report successes with random ids to a service in all three ways."""

    async def send(endpoints, customer, mix):
        message = {
            "type": "finbox-bankconnect",
            "status": "success",
            **mix(KEYS),
            "payload": mix(KEYS),
        }
        await endpoints.handle_event(
            posted(endpoints, customer.session, message)
        )
        path = URL(endpoints.protocol.return_url(customer.link_id)).raw_path
        query = urlencode({"success": "true", **mix(QUERY)})
        await endpoints.handle_return(WebRequest(path=f"{path}?{query}"))
        body = {**mix(WEBHOOK), "progress": "completed"}
        await endpoints.handle_webhook(
            webhook_call(endpoints, json.dumps(body).encode())
        )

    return send


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(ROUNDS["quick"], id="quick"),
        pytest.param(ROUNDS["long"], id="long", marks=pytest.mark.long),
    ],
)
async def test_no_confirmed_event_has_a_strangers_id(
    make, told, journey, send, rounds
):
    """
    Whatever mixture of two customers' ids one of them sends, by message,
    redirect or webhook, a confirmed event has only that customer's ids.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    confirmed = dict.fromkeys(DIALECTS, 0)
    for dialect in DIALECTS:
        async with (
            Sandbox(dialect) as sandbox,
            client(sandbox) as creator,
            client(sandbox) as restarted,
        ):
            for _ in range(rounds // PER_PAIR // len(DIALECTS) + 1):
                thief = await journey(sandbox, creator)
                victim = await journey(sandbox, creator)
                ids = [*thief.ids, *thief.ids, *victim.ids, "nobodys"]
                mix = functools.partial(mixture, chance, ids)
                # One client made the sessions, the other knows none of them.
                endpoints = make(chance.choice([creator, restarted]))
                told.events.clear()
                for _ in range(PER_PAIR):
                    await send(endpoints, thief, mix)
                await endpoints.aclose()
                for event in told.events:
                    if isinstance(event, SuccessEvent):
                        assert event.confirmed is True
                        assert event.entity_id or event.session_id
                        assert carried(event, victim.ids) == []
                        confirmed[dialect] += 1

    # Every dialect had some, so the ids were there to be mixed up.
    assert all(confirmed.values())


def client(sandbox):
    """
    Return a client of *sandbox*, to whom no outcome is known already.
    """
    return AsyncBankConnect(
        sandbox.api_key,
        server_hash=sandbox.server_hash,
        base_url=sandbox.base_url,
        redirect_url=None,
        store=MemorySessionStore(dedup_window=datetime.timedelta(0)),
    )


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_honest_success_is_confirmed(
    make, told, journey, posted, dialect
):
    """
    The vendor's own message and redirect are confirmed with all their ids.
    """
    async with Sandbox(dialect) as sandbox, client(sandbox) as bank:
        customer = await journey(sandbox, bank)
        endpoints = make(bank)
        await endpoints.handle_event(
            posted(endpoints, customer.session, customer.message)
        )
        await endpoints.handle_return(
            WebRequest(path=URL(customer.redirect, encoded=True).raw_path_qs)
        )

    message, redirect = told.events
    assert message.raw == customer.message
    assert redirect.raw["success"] == "true"
    assert (message.confirmed, redirect.confirmed) == (True, True)
    assert message == redirect
    assert carried(message, customer.ids)


@pytest.fixture(name="pair")
async def _pair(journey):
    """Return two customers of one dialect, and a client that knows both."""

    async def make(sandbox, bank):
        return await journey(sandbox, bank), await journey(sandbox, bank)

    return make


async def test_own_session_with_anothers_entity(pair):
    """
    Another customer's entity beside one's own session is no success.
    """
    async with Sandbox("session") as sandbox, client(sandbox) as bank:
        thief, victim = await pair(sandbox, bank)
        entity_id = (await bank.create_entity(victim.link_id)).entity_id
        claim = SuccessEvent(
            session_id=thief.session.session_id,
            entity_id=entity_id,
            link_id=thief.link_id,
        )

        assert (await bank.confirm(claim)).confirmed is False


async def test_own_entity_with_anothers_session(pair):
    """
    Another customer's session beside one's own entity is no success where
    the client knows the session, and is left out where it does not.
    """
    async with Sandbox("entity") as sandbox, client(sandbox) as bank:
        thief, victim = await pair(sandbox, bank)
        claim = SuccessEvent(
            session_id=victim.session.session_id,
            entity_id=thief.message["payload"]["entityId"],
            link_id=thief.link_id,
            raw={"session_id": victim.session.session_id},
        )
        async with client(sandbox) as restarted:
            found = await restarted.confirm(claim)

        assert (await bank.confirm(claim)).confirmed is False
        assert (found.confirmed, found.session_id) == (True, None)
        assert found.entity_id == claim.entity_id
        assert found.raw == {}


async def test_a_payload_of_many_levels(pair):
    """
    Deeply nested objects are left out of a confirmed event.
    """
    raw = {}
    for _ in range(3_000):
        raw = {"payload": raw}
    async with Sandbox("entity") as sandbox, client(sandbox) as bank:
        customer, _ = await pair(sandbox, bank)
        found = await bank.confirm(
            SuccessEvent(
                entity_id=customer.message["payload"]["entityId"],
                link_id=customer.link_id,
                raw=raw,
            )
        )

    assert found.confirmed is True
    assert found.raw == {"payload": {}}


async def test_both_own_ids(pair):
    """
    One's own entity counts although the entity flow does not confirm the
    session.
    """
    async with Sandbox("entity") as sandbox, client(sandbox) as bank:
        customer, _ = await pair(sandbox, bank)
        claim = SuccessEvent(
            session_id=customer.session.session_id,
            entity_id=customer.message["payload"]["entityId"],
            link_id=customer.link_id,
        )

        found = await bank.confirm(claim, session=customer.session)

        assert (found.confirmed, found.entity_id) == (True, claim.entity_id)
        assert found.session_id is None


async def test_a_path_that_shortens_to_ones_own(raw_server, answer):
    """
    An id must equal the one in the server's response, not merely lead to it.
    """
    own = b'{"entity_id": "own", "link_id": "thief"}'

    async def shorten(server, reader, writer):
        while await server.read_request(reader):
            writer.write(answer(own))

    async with (
        raw_server(shorten) as server,
        AsyncBankConnect(
            "key", base_url=server.base_url, redirect_url=None
        ) as bank,
    ):
        honest = SuccessEvent(entity_id="own", link_id="thief")
        claim = SuccessEvent(entity_id="theirs/../own", link_id="thief")

        assert (await bank.confirm(honest)).confirmed is True
        assert (await bank.confirm(claim)).confirmed is False
