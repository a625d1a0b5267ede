"""
The vendor's analyses of transactions: figures that agree with the rows.

Pure.
"""

import calendar
import collections
import datetime
import itertools
import statistics

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from .ledgers import FakeAccount, FakeTransaction


Rows: TypeAlias = Sequence[FakeTransaction]

_SCORES: Final = range(300, 901)
_TOP: Final = 5
_MONTHS_TO_RECUR: Final = 2
_QUARTER: Final = 3
_CHANNELS: Final = (
    "upi salary refund net_banking_transfer investment debit_card chq "
    "cash_withdrawl cash_deposit bill_payment bank_interest bank_charge "
    "auto_debit_payment_bounce auto_debit_payment self_transfer demand_draft "
    "auto_credit"
)


def rupees(paise: float) -> float:
    """
    Return an amount in rupees.
    """
    return round(paise / 100, 2)


def by_month(
    rows: Iterable[FakeTransaction],
) -> dict[datetime.date, list[FakeTransaction]]:
    """
    Group transactions by month, in order.
    """
    return {
        month: list(group)
        for month, group in itertools.groupby(
            rows, key=lambda row: row.day.replace(day=1)
        )
    }


def short_month(month: datetime.date) -> str:
    """
    Return `Mmm-YY`, the form of top lists, predictors and balances.
    """
    return f"{calendar.month_abbr[month.month]}-{month.year % 100:02}"


def long_month(month: datetime.date) -> str:
    """
    Return `Mmm-YYYY`, the form of monthly figures.
    """
    return f"{calendar.month_abbr[month.month]}-{month.year:04}"


def short_day(day: datetime.date) -> str:
    """
    Return `DD-Mmm-YY`.
    """
    return f"{day.day:02}-{short_month(day)}"


def monthly_analysis(rows: Rows) -> dict[str, dict[str, Any]]:
    """
    Return each figure of each month, by the figure's name.
    """
    figures: dict[str, dict[str, Any]] = {}
    for month, group in by_month(rows).items():
        for name, figure in _figures(group).items():
            figures.setdefault(name, {})[long_month(month)] = figure
    return figures


def _figures(rows: Rows) -> dict[str, Any]:
    credits_, debits = _amounts(rows, "credit"), _amounts(rows, "debit")
    salaries, emis = _salaries(rows), _emis(rows)
    balances = [row.balance for row in rows]
    eod = _end_of_day_balances(rows).values()
    figures = {
        "opening_balance": rupees(_opening_balance(rows)),
        "closing_balance": rupees(rows[-1].balance),
        "avg_bal": rupees(statistics.fmean(balances)),
        "min_bal": rupees(min(balances)),
        "max_bal": rupees(max(balances)),
        "median_balance": rupees(statistics.median(balances)),
        "mode_balance": rupees(statistics.mode(balances)),
        "min_eod_balance": rupees(min(eod)),
        "max_eod_balance": rupees(max(eod)),
        "amt_credit": rupees(sum(credits_)),
        "amt_debit": rupees(sum(debits)),
        "cnt_credit": len(credits_),
        "cnt_debit": len(debits),
        "cnt_transactions": len(rows),
        "avg_credit_transaction_size": _mean(credits_),
        "avg_debit_transaction_size": _mean(debits),
        "avg_emi": _mean(emis),
        "net_cash_inflow": rupees(sum(credits_) - sum(debits)),
        "total_amount_of_salary": rupees(sum(salaries)),
        "number_of_salary_transactions": len(salaries),
    }
    for channel in ("cash_withdrawl", "bill_payment"):
        spent = sum(row.amount for row in rows if row.channel == channel)
        share = round(100 * spent / sum(salaries), 2) if salaries else 0
        figures[f"perc_salary_spend_{channel}"] = share
    for channel in _CHANNELS.split():
        of_channel = [row for row in rows if row.channel == channel]
        for side in ("credit", "debit"):
            amounts = _amounts(of_channel, side)
            figures[f"amt_{channel}_{side}"] = rupees(sum(amounts))
            figures[f"cnt_{channel}_{side}"] = len(amounts)
    return figures


def _amounts(rows: Rows, side: str) -> list[int]:
    return [row.amount for row in rows if row.side == side]


def _salaries(rows: Rows) -> list[int]:
    return [row.amount for row in rows if row.is_salary]


def _emis(rows: Rows) -> list[int]:
    return [row.amount for row in rows if row.is_of_lender]


def _mean(amounts: Sequence[int]) -> float:
    return rupees(statistics.fmean(amounts)) if amounts else 0


def _opening_balance(rows: Rows) -> int:
    return rows[0].balance - rows[0].signed_amount


def _end_of_day_balances(rows: Rows) -> dict[datetime.date, int]:
    return {row.day: row.balance for row in rows}


def top_five(
    rows: Rows, side: str
) -> dict[datetime.date, list[FakeTransaction]]:
    """
    Return the largest transactions of one side, month by month.
    """
    return {
        month: sorted(
            (row for row in group if row.side == side),
            key=lambda row: -row.amount,
        )[:_TOP]
        for month, group in by_month(rows).items()
    }


