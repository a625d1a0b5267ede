"""
Every text of the contract's ``messages.csv``, as the sandbox sends it.
"""

import csv
import datetime
import re

from pathlib import Path

import pytest

from bankconnect_async.sandbox import UNPAID_API_KEY, Sandbox, statement_pdf
from bankconnect_async.testing import FakeClock


CONTRACT = Path(__file__).parents[2] / "docs" / "contract" / "messages.csv"
ROWS = list(csv.DictReader(CONTRACT.read_text(encoding="utf-8").splitlines()))
KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}
LINK_ID = "cust-7f31-0042"
EPOCH = 1775026114.0
ASKED = {"from_date": "01/10/2025", "to_date": "31/03/2026"}


def statement(last=(2026, 3, 31), **settings):
    """
    Return a statement that begins with the days that sessions ask for.
    """
    return statement_pdf(
        "axis",
        LINK_ID,
        from_date=datetime.date(2025, 10, 1),
        to_date=datetime.date(*last),
        **settings,
    )


PDF = statement()
# The form fields of an upload that has this outcome.
UPLOADS = {
    "SESSION_EXPIRED": {},
    "TRIAL_PERIOD_EXPIRED": {},
    "(auth)": {},
    "(session flow not enabled)": {},
    "MISSING_FILE_OBJECT": {"file": None},
    "INVALID_FILE_OBJECT (no form field)": {},
    "INVALID_FILE_OBJECT (unreadable)": {"file": b"junk"},
    "EMPTY_FILE": {"file": b""},
    "INVALID_FILE_URL": {"file": None, "file_url": "x"},
    "INVALID_BASE_64": {"file": "<>", "upload_type": "BASE64"},
    "PASSWORD_INCORRECT": {"file": statement(password="secret")},
    "PDF_IS_IMAGE": {"file": statement(scanned=True)},
    "STATEMENT_UNSUPPORTED_FORMAT": {
        "file": PDF.replace(b"Balance", b"Ballast")
    },
    "STATEMENT_DUPLICATE": {},
    "OUT_OF_DATE_RANGE": {
        "file": statement_pdf(
            from_date=datetime.date(2019, 1, 1),
            to_date=datetime.date(2019, 6, 30),
        )
    },
    "BANK_NAME_UNDETECTED": {"file": PDF.replace(b"Axis Bank", b"Some Bank")},
    "BANK_NAME_MISMATCH": {"bank_name": "hdfc"},
    "INVALID_ACCOUNT_CATEGORY": {"account_category": "PIRATE"},
    "(bank_name not in the list)": {"bank_name": "moon"},
}
HEADERS = {
    "TRIAL_PERIOD_EXPIRED": {"x-api-key": UNPAID_API_KEY},
    "(auth)": {"x-api-key": "another"},
    "INVALID_FILE_OBJECT (no form field)": {
        **KEY,
        "Content-Type": "application/json",
    },
}
# The last day of the statement, and what the account then lacks.
GAPS = {
    "INCOMPLETE_MONTHS": ((2026, 1, 31), "Feb 2026, Mar 2026"),
    "INCOMPLETE_MONTHS_UPLOAD": ((2026, 1, 31), "Feb 2026, Mar 2026"),
    "INCOMPLETE_DATES_UPLOAD": ((2026, 3, 29), '{"Mar 2026": [30, 31]}'),
}


def rows_of(where):
    """
    Return the rows of one part of the table, each with its code as id.
    """
    return [
        pytest.param(row, id=row["code"])
        for row in ROWS
        if row["where"] == where
    ]


@pytest.fixture(name="upload")
def _upload(http, form):
    """
    Upload a statement into a session, and return status and JSON.
    """

    async def upload(sandbox, session, headers=KEY, **fields):
        fields = {
            "file": PDF,
            "upload_type": "PDF",
            "session_id": session.session_id,
            **fields,
        }
        url = f"{sandbox.base_url}/v1/statement/upload_session/"
        body = b"{}" if "Content-Type" in headers else form(fields)
        async with http.post(url, data=body, headers=headers) as response:
            return response.status, await response.json()

    return upload


def text_of(body):
    """
    Return the text of an error in any of the documented shapes.
    """
    if "error" in body:
        return body["error"]["message"]
    return body["message"] if "message" in body else body["bank_name"][0]


def test_every_part_is_here():
    """
    No part of the table is without a test.
    """
    assert {row["where"] for row in ROWS} == {
        "upload_session",
        "account status",
        "statement status",
        "browser event",
    }


