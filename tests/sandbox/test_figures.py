"""
The large analyses: the documented names, and values from the transactions.
"""

import collections
import csv
import datetime
import statistics

from pathlib import Path

import aiohttp
import pytest

from bankconnect_async.sandbox import Sandbox, statement_pdf
from bankconnect_async.testing import FakeClock


LISTS = Path(__file__).parents[2] / "docs" / "contract" / "fields"
KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}
LINK_ID = "cust-7f31-0042"
EPOCH = 1775026114.0
ASKED = {"from_date": "01/10/2025", "to_date": "31/03/2026"}
MONTHS = [
    "Mar-2026",
    "Feb-2026",
    "Jan-2026",
    "Dec-2025",
    "Nov-2025",
    "Oct-2025",
]
TYPES = {
    "boolean": bool,
    "dict": dict,
    "Float": int | float,
    "Integer": int,
    "number": int | float,
    "string": str,
    "String": str,
}


def read_list(name):
    """
    Return the type of each documented name.
    """
    text = (LISTS / name).read_text(encoding="utf-8")
    if name.endswith(".txt"):
        return dict.fromkeys(text.split(), "by month: number")
    return {
        row["field"]: row["type"] for row in csv.DictReader(text.splitlines())
    }


def is_of(value, kind):
    """
    Tell whether a value is of a documented type.
    """
    if kind == "null":
        return isinstance(value, bool | int | float | str | None)
    if value is None:
        return kind.endswith("or null")
    expected = TYPES[kind.partition(" ")[0]]
    return isinstance(value, expected) and (
        expected is bool or not isinstance(value, bool)
    )


def check_names(values, name):
    """
    Check that the values have the names and types of a list.
    """
    documented = read_list(name)
    assert values.keys() == documented.keys()
    wrong = {}
    for field, kind in documented.items():
        one = kind.removeprefix("by month: ")
        found = [values[field]]
        if one != kind:
            assert set(values[field]) == set(MONTHS)
            found = values[field].values()
        if not all(is_of(value, one) for value in found):
            wrong[field] = values[field]
    assert not wrong


def pdf(first, bank="axis"):
    """
    Return a statement from a day until the last day that is asked for.
    """
    return statement_pdf(
        bank, LINK_ID, from_date=first, to_date=datetime.date(2026, 3, 31)
    )


@pytest.fixture(name="insights")
def _insights(http, create):
    """
    Process statements of a session, and return what a path answers.
    """

    async def insights(*banks, first=datetime.date(2025, 10, 1), path):
        async with Sandbox(
            "session", clock=FakeClock(epoch=EPOCH), processing_time=0
        ) as sandbox:
            session = await create(sandbox, **ASKED, accept_anything=True)
            for bank in banks:
                data = aiohttp.FormData({"upload_type": "PDF"})
                data.add_field("session_id", session.session_id)
                data.add_field("file", pdf(first, bank), filename="a.pdf")
                await http.post(
                    f"{sandbox.base_url}/v1/statement/upload_session/",
                    data=data,
                    headers=KEY,
                )
            url = f"{sandbox.base_url}/v1/session_data/{session.session_id}"
            await http.post(f"{url}/initiate_processing/", headers=BOTH)
            async with http.get(f"{url}/{path}/", headers=BOTH) as response:
                assert response.status == 200
                return await response.json()

    return insights


@pytest.fixture(name="analysis")
def _analysis(http):
    """
    Process a statement of an entity, and return what paths answer.
    """

    async def analysis(*paths, first=datetime.date(2025, 10, 1)):
        async with Sandbox(
            "entity", clock=FakeClock(epoch=EPOCH), processing_time=0
        ) as sandbox:
            data = aiohttp.FormData({"link_id": LINK_ID, "bank_name": "axis"})
            data.add_field("file", pdf(first), filename="a.pdf")
            base = f"{sandbox.base_url}/v1"
            async with http.post(
                f"{base}/statement/upload/", data=data, headers=KEY
            ) as response:
                entity_id = (await response.json())["entity_id"]
            found = []
            for path in paths:
                url = f"{base}/entity/{entity_id}/{path}/"
                async with http.get(url, headers=BOTH) as response:
                    found.append(await response.json())
        return found

    return analysis


async def test_entity_names(analysis):
    """
    The analyses of the entity flow have the documented names and types.
    """
    monthly, flat, predictors = await analysis(
        "monthly_analysis_updated", "monthly_analysis", "predictors"
    )

    ((account,),) = (
        each.values() for each in monthly["monthly_analysis"]["account_id"]
    )
    (variables,) = predictors["predictors"]
    check_names(
        account["monthly_analysis"], "entity.monthly_analysis_updated.txt"
    )
    check_names(
        flat["monthly_analysis"], "entity.monthly_analysis_updated.txt"
    )
    check_names(variables["predictors"], "entity.predictors.csv")


async def test_session_names(insights):
    """
    The insights of a session have the documented names and types.
    """
    body = await insights("axis", path="insights")

    (account,) = body["accounts"]
    for name in ("monthly_analysis", "predictors"):
        check_names(account["data"][name], f"insights.{name}.csv")
    check_names(
        body["aggregate_monthly_analysis"],
        "insights.aggregate_monthly_analysis.csv",
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("predictors", "predictors"),
        ("monthly_analysis_updated", "monthly_analysis"),
    ],
)
async def test_parts(insights, path, name):
    """
    A single part of the insights has the same names.
    """
    body = await insights("axis", path=path)

    check_names(body[name][0][name], f"insights.{name}.csv")