def expense_shares(rows: Rows) -> list[tuple[str, int]]:
    """
    Return spending by category as whole percentages that sum to 100.
    """
    spent: collections.Counter[str] = collections.Counter()
    for row in rows:
        if row.side == "debit":
            spent[row.category] += row.amount
    total = spent.total()
    shares = {name: 100 * part // total for name, part in spent.items()}
    # The largest remainders get what rounding left over.
    by_rest = sorted(spent, key=lambda name: -(100 * spent[name] % total))
    for name in by_rest[: 100 - sum(shares.values())]:
        shares[name] += 1
    return sorted(shares.items(), key=lambda share: (-share[1], share[0]))


def recurring(rows: Rows, side: str) -> list[list[FakeTransaction]]:
    """
    Return series of one amount and one payee that span several months.
    """
    series: dict[tuple[str, int], list[FakeTransaction]] = {}
    for row in rows:
        if row.side == side:
            series.setdefault((row.payee, row.amount), []).append(row)
    return [
        each
        for each in series.values()
        if len(by_month(each)) >= _MONTHS_TO_RECUR
    ]


def eod_balances(rows: Rows) -> dict[str, Any]:
    """
    Return the balance at the end of every calendar day.

    Days before the first transaction and after the last one are `null`.
    """
    months = list(by_month(rows))
    closing = _end_of_day_balances(rows)
    balances: dict[str, Any] = {
        "Months_order": list(map(short_month, months)),
        "start_date": list(map(short_day, months)),
    }
    balance: float | None = None
    for month in months:
        days = balances[short_month(month)] = []
        for number in range(calendar.monthrange(month.year, month.month)[1]):
            day = month + datetime.timedelta(days=number)
            if day in closing:
                balance = rupees(closing[day])
            days.append(balance if day <= rows[-1].day else None)
    balances["starting_balance"] = (
        rupees(_opening_balance(rows)) if rows else 0.0
    )
    return balances


_VARIABLES: Final[Mapping[str, Callable[[Rows], float]]] = {
    "credits": lambda rows: rupees(sum(_amounts(rows, "credit"))),
    "debits": lambda rows: rupees(sum(_amounts(rows, "debit"))),
    "expense": lambda rows: rupees(sum(_amounts(rows, "debit"))),
    "avg_balance": lambda rows: _mean([row.balance for row in rows]),
    "balance": lambda rows: rupees(rows[-1].balance),
    "cash_withdrawals": lambda rows: sum(
        row.channel == "cash_withdrawl" for row in rows
    ),
    "salary": lambda rows: rupees(sum(_salaries(rows))),
    "emi": lambda rows: rupees(sum(_emis(rows))),
}


def predictors(
    account: FakeAccount,
    rows: Rows,
    latest: int = 6,
) -> dict[str, Any]:
    """
    Return the variables of one account.

    Args:
        account: The account.
        rows: Its transactions.
        latest: The number of months that have variables of their own.
    """
    months = dict(reversed(by_month(rows).items()))
    # A month without transactions has variables, too: they are `null`.
    groups = [*months.values(), *[()] * latest][:latest]
    names = [*map(short_month, months), *[None] * latest][:latest]
    variables: dict[str, Any] = {
        "customer_name": account.name,
        "bank_name": account.bank,
        "account_type": "individual",
        "accountnumber": int(account.number),
        "ifsc_code": account.ifsc,
        "start_date": short_day(rows[0].day) if rows else None,
        "end_date": short_day(rows[-1].day) if rows else None,
        "month_duration": len(months),
    }
    for number, name in enumerate(names):
        variables[f"month_{number}"] = name
    for name, figure in _VARIABLES.items():
        if rows:
            variables[name] = figure(rows)
        for number, group in enumerate(groups):
            variables[f"{name}_{number}"] = figure(group) if group else None
    credited = sum(_amounts(rows, "credit"))
    variables["annualised_credit"] = (
        rupees(credited * 12 / len(months)) if months else None
    )
    return variables


def score(account: FakeAccount) -> int:
    """
    Return a score from 300 to 900, always the same for the same account.
    """
    point = int(account.account_id.replace("-", "")[:8], 16)
    return _SCORES[point % len(_SCORES)]


def rolling(rows: Rows) -> dict[str, Any]:
    """
    Return the withdrawn figures of blocks of months (contract, U-27).
    """
    months = by_month(rows)
    groups = list(months.values())
    numbers = reversed(range(len(groups)))
    blocks: dict[str, Rows] = {
        f"month_{number}": group
        for number, group in zip(numbers, groups, strict=True)
    }
    if len(groups) >= _QUARTER:
        quarter = itertools.chain.from_iterable(groups[-_QUARTER:])
        blocks["3_months_group"] = list(quarter)
    by_name = {short_month(month): group for month, group in months.items()}
    return {
        "months_order": list(blocks),
        **{name: _block(group) for name, group in blocks.items()},
        "calander_months_order": list(by_name),
        **{name: _block(group) for name, group in by_name.items()},
    }


def _block(rows: Rows) -> dict[str, Any]:
    return {
        "credit": _summary([row for row in rows if row.side == "credit"]),
        "debit": _summary([row for row in rows if row.side == "debit"]),
        "cash_deposit_credit": _summary(
            [row for row in rows if row.channel == "cash_deposit"]
        ),
    }


def _summary(rows: Rows) -> dict[str, Any]:
    amounts = [row.amount for row in rows]
    total = rupees(sum(amounts)) if rows else 0
    least = min(rows, key=lambda row: row.amount, default=None)
    most = max(rows, key=lambda row: row.amount, default=None)
    return {
        "sum": total,
        "avg": _mean(amounts),
        "max": most and rupees(most.amount),
        "min": least and rupees(least.amount),
        "count": len(rows),
        "max_date": most and short_day(most.day),
        "min_date": least and short_day(least.day),
        "amt": str(total),
    }