@pytest.mark.parametrize("row", rows_of("upload_session"))
async def test_uploads(create, upload, row):
    """
    An upload is refused with the documented status, code and text.
    """
    code = row["code"]
    is_other_flow = code == "(session flow not enabled)"
    dialect = "entity" if is_other_flow else "session"
    async with Sandbox(dialect, clock=FakeClock(epoch=EPOCH)) as sandbox:
        session = await create(sandbox, **ASKED)
        if code == "SESSION_EXPIRED":
            sandbox.expire(session.session_id)
        if code == "STATEMENT_DUPLICATE":
            await upload(sandbox, session)
        status, body = await upload(
            sandbox, session, HEADERS.get(code, KEY), **UPLOADS[code]
        )

    expected = re.escape(row["text"].format(selected_bank_name="hdfc"))
    assert status == int(row["status"])
    assert re.fullmatch(
        expected.replace(r"\[\.\.\.\]", r"\[.*axis.*\]"), text_of(body)
    )
    if not code.startswith("("):
        assert body["error"]["code"] == code.partition(" ")[0]


@pytest.fixture(name="finish")
def _finish(http, create, upload):
    """
    Process a statement to its failure, and return the account's status.
    """

    async def finish(last=(2026, 3, 31), **failure):
        clock = FakeClock(epoch=EPOCH)
        async with Sandbox("session", clock=clock) as sandbox:
            session = await create(sandbox, **ASKED)
            await upload(sandbox, session, file=statement(last))
            url = f"{sandbox.base_url}/v1/session_data/{session.session_id}"
            await http.post(f"{url}/initiate_processing/", headers=BOTH)
            sandbox.finish(session.session_id, **failure)
            async with http.get(
                f"{url}/session_status/", headers=BOTH
            ) as response:
                (account,) = (await response.json())["accounts"]
        return account

    return finish


@pytest.mark.parametrize("row", rows_of("account status"))
async def test_accounts(finish, row):
    """
    A failed account has the documented text, with what it lacks.
    """
    last, lack = GAPS.get(row["code"], ((2026, 3, 31), ""))

    account = await finish(last, error_code=row["code"])

    text = row["text"].replace("Nov 2023, Dec 2023", lack).replace("{}", lack)
    assert account["account_status"] == "failed"
    assert (account["error_code"], account["error_message"]) == (
        row["code"],
        text,
    )


@pytest.mark.parametrize("row", rows_of("statement status"))
async def test_statements(finish, row):
    """
    A failed statement has the documented text; its account is unparsable.
    """
    account = await finish(statement_error_code=row["code"])

    (failed,) = account["statements"]
    assert failed["statement_status"] == "failed"
    assert (failed["error_code"], failed["error_message"]) == (
        row["code"],
        row["text"],
    )
    assert account["error_code"] == "UNPARSABLE"


async def test_nothing_lacks(finish):
    """
    An account that is made to fail for gaps without any lacks every month.
    """
    account = await finish(error_code="INCOMPLETE_MONTHS")

    assert account["error_message"].endswith(
        "for Oct 2025, Nov 2025, Dec 2025, Jan 2026, Feb 2026, Mar 2026"
    )


@pytest.fixture(name="fail")
def _fail(http, create):
    """
    Fail on the journey's page, and return the reason that it posts.
    """

    async def fail(dialect, error_type):
        clock = FakeClock(epoch=EPOCH)
        async with Sandbox(dialect, clock=clock) as sandbox:
            session = await create(sandbox, **ASKED)
            step = {"action": "failure", "error_type": error_type}
            async with http.post(session.redirect_url, json=step) as response:
                (message,) = (await response.json())["messages"]
        return message["payload"]["reason"]

    return fail


@pytest.mark.parametrize("dialect", ["entity", "session"])
@pytest.mark.parametrize("row", rows_of("browser event"))
async def test_events(fail, row, dialect):
    """
    A failure in the browser has the documented reason.
    """
    text = row["text"].replace("fromDate", ASKED["from_date"])

    reason = await fail(dialect, row["code"])

    assert reason == text.replace("toDate", ASKED["to_date"])


async def test_unusable_in_the_seed(fail):
    """
    The seed has no codes, so its reason for an unusable PDF is not blank.
    """
    assert await fail("seed", "MU006") == "PDF is not parsable"