def total(rows, **kind):
    """
    Return the sum over the rows of a kind.
    """
    return sum(
        row["amount"]
        for row in rows
        if all(row[name] == value for name, value in kind.items())
    )


def by_month(rows):
    """
    Group rows by month.
    """
    groups = collections.defaultdict(list)
    for row in rows:
        day = datetime.datetime.fromisoformat(row["date"])
        groups[f"{day:%b-%Y}"].append(row)
    return groups


async def test_sums(analysis):
    """
    Sums, counts and means of each month are those of the transactions.
    """
    rows, figures, variables = await analysis(
        "transactions", "monthly_analysis", "predictors"
    )
    figures = figures["monthly_analysis"]
    groups = by_month(rows["transactions"])
    predictors = variables["predictors"][0]["predictors"]

    assert set(groups) == set(MONTHS)
    for number, month in enumerate(MONTHS):
        group = groups[month]
        debits = [row for row in group if row["transaction_type"] == "debit"]
        credited = total(group, transaction_type="credit")
        expected = {
            "amt_credit": credited,
            "amt_debit": total(debits),
            "cnt_debit": len(debits),
            "cnt_transactions": len(group),
            "amt_upi_debit": total(debits, transaction_channel="upi"),
            "amt_bill_payment_debit": total(
                debits, transaction_channel="bill_payment"
            ),
            "amt_emi_debit": total(debits, description="lender_transaction"),
            "amt_investment": total(debits, transaction_channel="investment"),
            "total_amount_of_salary": total(
                group, transaction_channel="salary"
            ),
            "avg_debit_transaction_size": total(debits) / len(debits),
            "net_cash_inflow": credited - total(debits),
            "closing_balance": group[-1]["balance"],
            "max_bal": max(row["balance"] for row in group),
            "avg_bal": statistics.fmean(row["balance"] for row in group),
            "amt_chq_debit": 0,
        }
        for name, value in expected.items():
            assert figures[name][month] == pytest.approx(value, abs=0.01)
        assert predictors[f"credits_{number}"] == pytest.approx(credited)
        assert predictors[f"number_of_transactions_{number}"] == len(group)
        assert predictors[f"bal_last_{number}"] == group[-1]["balance"]


async def test_totals(insights):
    """
    Variables over several months or days are sums over the transactions.
    """
    body = await insights("axis", path="insights")
    data = body["accounts"][0]["data"]
    variables, rows = data["predictors"], data["transactions"]
    groups = by_month(rows)
    latest = [row for month in MONTHS[:3] for row in groups[month]]
    debited = total(rows, transaction_type="debit")
    last_day = datetime.datetime.fromisoformat(rows[-1]["date"])
    recent = [
        row
        for row in rows
        if last_day - datetime.datetime.fromisoformat(row["date"])
        < datetime.timedelta(days=30)
    ]
    small = [row for row in recent if row["amount"] < 10_000]
    expected = {
        "debits": debited,
        "total_debit_amount_last_3_months": total(
            latest, transaction_type="debit"
        ),
        "avg_monthly_debits": debited / 6,
        "amt_credit_last_30_days": total(recent, transaction_type="credit"),
        "amt_credit_last_30_days_lt_10k": total(
            small, transaction_type="credit"
        ),
        "sum_of_closing_balance": sum(
            groups[month][-1]["balance"] for month in MONTHS
        ),
        "total_number_of_salary_credits": 6,
        "month_duration": 6,
    }
    for name, value in expected.items():
        assert variables[name] == pytest.approx(value, abs=0.02), name
    assert variables["author_fraud"] is False
    assert variables["is_salary_present"] is True
    assert variables["employer_name_0"].startswith("SAMPLE EMPLOYER")
    assert variables["credits_11"] is None


async def test_aggregate(insights):
    """
    The aggregate of two accounts has the sums of both.
    """
    body = await insights("axis", "hdfc", path="insights")

    first, second = (
        account["data"]["monthly_analysis"] for account in body["accounts"]
    )
    both = body["aggregate_monthly_analysis"]
    for name in (
        "amt_credit",
        "cnt_debit",
        "amt_upi_debit",
        "opening_balance",
        "closing_balance",
        "eod_bal_on_10",
    ):
        for month in MONTHS:
            assert both[name][month] == pytest.approx(
                first[name][month] + second[name][month]
            )


async def test_short(analysis):
    """
    Variables of months without transactions are `null`.
    """
    first = datetime.date(2026, 2, 1)

    (body,) = await analysis("predictors", first=first)

    (entry,) = body["predictors"]
    variables = entry["predictors"]
    assert variables.keys() == read_list("entity.predictors.csv").keys()
    assert variables["month_1"] == "Feb-26"
    assert variables["credits_1"] > 0
    for name in ("month_2", "credits_2", "balance_on_10th_5"):
        assert variables[name] is None


async def test_nothing(insights, analysis):
    """
    A statement without transactions has the same names.
    """
    first = datetime.date(2026, 3, 30)

    body = await insights("axis", first=first, path="insights")
    (entity,) = await analysis("predictors", first=first)

    (account,) = body["accounts"]
    assert account["data"]["transactions"] == []
    assert (
        account["data"]["predictors"].keys()
        == read_list("insights.predictors.csv").keys()
    )
    (entry,) = entity["predictors"]
    assert entry["predictors"]["month_0"] is None
    assert entry["predictors"]["credits"] == 0
