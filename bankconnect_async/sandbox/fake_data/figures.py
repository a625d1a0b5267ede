"""
The vendor's figures about transactions, found by their documented names.

Pure. The names come from the lists of the documentation in ``lists/``. Most
say what they count: ``amt_upi_debit`` is a sum, ``cnt_credit_last_30_days``
covers some days, ``balance_on_10th_2`` belongs to the third last month. What
no transaction tells is zero, false, blank or `null`, by the listed type.
"""

import calendar
import datetime
import functools
import operator
import re
import statistics

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, TypeAlias

from bankconnect_async.sandbox.csv_tables import read_table

from .analyses import (
    Ledger,
    Rows,
    daily_balances,
    long_month,
    mean,
    opening_balance,
    rupees,
    short_day,
    short_month,
)
from .ledgers import FakeAccount, FakeTransaction


#: Makes a figure of transactions, of which there is at least one.
Figure: TypeAlias = Callable[[Ledger], Any]
#: Makes the figure that the match of a pattern describes.
Maker: TypeAlias = Callable[[re.Match[str]], Figure | None]

_MONTH = re.compile(r"(.+)(?<!_bal_on)_(\d|1[01])")
_SIDE = re.compile(r"(.+)_(credit|debit)s?")
_UNITS: Final = {None: 100, "k": 100_000, "lk": 10_000_000}
_STATISTICS: Final[Mapping[str, Callable[[list[int]], float | None]]] = {
    "amt": lambda amounts: rupees(sum(amounts)),
    "cnt": len,
    "max_amt": lambda amounts: rupees(max(amounts, default=0)),
    "min_amt": lambda amounts: rupees(min(amounts)) if amounts else None,
    "avg_amt": mean,
}
_OVER_MONTHS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "avg": statistics.fmean,
    "max": max,
    "min": min,
    "sum": sum,
    "total": sum,
}
# By the first word of a listed type.
_CONVERTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "boolean": bool,
    "dict": dict,
    "Float": float,
    "Integer": int,
    "null": lambda value=None: value,
    "number": lambda value=0: value,
    "string": str,
    "String": str,
}


def monthly_analysis(rows: Rows, names: str) -> dict[str, dict[str, Any]]:
    """
    Return each listed figure of each month.

    Args:
        rows: The transactions.
        names: The list of names.
    """
    months = [
        (long_month(month), group)
        for month, group in Ledger(rows).months.items()
    ]
    return {
        name: {
            month: _convert(_value(name, group), kind)
            for month, group in months
        }
        for name, kind in _read_list(names)
    }


def predictors(
    account: FakeAccount, rows: Rows, names: str, **values: object
) -> dict[str, Any]:
    """
    Return each listed variable of an account.

    Args:
        account: The account.
        rows: Its transactions.
        names: The list of names.
        values: Values that do not follow from the transactions.
    """
    ledger = Ledger(rows)
    months = dict(reversed(ledger.months.items()))
    groups = list(months.values())
    values = {
        "customer_name": account.name,
        "bank_name": account.bank,
        "account_type": "individual",
        "accountnumber": account.number,
        "ifsc_code": account.ifsc,
        "start_date": _value("transaction_start_date", ledger),
        "end_date": _value("transaction_end_date", ledger),
        **{f"month_{n}": short_month(m) for n, m in enumerate(months)},
        **values,
    }
    variables: dict[str, Any] = {}
    for name, kind in _read_list(names):
        month = _MONTH.fullmatch(name)
        if month and int(month[2]) >= len(groups):
            variables[name] = None
        elif name in values:
            variables[name] = _convert(values[name], kind)
        elif month:
            value = _value(month[1], groups[int(month[2])])
            variables[name] = _convert(value, kind)
        else:
            variables[name] = _convert(_value(name, ledger), kind)
    return variables


@functools.cache
def _read_list(names: str) -> list[tuple[str, str]]:
    rows = read_table(f"fake_data/lists/{names}.csv")
    return [
        (name, row["type"].removeprefix("by month: "))
        for name, row in rows.items()
    ]


def _convert(value: Any, kind: str) -> Any:
    if value is None and kind.endswith("or null"):
        return None
    convert = _CONVERTERS[kind.partition(" ")[0]]
    return convert() if value is None else convert(value)


