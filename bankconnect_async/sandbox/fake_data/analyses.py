"""
What the vendor makes of transactions: figures that agree with the rows.

Pure.
"""

import calendar
import collections
import datetime
import itertools
import statistics

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from .ledgers import FakeAccount, FakeTransaction


_SCORES: Final = range(300, 901)
_TOP: Final = 5
_RECURS: Final = 2
_QUARTER: Final = 3

CHANNELS: Final = (
    "upi",
    "salary",
    "refund",
    "net_banking_transfer",
    "investment",
    "debit_card",
    "chq",
    "cash_withdrawl",
    "cash_deposit",
    "bill_payment",
    "bank_interest",
    "bank_charge",
    "auto_debit_payment_bounce",
    "auto_debit_payment",
    "self_transfer",
    "demand_draft",
    "auto_credit",
)


def rupees(paise: float) -> float:
    """
    Write an amount as a JSON number of rupees.
    """
    return round(paise / 100, 2)


def by_month(
    rows: Iterable[FakeTransaction],
) -> dict[datetime.date, list[FakeTransaction]]:
    """
    Part rows by month, in order.
    """
    return {
        month: list(group)
        for month, group in itertools.groupby(
            rows, key=lambda row: row.day.replace(day=1)
        )
    }


def short_month(month: datetime.date) -> str:
    """
    Write `Mmm-YY`, as top lists, predictors and balances have it.
    """
    return f"{calendar.month_abbr[month.month]}-{month.year % 100:02}"


def long_month(month: datetime.date) -> str:
    """
    Write `Mmm-YYYY`, as monthly figures have it.
    """
    return f"{calendar.month_abbr[month.month]}-{month.year:04}"


def short_day(day: datetime.date) -> str:
    """
    Write `DD-Mmm-YY`.
    """
    return f"{day.day:02}-{short_month(day)}"


def monthly_analysis(
    rows: Sequence[FakeTransaction],
) -> dict[str, dict[str, Any]]:
    """
    Return field to month to figure.
    """
    fields: dict[str, dict[str, Any]] = {}
    for month, group in by_month(rows).items():
        for name, figure in _figures(group).items():
            fields.setdefault(name, {})[long_month(month)] = figure
    return fields


def _figures(rows: Sequence[FakeTransaction]) -> dict[str, Any]:
    credits_, debits = sides(rows)
    salaries = [row.amount for row in rows if row.is_salary]
    emis = [row.amount for row in rows if row.is_of_lender]
    balances = [row.balance for row in rows]
    eod = list(_closings(rows).values())
    return {
        "opening_balance": rupees(opening(rows)),
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
        "perc_salary_spend_cash_withdrawl": _share(
            rows, "cash_withdrawl", sum(salaries)
        ),
        "perc_salary_spend_bill_payment": _share(
            rows, "bill_payment", sum(salaries)
        ),
        **_by_channel(rows),
    }


