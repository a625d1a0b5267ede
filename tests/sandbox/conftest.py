"""
Shared fixtures of the sandbox's tests: an HTTP client, sessions, a receiver of
webhooks.
"""

import json

import aiohttp
import attrs
import pytest

from aiohttp import web

from bankconnect_async.sandbox import Fault


LINK_ID = "cust-7f31-0042"


@pytest.fixture
async def http():
    """Return a bare HTTP client."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture(name="form", scope="session")
def _form():
    """Build a form; bytes become a file, and `None` is left out."""

    def form(fields):
        data = aiohttp.FormData()
        for name, value in fields.items():
            if isinstance(value, bytes):
                data.add_field(name, value, filename="statement.pdf")
            elif value is not None:
                data.add_field(name, value)
        return data

    return form


@pytest.fixture(name="create")
def _create(http):
    """Create a session over HTTP, and return the sandbox's record of it."""

    async def create(sandbox, version="v1", **parameters):
        body = {"link_id": LINK_ID, "api_key": sandbox.api_key, **parameters}
        url = f"{sandbox.base_url}/{version}/session/"
        async with http.post(url, json=body) as response:
            assert response.status == 200
            opened = (await response.json())["redirect_url"]
        return next(
            session
            for session in sandbox.sessions.values()
            if session.redirect_url == opened
        )

    return create


@attrs.define
class Receiver:
    """
    An endpoint for webhooks.

    Attributes:
        url: The URL to post to.
        bodies: The received bodies, in order.
        headers: The headers of each.
        status: The status of the responses.
    """

    url: str = ""
    bodies: list = attrs.Factory(list)
    headers: list = attrs.Factory(list)
    status: int = 200

    async def receive(self, request):
        self.bodies.append(json.loads(await request.read()))
        self.headers.append(request.headers)
        return web.Response(
            status=self.status, headers={"Location": "/elsewhere"}
        )


@pytest.fixture(name="receiver")
async def _receiver():
    """Run a service that receives webhooks."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hooks", receiver.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    yield receiver
    await runner.cleanup()


def kind(value):
    """Return the name of a value's JSON type."""
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def entries(value, sample, at, free):
    """Pair the entries of a value with those that they are compared with."""
    if isinstance(sample, list):
        return [(f"{at}[]", entry, sample) for entry in value]
    if at in free:
        samples = list(sample.values())
        return [(f"{at}.*", entry, samples) for entry in value.values()]
    return [(f"{at}.{key}", value[key], [sample[key]]) for key in sample]


def find_differences(value, sample, *, at="$", free=frozenset()):
    """
    List where a value is not of the shape of a sample: keys and types.

    A list's entries must each have the shape of one of the sample's. A `null`
    in one of the two matches anything in the other. Under the paths *free*
    the keys do not matter, but the values must be of one shape.
    """
    if value is None or sample is None:
        return []
    if kind(value) != kind(sample):
        return [f"{at}: {kind(value)} is no {kind(sample)}"]
    if not isinstance(sample, dict | list):
        return []
    if (
        isinstance(sample, dict)
        and at not in free
        and value.keys() != (sample.keys())
    ):
        return [f"{at}: {sorted(value.keys() ^ sample.keys())}"]
    found = []
    for path, entry, samples in entries(value, sample, at, free):
        each = [
            find_differences(entry, one, at=path, free=free) for one in samples
        ]
        if each and all(each):
            found += each[0]
    return found


@pytest.fixture(name="differences", scope="session")
def _differences():
    """Return the differences of a value from the shape of a sample."""
    return find_differences


@pytest.fixture(name="faults", scope="session")
def _faults():
    """Return every fault that the sandbox knows."""
    return Fault
