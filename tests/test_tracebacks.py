"""
Errors lose the frames that hold secrets.
"""

import pytest

from bankconnect_async import DecodeError
from bankconnect_async._tracebacks import hide_frames


SECRET = "canary-7f3a"


def parse(secret):
    """
    Raise an error of the package while another one is handled.
    """
    try:
        return int(secret)
    except ValueError:
        raise DecodeError(problems=["is not a number @ $"]) from None


async def parse_later(secret):
    """
    Do the same in a coroutine.
    """
    return parse(secret)


class TestHideFrames:
    """
    Functions and coroutines
    """

    def test_function(self):
        """
        The error of a function shows no argument and has no context.
        """
        with pytest.raises(DecodeError) as caught:
            hide_frames(parse)(SECRET)

        names = [frame.name for frame in caught.traceback]
        assert names[1:] == ["call"]
        assert caught.value.__context__ is None
        assert "canary" not in str(caught.traceback[-1].frame.f_locals)

    async def test_coroutine(self):
        """
        The error of a coroutine shows no argument and has no context.
        """
        with pytest.raises(DecodeError) as caught:
            await hide_frames(parse_later)(SECRET)

        names = [frame.name for frame in caught.traceback]
        assert names[1:] == ["call_async"]
        assert caught.value.__context__ is None
        assert "canary" not in str(caught.traceback[-1].frame.f_locals)

    def test_others_keep_their_frames(self):
        """
        An error of Python shows where it was raised.
        """
        with pytest.raises(TypeError) as caught:
            hide_frames(parse)(None)

        assert caught.traceback[-1].name == "parse"

    async def test_wrong_calls(self):
        """
        The error of a call with wrong arguments shows none of them.
        """
        for function in (hide_frames(parse), hide_frames(parse_later)):
            with pytest.raises(TypeError) as caught:
                await function(SECRET, typo=1)

            assert "canary" not in str(caught.traceback[-1].frame.f_locals)

    async def test_results(self):
        """
        Results pass unchanged.
        """
        assert hide_frames(parse)("7") == 7
        assert await hide_frames(parse_later)("7") == 7
