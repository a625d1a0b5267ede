"""
The recipes for synchronous frameworks run as printed.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys

from pathlib import Path
from types import SimpleNamespace

import pytest

from celery import Celery
from django.test import Client, override_settings
from flask.testing import FlaskClient

from bankconnect_async.sandbox import Sandbox


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "web-frameworks.md").read_text()
WEBHOOK = {"progress": "completed", "entity_id": "e-1"}
# A visit that creates no session.
PREFETCH = {"Cookie": "customer=customer-42", "Sec-Purpose": "prefetch"}


def blocks(section):
    """Return the Python blocks of a section."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(name="run")
def _run(tmp_path, monkeypatch):
    """Run the blocks of a section; return their names."""
    name, text = re.search(
        r"```python\n# (bank_service.py)\n(.*?)```", PAGE, re.DOTALL
    ).groups()
    (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"__name__": "recipe"}

    def run(section):
        for block in blocks(section):
            exec(block, names)  # noqa: S102
        return names

    yield run
    sys.modules.pop("bank_service", None)
    if "portal" in names:
        names["portal"].close()


def add_user(get_response):
    """Set the user of a request, as the middleware of a project does."""

    def respond(request):
        has_login = "customer" in request.COOKIES
        request.user = SimpleNamespace(is_authenticated=has_login, pk=42)
        return get_response(request)

    return respond


def paths(protocol):
    """Return the paths of a return and of webhooks."""
    return_url = f"{protocol.return_url('customer-42')}?success=false"
    return [
        url.removeprefix("https://lender.example")
        for url in (return_url, protocol.webhook_url)
    ]


def test_django(run, capsys):
    """
    The URL patterns answer, and the portal can live with an ASGI server.
    """
    names = run("Django")
    back, webhook = paths(names["service"].protocol)
    with override_settings(
        MIDDLEWARE=[f"{__name__}.add_user"],
        ROOT_URLCONF=tuple(names["urlpatterns"]),
    ):
        client = Client(headers={"Host": "lender.example"})
        answers = [
            client.get("/bank/connect"),
            client.get("/bank/connect", headers=PREFETCH),
            client.get(back),
            client.post(webhook, WEBHOOK, content_type="application/json"),
        ]
    names["portal"].close()

    assert [answer.status_code for answer in answers] == [401, 403, 200, 200]
    assert re.findall(r"(\w+)\(", capsys.readouterr().out) == [
        *("ExitEvent", "ExtractionWebhook")
    ]
    assert callable(names["application"])


def test_flask(run, capsys):
    """
    The endpoints answer beside the views of Flask.
    """
    names = run("Flask")
    back, webhook = paths(names["service"].protocol)
    client = FlaskClient(names["app"], use_cookies=False)
    answers = [
        client.get("/bank/connect"),
        client.get("/bank/connect", headers=PREFETCH),
        client.get(back),
        client.post(webhook, json=WEBHOOK),
        client.get("/uploads"),
    ]
    names["portal"].close()

    assert [answer.status_code for answer in answers] == [
        *(401, 403, 200, 200, 404)
    ]
    assert re.findall(r"(\w+)\(", capsys.readouterr().out) == [
        *("ExitEvent", "ExtractionWebhook")
    ]


def test_portal(capsys, monkeypatch, tmp_path):
    """
    A script creates a session, and gunicorn starts the portal of a worker.
    """
    script, hook = blocks("Portals")
    exec(script, {})  # noqa: S102
    assert capsys.readouterr().out == "customer-42\n"

    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "urls.py").write_text(
        "from bankconnect_async import BlockingPortal\n"
        "portal = BlockingPortal()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = {}
    exec(hook, names)  # noqa: S102
    names["post_worker_init"](None)
    portal = sys.modules.pop("shop.urls").portal
    with contextlib.closing(portal):
        assert portal.call(asyncio.sleep, 0, "done") == "done"


@pytest.mark.long
def test_celery(tmp_path):
    """
    The processes of a Celery worker create sessions, each in a loop of its
    own, and end cleanly.
    """
    asyncio.run(_run_worker(tmp_path))


async def _run_worker(folder):
    (folder / "tasks.py").write_text(blocks("Celery")[0])
    queue = folder / "queue"
    queue.mkdir()
    transport = {"data_folder_in": str(queue), "data_folder_out": str(queue)}
    transport["control_folder"] = str(folder / "control")
    transport["polling_interval"] = 0.02
    (folder / "worker.py").write_text(
        f"from tasks import app\n"
        f"app.conf.broker_transport_options = {transport!r}\n"
    )
    celery = Celery(broker="filesystem://localhost")
    celery.conf.broker_transport_options = transport
    command = "-m celery -q -A worker worker --pool=prefork --concurrency=2"
    quiet = "--without-gossip --without-mingle --without-heartbeat"
    async with Sandbox() as sandbox:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command.split(),
            *quiet.split(),
            cwd=folder,
            env={
                **os.environ,
                "BANKCONNECT_API_KEY": sandbox.api_key,
                "BANKCONNECT_BASE_URL": str(sandbox.base_url),
                "BANKCONNECT_REDIRECT_URL": "https://lender.example",
                "CELERY_BROKER_URL": "filesystem://localhost",
                "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}",
            },
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            link_ids = {f"customer-{number}" for number in range(10)}
            for link_id in link_ids:
                await asyncio.to_thread(
                    celery.send_task, "tasks.create_session", [link_id]
                )
            async with asyncio.timeout(60):
                while len(sandbox.sessions) < len(link_ids):
                    await asyncio.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                _, log = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        created = {session.link_id for session in sandbox.sessions.values()}

    assert created == link_ids
    assert process.returncode == 0
    assert b"Traceback" not in log
