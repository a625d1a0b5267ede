"""
Every request of the contract's samples, with and without optional fields.
"""

import base64
import json

from pathlib import Path
from urllib.parse import parse_qsl

import aiohttp
import pytest

from bankconnect_async.sandbox import Sandbox, statement_pdf
from bankconnect_async.testing import FakeClock


FIXTURES = Path(__file__).parents[1] / "fixtures"
KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}
# The days on which the seed's samples and the others were written.
EPOCHS = {
    "seed": 1590040000.0,
    "entity": 1775026114.0,
    "session": 1775026114.0,
}
PDF = statement_pdf("axis", password="secret")
FORM = statement_pdf("hdfc", password="secret")
# The dialect and the version that take a request.
SESSIONS = {
    "seed.full.json": ("seed", "v1"),
    "seed.minimal.json": ("seed", "v1"),
    "seed.form.txt": ("seed", "v1"),
    "v1.entity.full.json": ("entity", "v1"),
    "v1.entity.iframe.json": ("entity", "v1"),
    "v1.session.full.json": ("session", "v1"),
    "v1.session.postman.json": ("session", "v1"),
    "v1.session.tenure_short_name.json": ("session", "v1"),
    "v2.bank_alias.json": ("session", "v2"),
    "v2.body_key.json": ("session", "v2"),
    "v2.full.json": ("session", "v2"),
    "v2.minimal.json": ("session", "v2"),
}
RECURRENCE = {
    "aa_recurring_frequency_unit",
    "aa_recurring_frequency_value",
    "bank_name",
    "mode",
}


def read_sample(name):
    """
    Return the fields of a sample.
    """
    text = (FIXTURES / name).read_text(encoding="utf-8")
    if name.endswith(".txt"):
        return dict(parse_qsl(text.strip()))
    return json.loads(text)


def variants(fields, *required):
    """
    Yield the fields, all but one of them, and those alone.
    """
    minimal = {name: fields[name] for name in required if name in fields}
    yield "all", fields
    for name in fields:
        if name in minimal:
            continue
        others = {key: fields[key] for key in fields if key != name}
        yield f"without {name}", others
        yield f"only {name}", {**minimal, name: fields[name]}
        yield f"null {name}", {**fields, name: None}


def documented_refusal(dialect, body):
    """
    Return the code with which the contract refuses a body, if it does.
    """
    given = {name for name, value in body.items() if value is not None}
    if dialect != "session":
        return None
    if len({"from_date", "to_date"} & given) == 1:
        return "MISSING_DATE_FIELD"
    if "mode" in given and "bank_name" not in given:
        return "MISSING_BANK_NAME"
    if "aa_journey_mode" in given and not given >= RECURRENCE:
        return "MISSING_AA_PARAMETER"
    return None


SESSION_CASES = [
    pytest.param(name, body, id=f"{name}-{what}")
    for name in SESSIONS
    for what, body in variants(
        read_sample(f"session.request.{name}"), "link_id"
    )
]


@pytest.fixture(name="post", scope="module")
def _post():
    """
    Post a request to a sandbox of a dialect, and return status and text.
    """

    async def post(sandbox, path, headers=KEY, **body):
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"{sandbox.base_url}/{path}", headers=headers, **body
            ) as response,
        ):
            return response.status, await response.text()

    return post


@pytest.mark.parametrize(("name", "body"), SESSION_CASES)
async def test_sessions(post, name, body):
    """
    A session is created, unless the contract refuses the combination.
    """
    dialect, version = SESSIONS[name]
    if body.get("api_key"):
        body = {**body, "api_key": "sandbox-api-key"}
    path = f"{version}/session/"
    async with Sandbox(
        dialect, clock=FakeClock(epoch=EPOCHS[dialect])
    ) as sandbox:
        if name.endswith(".txt"):
            data = {key: value or "" for key, value in body.items()}
            status, text = await post(sandbox, path, data=data)
        else:
            status, text = await post(sandbox, path, json=body)

    code = documented_refusal(dialect, body)
    if code is None:
        assert status == 200, text
    else:
        assert (status, json.loads(text)["error"]["code"]) == (400, code)


UPLOAD_CASES = [
    pytest.param(dialect, path, fields, id=f"{dialect}-{sample}-{what}")
    for dialect in ("seed", "entity")
    for path, sample, required in (
        ("upload", "file", ("file", "bank_name", "pdf_password")),
        ("upload", "file_url", ("file_url", "bank_name")),
        ("upload_base64", "base64", ("file", "bank_name")),
        ("bankless_upload", "bankless", ("file",)),
    )
    for what, fields in variants(
        read_sample(f"upload.entity.request.{sample}.fields.json"), *required
    )
]


