"""
A host whose name gets another address.

The name is a real one, in a hosts file that only a child process sees: it
runs in a mount namespace of its own. Loopback has an address for each host.
"""

import json
import subprocess
import sys

import pytest


NAME = "api.bank.example"
# Mounting needs rights, which everybody has in a user namespace.
UNSHARE = ("unshare", "--map-root-user", "--mount", "sh", "-c")
MOUNT = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'

HOST = f"""
import asyncio, json, socket, sys, time

import aiohttp

from bankconnect_async import AsyncBankConnect, Pool, RetryPolicy

HOSTS, MODE = sys.argv[1:]
OLD, NEW, MAX_AGE = "127.0.0.2", "127.0.0.3", 1.0


def point_to(address):
    # The file that is mounted has to stay the same one.
    with open(HOSTS, "r+") as file:
        file.write(f"{{address}} {NAME}\\n")


async def serve(address, port, seen):
    async def answer(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\\r\\n\\r\\n")
                _, _, rest = head.lower().partition(b"content-length: ")
                await reader.readexactly(int(rest.split(b"\\r\\n")[0]))
                seen.append(address)
                body = b'{{"redirect_url": "https://journey.example/"}}'
                writer.write(
                    b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s"
                    % (len(body), body)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, address, port)
    return server, server.sockets[0].getsockname()[1]
"""
FOLLOW = (
    HOST
    + f"""

async def main():
    seen = []
    _, port = await serve(OLD, 0, seen)
    await serve(NEW, port, seen)
    point_to(OLD)
    pool = {{"pool": Pool(max_age=MAX_AGE)}} if MODE == "max_age" else {{}}
    async with AsyncBankConnect(
        "key",
        base_url=f"http://{NAME}:{{port}}/bank-connect",
        redirect_url=None,
        allow_http=True,
        **pool,
    ) as bank:
        await bank.create_session("c")
        point_to(NEW)
        changed, late = time.monotonic(), []
        while len(late) < 20:
            began = time.monotonic()
            await bank.create_session("c")
            if began - changed > MAX_AGE:
                late.append(seen[-1])
        print(json.dumps({{"first": seen[0], "late": sorted(set(late))}}))


asyncio.run(main())
"""
)
REFUSED = (
    HOST
    + f"""

async def main():
    seen = []
    old, port = await serve(OLD, 0, seen)
    point_to(OLD)
    async with (
        aiohttp.ClientSession() as session,
        AsyncBankConnect(
            "key",
            base_url=f"http://{NAME}:{{port}}/bank-connect",
            redirect_url=None,
            allow_http=True,
            retry=RetryPolicy(attempts=2),
            client_session=session if MODE == "borrowed" else None,
        ) as bank,
    ):
        await bank.create_session("c")
        connector = bank._executor.transport._bound.session.connector
        for connections in connector._conns.values():
            for connection, _ in connections:
                connection.close()
        old.close()
        await serve(NEW, port, seen)
        point_to(NEW)
        session = await bank.create_session("c")
        print(json.dumps({{"seen": seen, "attempts": session.attempts}}))


asyncio.run(main())
"""
)


@pytest.fixture(name="tell")
def _tell(tmp_path, find_program):
    """Run a program with its own hosts file, and return its output."""
    unshare = find_program("unshare", package="util-linux")

    def tell(program, mode):
        script, hosts = tmp_path / "program.py", tmp_path / "hosts"
        script.write_text(program)
        hosts.write_text("127.0.0.1 localhost\n")
        done = subprocess.run(
            [
                *(unshare, *UNSHARE[1:], MOUNT, "sh", hosts),
                *(sys.executable, script, hosts, mode),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return tell


def test_a_busy_pool_follows(tell):
    """
    A busy pool moves to the new address within its `max_age`.
    """
    told = tell(FOLLOW, "max_age")

    assert told == {"first": "127.0.0.2", "late": ["127.0.0.3"]}


@pytest.mark.parametrize("mode", ["own", "borrowed"])
def test_a_refused_connect_asks_for_the_address_again(tell, mode):
    """
    The attempt after a refused one goes to the new address.
    """
    told = tell(REFUSED, mode)

    assert told == {"seen": ["127.0.0.2", "127.0.0.3"], "attempts": 2}