def _by_channel(rows: Sequence[FakeTransaction]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for channel in CHANNELS:
        for side in ("credit", "debit"):
            amounts = [
                row.amount
                for row in rows
                if row.channel == channel and row.side == side
            ]
            figures[f"amt_{channel}_{side}"] = rupees(sum(amounts))
            figures[f"cnt_{channel}_{side}"] = len(amounts)
    return figures


def _share(rows: Iterable[FakeTransaction], channel: str, whole: int) -> float:
    part = sum(row.amount for row in rows if row.channel == channel)
    return round(100 * part / whole, 2) if whole else 0


def _mean(amounts: Sequence[int]) -> float:
    return rupees(statistics.fmean(amounts)) if amounts else 0


def sides(rows: Iterable[FakeTransaction]) -> tuple[list[int], list[int]]:
    """
    Return the amounts of credits, and those of debits.
    """
    rows = list(rows)
    return (
        [row.amount for row in rows if row.side == "credit"],
        [row.amount for row in rows if row.side == "debit"],
    )


def opening(rows: Sequence[FakeTransaction]) -> int:
    """
    Return the balance before the first of *rows*.
    """
    first = rows[0]
    change = first.amount if first.side == "credit" else -first.amount
    return first.balance - change


def _closings(rows: Iterable[FakeTransaction]) -> dict[datetime.date, int]:
    return {row.day: row.balance for row in rows}


def top_five(
    rows: Sequence[FakeTransaction], side: str
) -> dict[datetime.date, list[FakeTransaction]]:
    """
    Return the largest rows of one side, month by month.
    """
    return {
        month: sorted(
            (row for row in group if row.side == side),
            key=lambda row: -row.amount,
        )[:_TOP]
        for month, group in by_month(rows).items()
    }


def expense_shares(rows: Iterable[FakeTransaction]) -> list[tuple[str, int]]:
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


def recurring(
    rows: Iterable[FakeTransaction], side: str
) -> list[list[FakeTransaction]]:
    """
    Return rows of the same amount, to or from the same, in several months.
    """
    sets: dict[tuple[str, int], list[FakeTransaction]] = {}
    for row in rows:
        if row.side == side:
            sets.setdefault((row.payee, row.amount), []).append(row)
    return [
        group for group in sets.values() if len(by_month(group)) >= _RECURS
    ]


def eod_balances(rows: Sequence[FakeTransaction]) -> dict[str, Any]:
    """
    Return the balance at the end of every calendar day.

    Days before the first row and after the last one are `null`.
    """
    parted = by_month(rows)
    closings = _closings(rows)
    answer: dict[str, Any] = {
        "Months_order": [short_month(month) for month in parted],
        "start_date": [short_day(month) for month in parted],
    }
    balance: int | None = None
    last = rows[-1].day if rows else datetime.date.min
    for month in parted:
        days: list[float | None] = []
        for number in range(calendar.monthrange(month.year, month.month)[1]):
            day = month + datetime.timedelta(days=number)
            balance = closings.get(day, balance)
            is_known = balance is not None and day <= last
            days.append(rupees(balance or 0) if is_known else None)
        answer[short_month(month)] = days
    answer["starting_balance"] = rupees(opening(rows)) if rows else 0.0
    return answer


_FAMILIES: Final[Mapping[str, Callable[[Sequence[FakeTransaction]], Any]]] = {
    "credits": lambda rows: rupees(sum(sides(rows)[0])),
    "debits": lambda rows: rupees(sum(sides(rows)[1])),
    "expense": lambda rows: rupees(sum(sides(rows)[1])),
    "avg_balance": lambda rows: rupees(
        statistics.fmean(row.balance for row in rows)
    ),
    "balance": lambda rows: rupees(rows[-1].balance),
    "cash_withdrawals": lambda rows: sum(
        row.channel == "cash_withdrawl" for row in rows
    ),
    "salary": lambda rows: rupees(
        sum(row.amount for row in rows if row.is_salary)
    ),
    "emi": lambda rows: rupees(
        sum(row.amount for row in rows if row.is_of_lender)
    ),
}


def predictors(
    account: FakeAccount,
    rows: Sequence[FakeTransaction],
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
    for name, figure in _FAMILIES.items():
        if rows:
            variables[name] = figure(rows)
        for number, group in enumerate(groups):
            variables[f"{name}_{number}"] = figure(group) if group else None
    credited = sum(sides(rows)[0])
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


def rolling(rows: Sequence[FakeTransaction]) -> dict[str, Any]:
    """
    Return the withdrawn figures of blocks of months (contract, U-27).
    """
    parted = list(by_month(rows).items())
    latest = len(parted) - 1
    blocks = {
        f"month_{latest - number}": group
        for number, (_, group) in enumerate(parted)
    }
    if len(parted) >= _QUARTER:
        blocks["3_months_group"] = [
            row for _, group in parted[-_QUARTER:] for row in group
        ]
    calendar_ = {short_month(month): group for month, group in parted}
    return {
        "months_order": list(blocks),
        **{name: _block(group) for name, group in blocks.items()},
        "calander_months_order": list(calendar_),
        **{name: _block(group) for name, group in calendar_.items()},
    }


def _block(rows: Sequence[FakeTransaction]) -> dict[str, Any]:
    return {
        "credit": _summary([row for row in rows if row.side == "credit"]),
        "debit": _summary([row for row in rows if row.side == "debit"]),
        "cash_deposit_credit": _summary(
            [row for row in rows if row.channel == "cash_deposit"]
        ),
    }


def _summary(rows: Sequence[FakeTransaction]) -> dict[str, Any]:
    total = rupees(sum(row.amount for row in rows))
    least = min(rows, key=lambda row: row.amount, default=None)
    most = max(rows, key=lambda row: row.amount, default=None)
    return {
        "sum": total if rows else 0,
        "avg": _mean([row.amount for row in rows]),
        "max": most and rupees(most.amount),
        "min": least and rupees(least.amount),
        "count": len(rows),
        "max_date": most and short_day(most.day),
        "min_date": least and short_day(least.day),
        "amt": str(total) if rows else "0",
    }