@pytest.mark.parametrize(("dialect", "path", "fields"), UPLOAD_CASES)
async def test_entity_uploads(post, form, dialect, path, fields):
    """
    An upload of the entity flow is taken with and without its owner.
    """
    async with Sandbox(dialect) as sandbox:
        if fields.get("entity_id"):
            _, text = await post(sandbox, "v1/entity/", data={})
            fields = {**fields, "entity_id": json.loads(text)["entity_id"]}
        if "file" in fields:
            content = PDF if "pdf_password" in fields else statement_pdf()
            encoded = base64.b64encode(content).decode()
            is_text = path.endswith("base64")
            fields = {**fields, "file": encoded if is_text else content}
        status, text = await post(
            sandbox, f"v1/statement/{path}/", data=form(fields)
        )

    assert status == 200, text


SESSION_UPLOAD_CASES = [
    pytest.param(fields, id=f"{sample}-{what}")
    for sample, required in (
        ("file", ("file", "upload_type", "pdf_password")),
        ("file_url", ("file_url", "upload_type")),
        ("base64", ("file", "upload_type")),
    )
    for what, fields in variants(
        read_sample(f"upload.session.request.{sample}.fields.json"),
        "session_id",
        *required,
    )
]


@pytest.mark.parametrize("fields", SESSION_UPLOAD_CASES)
async def test_session_uploads(post, form, fields):
    """
    An upload into a session is taken with and without its bank.
    """
    async with Sandbox("session") as sandbox:
        _, text = await post(sandbox, "v1/session/", json={"link_id": "a"})
        fields = {**fields, "session_id": json.loads(text)["session_id"]}
        if "file" in fields:
            is_secret = "pdf_password" in fields
            content = FORM if is_secret else statement_pdf()
            encoded = base64.b64encode(content).decode()
            is_text = fields["upload_type"] == "BASE64"
            fields = {**fields, "file": encoded if is_text else content}
        status, text = await post(
            sandbox, "v1/statement/upload_session/", data=form(fields)
        )

    assert status == 200, text


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        ("seed", "entity.both_modes"),
        ("seed", "entity.netbanking_only"),
        ("entity", "entity.both_modes"),
        ("entity", "entity.netbanking_only"),
        ("session", "session"),
        ("session", "session.legacy_all_modes"),
        ("session", "session.legacy_list"),
    ],
)
async def test_webhook_updates(post, dialect, name):
    """
    A webhook is set with and without its mode.
    """
    flow = "session_data" if dialect == "session" else "entity"
    sample = read_sample(f"webhook.update.request.{name}.json")
    async with Sandbox(dialect) as sandbox:
        for _, body in variants(sample, "webhook_url"):
            status, text = await post(
                sandbox, f"v1/{flow}/update_webhook/", BOTH, json=body
            )
            assert status == 200, text


@pytest.mark.parametrize("dialect", ["seed", "entity"])
async def test_entities(post, form, dialect):
    """
    An entity is created with and without each of its fields.
    """
    sample = read_sample("entity.create.request.fields.json")
    async with Sandbox(dialect) as sandbox:
        for _, fields in variants(sample):
            data = form(fields)
            status, text = await post(sandbox, "v1/entity/", data=data)
            assert status == 201, text


async def test_consents(post):
    """
    Data are fetched under a consent with the request of the sample.
    """
    request = read_sample("session.request.v1.session.tenure_short_name.json")
    request["api_key"] = "sandbox-api-key"
    consents = "v1/account_aggregator/get_recurring_consent_details/"
    fetch = "v1/account_aggregator/fetch_recurring_aa_data/"
    async with Sandbox("session") as sandbox:
        _, text = await post(sandbox, "v1/session/", json=request)
        session_id = json.loads(text)["session_id"]
        await sandbox.play(session_id, "success")
        _, text = await post(sandbox, f"{consents}?session_id={session_id}")
        (consent,) = json.loads(text)["consent_details"]
        body = {
            **read_sample("aa.fetch_recurring_aa_data.request.json"),
            "consent_id": consent["consent_id"],
        }
        status, text = await post(sandbox, fetch, json=body)

    assert status == 200, text