def _value(name: str, rows: Ledger) -> Any:
    figure = find_figure(name)
    return figure(rows) if figure and rows else None


@functools.cache
def find_figure(name: str) -> Figure | None:
    """
    Return the figure of this name, if transactions tell it.
    """
    if alias := read_table("fake_data/figures.csv").get(name):
        return find_figure(alias["figure"])
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    for pattern, make in _PATTERNS.items():
        found = re.fullmatch(pattern, name)
        if found and (figure := make(found)):
            return figure
    return None


def _statistic(found: re.Match[str]) -> Figure | None:
    statistic, name = _STATISTICS[found[1]], found[2]
    rule = read_table("fake_data/selections.csv").get(name)
    if rule is None:
        if (side := _SIDE.fullmatch(name)) is None:
            return None
        rule = {"channel": side[1], "side": side[2]}
    words = [
        (column, value.strip("!").split(), value.startswith("!"))
        for column, value in rule.items()
        if column != "name" and value
    ]

    def amounts(rows: Rows) -> list[int]:
        for column, wanted, is_excluded in words:
            rows = [
                row
                for row in rows
                if (getattr(row, column) in wanted) is not is_excluded
            ]
        return [row.amount for row in rows]

    return lambda rows: statistic(rows.find(name, amounts))


def _over_months(found: re.Match[str]) -> Figure | None:
    figure, combine = find_figure(found[2]), _OVER_MONTHS[found[1]]

    def value(rows: Ledger) -> float | None:
        values = map(figure, rows.months.values()) if figure else ()
        numbers = [each for each in values if isinstance(each, int | float)]
        return round(combine(numbers), 2) if numbers else None

    return value if figure else None


def _of_some(
    name: str,
    what: Hashable,
    is_kept: Callable[[FakeTransaction, datetime.date], bool],
) -> Figure | None:
    # `is_kept` gets the last day, too, and *what* identifies it.
    figure = find_figure(name)

    def keep(rows: Ledger) -> Ledger:
        return Ledger(row for row in rows if is_kept(row, rows[-1].day))

    def value(rows: Ledger) -> Any:
        kept = rows.find(what, keep)
        return figure(kept) if figure and kept else None

    return value if figure else None


def _of_months(found: re.Match[str]) -> Figure | None:
    count = int(found[2])
    return _of_some(
        found[1],
        ("months", count),
        lambda row, last: (
            12 * (last.year - row.day.year) + last.month - row.day.month
            < count
        ),
    )


def _of_days(found: re.Match[str]) -> Figure | None:
    # `last_30_days`, `last_31_60_days` and `c30`.
    name, first, last, short = found.groups()
    ages = range(int(first) - 1 if last else 0, int(last or first or short))
    return _of_some(
        name, ages, lambda row, last: (last - row.day).days in ages
    )


def _of_amounts(found: re.Match[str]) -> Figure | None:
    compare = operator.gt if found[2] == "gt" else operator.lt
    limit = int(found[3]) * _UNITS[found[4]]
    return _of_some(
        found[1],
        (found[2], limit),
        lambda row, _: compare(row.amount, limit),
    )


def _balance_on(day: int, rows: Rows) -> float:
    balance = opening_balance(rows)
    for row in rows:
        if row.day.day <= day:
            balance = row.balance
    return rupees(balance)


def _balances_on(found: re.Match[str]) -> Figure:
    combine, days = _OVER_MONTHS[found[1]], found[2].split("_")
    return lambda rows: round(
        combine([_balance_on(int(day), rows) for day in days]), 2
    )


def _by_day(rows: Ledger) -> list[int]:
    return rows.find(daily_balances, daily_balances)


def _days_of_balance(found: re.Match[str]) -> Figure:
    compare = operator.gt if found[1] == "gt" else operator.lt
    limit = int(found[2]) * _UNITS[found[3]]
    return lambda rows: sum(
        compare(balance, limit) for balance in _by_day(rows)
    )


def _percentage(part: str, whole: str) -> Figure:
    def percentage(rows: Ledger) -> float:
        total = _value(whole, rows)
        return round(100 * _value(part, rows) / total, 2) if total else 0.0

    return percentage


def _months_with(side: str) -> Figure:
    return lambda rows: len(
        {row.day.month for row in rows if side in {row.side, row.channel}}
    )


