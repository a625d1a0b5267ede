"""
Views of a client: their headers, their policy, the heads of responses.
"""

import gc

from traceback import TracebackException

import pytest

from bankconnect_async import (
    AsyncBankConnect,
    BadRequestError,
    ConfigurationError,
    InvalidResponseError,
    RetryPolicy,
    ServerError,
)
from bankconnect_async.sandbox import Fault
from bankconnect_async.testing import FakeClock


CANARY = "canary-91bd"
CREATED = (
    b'{"redirect_url": "https://bankconnectclient.finbox.in/?session_id=1d"}'
)


@pytest.fixture(name="recorder")
def _recorder(raw_server, answer):
    """Serve sessions, and keep the heads of requests."""
    heads = []

    async def script(server, reader, writer):
        while True:
            head = await server.read_request(reader)
            heads.append(
                dict(
                    line.lower().split(": ", 1)
                    for line in head.decode().split("\r\n")[1:]
                    if line
                )
            )
            writer.write(answer(CREATED, headers="X-Trace: 00-ab\r\n"))

    return raw_server(script), heads


def connect(server, **settings):
    """Make a client of *server*."""
    return AsyncBankConnect(
        "key", base_url=server.base_url, redirect_url=None, **settings
    )


async def test_headers_and_heads(recorder):
    """
    A view sends its headers, and reports status and headers of a success.
    """
    serving, sent = recorder
    heads = []
    async with serving as server, connect(server) as bank:
        view = bank.with_options(
            headers={"X-Request-Id": "r-1", "X-Team": "loans"},
            on_response=heads.append,
        )
        await view.create_session("customer-42")
        await view.create_sessions(["customer-43"]).run()
        await bank.create_session("customer-44")
        nested = view.with_options(headers={"x-request-id": "r-2"})
        await nested.create_session("customer-45")
        async with nested.paced() as paced:
            with pytest.raises(InvalidResponseError):
                await paced.session("s-1").upload_status()

    assert [
        (
            each.get("x-request-id"),
            each.get("x-team"),
        )
        for each in sent
    ] == [
        *(("r-1", "loans"),) * 2,
        (None, None),
        *(("r-2", "loans"),) * 4,
    ]
    assert all(each["x-api-key"] == "key" for each in sent)
    assert [each.status for each in heads] == [200] * 6
    assert heads[0].headers["x-trace"] == "00-ab"
    assert "00-ab" not in repr(heads[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Api-Key", CANARY),
        ("server-hash", CANARY),
        ("Host", CANARY),
        ("Content-Length", CANARY),
        ("Proxy-Authorization", CANARY),
        ("X-Request-Id", f"{CANARY}\r\nX-Other: 1"),
        ("X-Request-Id", f"{CANARY}\n"),
        ("X-Request-Id", f"{CANARY}é"),
        ("X-Request-Id", CANARY.encode()),
        ("X Request", CANARY),
        ("", CANARY),
        (f"X-\r\n{CANARY}", "1"),
    ],
)
def test_headers_that_cannot_be_sent(name, value):
    """
    Such a header is refused at once, and its value is not shown.
    """
    bank = AsyncBankConnect("key")

    with pytest.raises(ConfigurationError, match="headers: ") as caught:
        bank.with_options(headers={name: value})

    shown = TracebackException.from_exception(
        caught.value, capture_locals=True
    )
    library = [
        each for each in shown.stack if "bankconnect_async" in each.filename
    ]
    assert CANARY not in str(caught.value)
    assert CANARY not in "".join(str(each.locals) for each in library)


@pytest.mark.parametrize("option", ["headers", "retry", "on_response"])
def test_options_of_another_type(option):
    """
    An option that cannot be used is named.
    """
    with pytest.raises(ConfigurationError, match=option):
        AsyncBankConnect("key").with_options(**{option: 3})


async def test_a_view_has_a_retry_policy_of_its_own(sandbox, client_of):
    """
    The policy holds for the calls and the batches of the view.
    """
    sandbox.faults.always(Fault.status(500))
    async with client_of(sandbox, clock=FakeClock()) as bank:
        view = bank.with_options(retry=RetryPolicy(attempts=1))
        counts = []
        for client in (view, bank):
            with pytest.raises(ServerError) as caught:
                await client.create_session("customer-42")
            counts.append(len(caught.value.attempts))
            with pytest.raises(ServerError) as caught:
                await client.session("s-1").upload_status()
            counts.append(len(caught.value.attempts))

    assert counts == [1, 1, 3, 3]


async def test_a_view_closes_nothing(sandbox, client_of):
    """
    A view that is closed, or forgotten, leaves the pool and the store open.
    """
    async with client_of(sandbox) as bank:
        async with bank.with_options(headers={"X-Team": "loans"}) as view:
            await view.create_session("customer-42")
        del view
        gc.collect()
        await bank.create_session("customer-43")
        entries = [each async for each in bank.store.entries()]

        assert bank.stats().connections_opened == 1
        assert {each.link_id for each in entries} == {
            "customer-42",
            "customer-43",
        }


async def test_a_hook_that_raises_changes_no_result(
    sandbox, client_of, caplog
):
    """
    The session is returned, and the exception is logged.
    """

    def fail(head):
        raise LookupError

    async with client_of(sandbox) as bank:
        view = bank.with_options(on_response=fail)
        session = await view.create_session("customer-42")

    assert session.link_id == "customer-42"
    (logged,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "on_response" in logged.getMessage()


async def test_an_echoed_header_is_redacted(raw_server, answer):
    """
    A header that a server echoes shows in no error.
    """

    async def script(server, reader, writer):
        await server.read_request(reader)
        body = f'{{"message": "no {CANARY}"}}'.encode()
        writer.write(answer(body, status="400 Bad Request"))

    async with raw_server(script) as server, connect(server) as bank:
        view = bank.with_options(headers={"Authorization": CANARY})
        with pytest.raises(BadRequestError) as caught:
            await view.create_session("customer-42")

    assert CANARY not in repr(caught.value)
    assert "no ***" in str(caught.value)
