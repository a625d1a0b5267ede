"""
One rate limit in shares, and rows that one process can read.
"""

import asyncio

import pytest

from bankconnect_async.distributed import sealing
from bankconnect_async.distributed.rate_shares import (
    LEASE,
    LeasedLimiter,
    RateShares,
)


class TestRateShares:
    """
    The share of each worker.
    """

    @pytest.mark.parametrize(
        ("rate", "shares"),
        [
            (50, [17, 17, 16]),
            (3.5, [1.5, 1, 1]),
            (2, [1, 1, 0]),
            (0.5, [0.5, 0, 0]),
        ],
    )
    def test_add_up(self, rate, shares):
        """
        All shares but one are whole numbers, and add up to the rate.
        """
        each = RateShares(rate)

        wanted = [each.wanted(name, "abc") for name in "abc"]
        assert sorted(wanted) == sorted(shares)
        assert sum(wanted) == rate

    def test_another_worker(self):
        """
        A new worker gets a share a second after the others have confirmed
        theirs, so that no second has more requests than the rate.
        """
        shares = RateShares(50)
        assert shares.grant("a", "a", 0.0, LEASE) == 50
        shares.confirm("a", 50, 0.0, LEASE)

        assert shares.grant("b", "ab", 1.0, 1 + LEASE) == 0
        assert shares.grant("a", "ab", 1.0, LEASE) == 25
        # The message is on its way: it may still use 50.
        assert shares.grant("b", "ab", 1.0, 1 + LEASE) == 0
        assert shares.freed_at(1.0, "ab") is None
        shares.confirm("a", 25, 1.5, 1 + LEASE)
        assert shares.grant("b", "ab", 2.0, 1 + LEASE) == 0
        # Another heartbeat makes it no later.
        shares.confirm("a", 25, 2.0, 2 + LEASE)
        assert shares.freed_at(2.0, "ab") == 2.5
        assert shares.grant("b", "ab", 2.5, 2 + LEASE) == 25
        assert shares.freed_at(2.5, "ab") is None

    def test_silent_worker(self):
        """
        The share of a worker that is silent is free a second after its lease.
        """
        shares = RateShares(50)
        shares.grant("a", "ab", 0.0, LEASE)
        shares.confirm("a", 25, 0.0, LEASE)

        assert shares.freed_at(1.0, "ab") is None
        assert shares.freed_at(1.0, "b") == LEASE + 1
        assert shares.grant("b", "b", LEASE + 0.9, 2 * LEASE) == 25
        assert shares.grant("b", "b", LEASE + 1, 2 * LEASE) == 50

    def test_silent_worker_of_three(self):
        """
        The share of a silent worker is split among the others.
        """
        shares = RateShares(60)
        for name in "abc":
            shares.grant(name, "abc", 0.0, LEASE)
            shares.confirm(name, 20, 0.0, LEASE)
        for name in "ab":
            assert shares.grant(name, "ab", 1.0, 1 + LEASE) == 20
            shares.confirm(name, 20, 1.0, 1 + LEASE)

        for name in "ab":
            assert shares.grant(name, "ab", LEASE + 1, 2 * LEASE) == 30


class TestLeasedLimiter:
    """
    The limiter of one worker.
    """

    async def test_expired(self):
        """
        Nothing is sent without a valid share.
        """
        now = 0.0
        limiter = LeasedLimiter(lambda: now)
        waiting = asyncio.ensure_future(limiter.acquire())
        await asyncio.sleep(0)
        limiter.renew(10, 5.0)
        await waiting
        now = 5.0
        waiting = asyncio.ensure_future(limiter.acquire())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        limiter.renew(10, 6.0)
        await waiting


def test_only_the_recipient_reads():
    """
    Data that is encrypted for another process, or changed, is refused.
    """
    sealed = sealing.seal(b"customer-1", sealing.public_key())

    assert b"customer-1" not in sealed
    assert sealing.unseal(sealed) == b"customer-1"
    with pytest.raises(sealing.SealError):
        sealing.unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    sealing._private_key.cache_clear()
    with pytest.raises(sealing.SealError):
        sealing.unseal(sealed)
