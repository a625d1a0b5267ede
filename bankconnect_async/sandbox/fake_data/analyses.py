"""
The vendor's analyses of transactions: figures that agree with the rows.

Pure.
"""

import calendar
import collections
import datetime
import functools
import itertools
import statistics

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from .ledgers import FakeAccount, FakeTransaction, Span


Rows: TypeAlias = Sequence[FakeTransaction]

_T = TypeVar("_T")

_SCORES: Final = range(300, 901)
_TOP: Final = 5
_MONTHS_TO_RECUR: Final = 2
_QUARTER: Final = 3


def rupees(paise: float) -> float:
    """
    Return an amount in rupees.
    """
    return round(paise / 100, 2)


class Ledger(list[FakeTransaction]):
    """
    Transactions that remember what was found in them.

    Hundreds of figures look for the same few things.
    """

    @functools.cached_property
    def months(self) -> "dict[datetime.date, Ledger]":
        """The transactions of each month, in order."""
        groups = itertools.groupby(
            self, key=lambda row: (row.day.year, row.day.month)
        )
        return {
            datetime.date(*month, 1): Ledger(group) for month, group in groups
        }

    @functools.cached_property
    def _found(self) -> dict[Hashable, Any]:
        return {}

    def find(self, what: Hashable, find: "Callable[[Ledger], _T]") -> _T:
        """
        Return what *find* finds, and call it once for each *what*.
        """
        if what not in self._found:
            self._found[what] = find(self)
        found: _T = self._found[what]
        return found


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


def mean(amounts: Sequence[float]) -> float:
    """
    Return the mean in rupees, or 0 of nothing.
    """
    return rupees(statistics.fmean(amounts)) if amounts else 0.0


def opening_balance(rows: Rows) -> int:
    """
    Return the balance before the first transaction.
    """
    return rows[0].balance - rows[0].signed_amount


def daily_balances(rows: Rows) -> list[int]:
    """
    Return the balance at the end of every day between the transactions.
    """
    closing = {row.day: row.balance for row in rows}
    balances = []
    balance = 0
    for day in Span(start=rows[0].day, end=rows[-1].day).days:
        balance = closing.get(day, balance)
        balances.append(balance)
    return balances


def merged(ledgers: Sequence[Rows]) -> list[FakeTransaction]:
    """
    Return the transactions of several accounts, with their total balance.
    """
    balances = {
        rows[0].account_id: opening_balance(rows) for rows in ledgers if rows
    }
    result = []
    for row in sorted(itertools.chain(*ledgers), key=lambda row: row.day):
        balances[row.account_id] = row.balance
        result.append(attrs.evolve(row, balance=sum(balances.values())))
    return result


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
        for month, group in Ledger(rows).months.items()
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
        if len(Ledger(each).months) >= _MONTHS_TO_RECUR
    ]


def eod_balances(rows: Rows) -> dict[str, Any]:
    """
    Return the balance at the end of every calendar day.

    Days before the first transaction and after the last one are `null`.
    """
    months = list(Ledger(rows).months)
    closing = {row.day: row.balance for row in rows}
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
        rupees(opening_balance(rows)) if rows else 0.0
    )
    return balances


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
    months = Ledger(rows).months
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
        "avg": mean(amounts),
        "max": most and rupees(most.amount),
        "min": least and rupees(least.amount),
        "count": len(rows),
        "max_date": most and short_day(most.day),
        "min_date": least and short_day(least.day),
        "amt": str(total),
    }