def _of_salary(text: Callable[[FakeTransaction], str]) -> Figure:
    return lambda rows: max(
        (text(row) for row in rows if row.is_salary), default=None
    )


def _of_balances(statistic: Callable[[list[int]], float]) -> Figure:
    return lambda rows: rupees(statistic([row.balance for row in rows]))


def _last_day(rows: Rows) -> str:
    day = rows[0].day
    return f"{calendar.monthrange(day.year, day.month)[1]}-{long_month(day)}"


# What the name does not describe, or words instead of a number.
_FUNCTIONS: Final[Mapping[str, Figure]] = {
    "opening_balance": lambda rows: rupees(opening_balance(rows)),
    "closing_balance": lambda rows: rupees(rows[-1].balance),
    "avg_bal": _of_balances(statistics.fmean),
    "min_bal": _of_balances(min),
    "max_bal": _of_balances(max),
    "median_balance": _of_balances(statistics.median),
    "mode_balance": _of_balances(statistics.mode),
    "min_eod_balance": lambda rows: rupees(min(_by_day(rows))),
    "max_eod_balance": lambda rows: rupees(max(_by_day(rows))),
    "sum_of_eod_balance": lambda rows: rupees(sum(_by_day(rows))),
    "cnt_of_eod_balance": lambda rows: len(_by_day(rows)),
    "avg_daily_closing_balance": lambda rows: mean(_by_day(rows)),
    "net_cash_inflow": lambda rows: rupees(
        sum(row.signed_amount for row in rows)
    ),
    "annualised_credit": lambda rows: round(
        12 * _value("credits", rows) / len(rows.months), 2
    ),
    "avg_expense_to_income_perc": _percentage("expense", "income"),
    "expense_to_income_ratio": lambda rows: round(
        _value("avg_expense_to_income_perc", rows) / 100, 2
    ),
    "perc_cash_withdrawal": _percentage("total_cash_withdrawal", "debits"),
    "month_duration": lambda rows: len(rows.months),
    "cnt_of_months_with_credits": _months_with("credit"),
    "cnt_of_months_with_salary_credits": _months_with("salary"),
    "is_complete_month": lambda _: 1,
    "is_salary_present": lambda rows: any(row.is_salary for row in rows),
    "employer_name": _of_salary(lambda row: row.payee),
    "salary_date": _of_salary(lambda row: short_day(row.day)),
    "latest_salary_month": _of_salary(lambda row: f"{row.day:%Y-%m}"),
    "start_date": lambda rows: f"01-{long_month(rows[0].day)}",
    "end_date": _last_day,
    "transaction_start_date": lambda rows: short_day(rows[0].day),
    "transaction_end_date": lambda rows: short_day(rows[-1].day),
    "no_of_days_to_serve_cc_interest": lambda _: "0",
}
# The first one that makes a figure counts.
_PATTERNS: Final[Mapping[str, Maker]] = {
    r"(?:eod_bal|balance|balance_net_off)_o[nf]_(\d+)(?:st|th)?": (
        lambda found: functools.partial(_balance_on, int(found[1]))
    ),
    r"(sum|avg)_of_eod_bal_on_(\d+(?:_\d+)+)": _balances_on,
    r"(?:cnt|no_of)_(?:days_)?eod(?:_bal)?_(lt|less_than|gt)_(\d+)(k|lk)?": (
        _days_of_balance
    ),
    r"perc_salary_spend_(.+)": (
        lambda found: _percentage(f"amt_{found[1]}_debit", "total_salary")
    ),
    # No fake transaction is a reversal, a bounce or a business's.
    r"(.+)_(?:transactions?|txn"
    r"|(?:excluding|wo)_(?:reversal|bounce|business_credit))": (
        lambda found: find_figure(found[1])
    ),
    rf"({'|'.join(_STATISTICS)})_(.+)": _statistic,
    r"(.+?)_(?:in_)?(?:last_?)?(\d+)_?m(?:onths?)?": _of_months,
    r"(.+?)_(?:last_(\d+)(?:_(\d+))?_days|c(\d+))": _of_days,
    r"(.+)_(lt|gt)_(\d+)(k|lk)?": _of_amounts,
    rf"({'|'.join(_OVER_MONTHS)})_(?:of_|monthly_)*(.+?)(?:_per_month)?": (
        _over_months
    ),
}
