"""
The recipes for synchronous frameworks run as printed.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys

from pathlib import Path

import pytest

from celery import Celery
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


def paths(protocol):
    """Return the paths of a return and of webhooks."""
    return_url = f"{protocol.return_url('customer-42')}?success=false"
    return [
        url.removeprefix("https://lender.example")
        for url in (return_url, protocol.webhook_url)
    ]


# A customer of the project of the page, from the login to the statements.
PLAY = """
import os
import time

import django

from bankconnect_async import BlockingPortal
from bankconnect_async.sandbox import Sandbox
from bankconnect_async.testing import enrichment_webhook

django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

call_command("makemigrations", "loans", verbosity=0)
call_command("migrate", verbosity=0)
sandbox = Sandbox("session")
with BlockingPortal(sandbox) as sandbox_portal:
    os.environ["BANKCONNECT_BASE_URL"] = sandbox.base_url
    os.environ["BANKCONNECT_API_KEY"] = sandbox.api_key
    os.environ["BANKCONNECT_SERVER_HASH"] = sandbox.server_hash
    from bank_service import bank, portal, protocol
    from loans.models import Outcome
    from shop.asgi import application

    def path(url):
        return url.removeprefix("https://lender.example")

    browser = Client(headers={"Host": "lender.example"})
    print(browser.get("/bank/connect").status_code)
    browser.force_login(User.objects.create_user("ada", id=7))
    print(browser.get("/transactions").status_code)
    print(browser.get("/connect").status_code)
    [session_id] = sandbox.sessions
    played = sandbox_portal.call(sandbox.play, session_id, "success")
    print(browser.get(path(played.redirect)).status_code)
    portal.call(bank.session(session_id).wait, timeout=60)
    told = enrichment_webhook(session_id)
    url = path(protocol.webhook_url)
    for _ in range(2):
        sent = browser.post(url, told, content_type="application/json")
        print(sent.status_code)
    while Outcome.objects.count() < 2:
        time.sleep(0.01)
    print(len(browser.get("/transactions").json()["transactions"]) > 10)
    call_command("sweep")
    portal.close()
    for outcome in Outcome.objects.order_by("kind"):
        print(outcome.kind, outcome.link_id, len(outcome.key))
"""


@pytest.mark.long
def test_django(tmp_path):
    """
    The project takes a customer's journey, and saves each outcome once.
    """
    start = [sys.executable, "-m", "django", "startproject", "shop", "."]
    subprocess.run(start, cwd=tmp_path, check=True)
    settings = tmp_path / "shop" / "settings.py"
    settings.write_text(
        f"{settings.read_text()}\n"
        "INSTALLED_APPS += ['loans']\n"
        "ALLOWED_HOSTS = ['lender.example']\n"
    )
    for block in blocks("Django"):
        name, _, text = block.removeprefix("# ").partition("\n")
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    played = subprocess.run(
        [sys.executable, "-c", PLAY],
        cwd=tmp_path,
        env={
            **os.environ,
            "BANKCONNECT_CALLBACK_URL": "https://lender.example/bank",
            "BANKCONNECT_SIGNING_KEY": "s" * 32,
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert played.returncode == 0, played.stderr
    assert played.stdout.splitlines() == [
        *("401", "404", "302", "200", "200", "200", "True"),
        "SweepReport(checked=0, found=0, closed=0, failures={})",
        "EnrichmentWebhook user-7 40",
        "SuccessEvent user-7 40",
    ]


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

    (tmp_path / "bank_service.py").write_text(
        "from bankconnect_async import BlockingPortal\n"
        "portal = BlockingPortal()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = {}
    exec(hook, names)  # noqa: S102
    names["post_worker_init"](None)
    portal = sys.modules.pop("bank_service").portal
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
