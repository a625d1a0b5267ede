"""
Real proxies that require a user and a password.
"""

from contextlib import asynccontextmanager

import pytest

from bankconnect_async import (
    BatchStoppedError,
    Delivery,
    Phase,
    ProxyAuthenticationError,
)


PROXIES = pytest.mark.parametrize("proxy", ["squid", "tinyproxy"])
SCHEMES = pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
WRONG = pytest.mark.parametrize(
    "credentials", ["", "lender:wrong-horse@"], ids=["none", "wrong"]
)


@pytest.fixture(name="meet")
def _meet(serve, connect, trusting):
    """Run a server, a proxy that requires credentials, and a client."""

    @asynccontextmanager
    async def meet(proxy, *, tls, credentials):
        with (
            serve("nginx", tls=tls, keepalive="60s") as server,
            serve(proxy, auth=True) as between,
        ):
            async with connect(
                base_url=server.origin,
                tls=trusting if tls else None,
                proxy=between.origin.replace("://", f"://{credentials}"),
            ) as bank:
                yield bank, server, between

    return meet


@PROXIES
@SCHEMES
async def test_the_right_ones_pass(meet, proxy, tls):
    """
    With the right user and password sessions are created.
    """
    right = "lender:correct-horse@"
    async with meet(proxy, tls=tls, credentials=right) as (bank, _, _):
        session = await bank.create_session("c")

    assert session.session_id == "1d"


@PROXIES
@SCHEMES
@WRONG
async def test_others_are_named(meet, proxy, tls, credentials):
    """
    Wrong credentials are an error of their own: it names the proxy and the
    setting, shows no password, and says that nothing reached the server.
    """
    async with meet(proxy, tls=tls, credentials=credentials) as (
        bank,
        server,
        between,
    ):
        with pytest.raises(ProxyAuthenticationError) as caught:
            await bank.create_session("c")
        reached = (server.home / "access.log").read_text()

    error = caught.value
    assert f"127.0.0.1:{between.port}" in str(error)
    assert "BANKCONNECT_PROXY" in str(error)
    assert "horse" not in str(error)
    assert error.status in {401, 407}
    assert (error.delivery, error.phase) == (
        (Delivery.NOT_SENT, Phase.CONNECTING)
        if tls
        else (Delivery.REJECTED, Phase.RESPONDED)
    )
    assert len(error.attempts) <= 1
    assert reached == ""


@PROXIES
@SCHEMES
async def test_they_stop_a_batch(meet, proxy, tls):
    """
    A batch stops at the first such error: no password is tried 300 times.
    """
    wrong = "lender:wrong-horse@"
    async with meet(proxy, tls=tls, credentials=wrong) as (bank, _, _):
        ids = (f"c{number}" for number in range(300))
        async with bank.create_sessions(ids, concurrency=4) as outcomes:
            kinds = [type(each.error) async for each in outcomes]

    assert len(kinds) == 300
    assert set(kinds) == {ProxyAuthenticationError, BatchStoppedError}
    assert kinds.count(ProxyAuthenticationError) <= 4
