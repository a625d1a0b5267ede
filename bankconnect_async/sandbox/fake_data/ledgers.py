"""
Fake accounts and their transactions.

Pure. Everything follows by hash from the owner of an account, month by month,
so any range of dates shows the same rows. Balances add up: each month ends
with a transfer that leaves the opening balance of the next one.
"""

import calendar
import datetime
import functools
import hashlib
import random
import uuid

from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

import attrs

from bankconnect_async.sandbox.csv_tables import read_table


Side: TypeAlias = Literal["debit", "credit"]

# Months are cheap to make again; a load test must not fill the memory.
_CACHED_MONTHS: Final = 512
_MONTHS_PER_YEAR: Final = 12
_INTEREST_MONTHS: Final = 3
_NAMES: Final = (
    "ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE TEN ELEVEN TWELVE"
)
_SHOPS: Final = ("grocer", "canteen", "books", "pharmacy", "cabs", "pump")


@attrs.frozen(kw_only=True)
class FakeAccount:
    """
    One bank account, obviously fake.

    Attributes:
        account_id: A UUID, the same for the same owner, bank and number.
        bank: The bank's identifier in lower case.
        number: The account's number in clear.
        name, address, ifsc, micr: The fields of a statement's head.
    """

    account_id: str
    bank: str
    number: str = attrs.field(repr=False)
    name: str = attrs.field(repr=False)
    address: str = attrs.field(repr=False)
    ifsc: str
    micr: str

    @property
    def masked(self) -> str:
        """The number with its last four digits only."""
        return f"{'X' * 12}{self.number[-4:]}"


@attrs.frozen(kw_only=True)
class FakeTransaction:
    """
    One transaction.

    Attributes:
        account_id: The id of its account.
        day: The day.
        narration: The text that the bank prints.
        payee: The other party's name in the narration.
        side: The side of the account.
        amount: The amount in paise.
        balance: The balance after it, in paise.
        channel, description, merchant: The contract's words for its kind.
        category: The session flow's word for its kind.
        hash: A unique number in hexadecimal.
    """

    account_id: str
    day: datetime.date
    narration: str
    payee: str
    side: Side
    amount: int
    balance: int = 0
    channel: str
    description: str
    merchant: str
    category: str
    hash: str = ""

    @property
    def signed_amount(self) -> int:
        """The change of the balance."""
        return self.amount if self.side == "credit" else -self.amount

    @property
    def is_salary(self) -> bool:
        """Whether it is a salary."""
        return self.channel == "salary"

    @property
    def is_of_lender(self) -> bool:
        """Whether it belongs to a loan."""
        return self.description == "lender_transaction"


@attrs.frozen(kw_only=True)
class Span:
    """
    A range of days, both ends included.
    """

    start: datetime.date
    end: datetime.date

    def __contains__(self, day: datetime.date) -> bool:
        return self.start <= day <= self.end

    @property
    def days(self) -> list[datetime.date]:
        """The days, in order."""
        count = (self.end - self.start).days + 1
        return [self.start + datetime.timedelta(n) for n in range(count)]

    def overlaps(self, other: "Span") -> bool:
        """Tell whether some day is in both."""
        return self.start <= other.end and other.start <= self.end


def fake_account(
    owner: str, bank: str, number: str | None = None
) -> FakeAccount:
    """
    Return an account of *owner* at *bank*.

    Args:
        owner: The link id of the holder.
        bank: The bank's identifier in lower case.
        number: The account's number, if a statement shows one.
    """
    if number is None:
        number = f"{_digest('number', owner, bank) % 10**5:012}"
    names = _NAMES.split()
    holder = _digest("holder", owner)
    code = _digest("branch", owner, bank) % 10**3
    account_id = _digest("account", owner, bank, number)
    return FakeAccount(
        account_id=str(uuid.UUID(int=account_id, version=4)),
        bank=bank,
        number=number,
        name=f"SAMPLE HOLDER {names[holder % len(names)]}",
        address=f"{holder % 97 + 1} SAMPLE STREET",
        ifsc=f"ABCD{code:07}",
        micr=f"{code:09}",
    )


def months(spans: Iterable[Span]) -> list[datetime.date]:
    """
    Return the first day of every month with a day in *spans*, in order.
    """
    indices = {
        index
        for span in spans
        for index in range(_index(span.start), _index(span.end) + 1)
    }
    return [_day(index, 1) for index in sorted(indices)]


def gaps(within: Span, spans: Iterable[Span]) -> Iterator[Span]:
    """
    Yield the ranges of days of *within* that no span covers.
    """
    one_day = datetime.timedelta(days=1)
    day = within.start
    for span in sorted(spans, key=lambda span: span.start):
        if span.start > day and day <= within.end:
            end = min(span.start - one_day, within.end)
            yield Span(start=day, end=end)
        day = max(day, span.end + one_day)
    if day <= within.end:
        yield Span(start=day, end=within.end)


def transactions(
    account: FakeAccount, spans: Iterable[Span]
) -> list[FakeTransaction]:
    """
    Return the transactions on the days of *spans*, in order.
    """
    spans = list(spans)
    return [
        row
        for month in months(spans)
        for row in _month(account.account_id, _index(month))
        if any(row.day in span for span in spans)
    ]


def _index(day: datetime.date) -> int:
    return day.year * _MONTHS_PER_YEAR + day.month - 1


def _day(index: int, day: int) -> datetime.date:
    year, month = divmod(index, _MONTHS_PER_YEAR)
    return datetime.date(year, month + 1, day)


def _digest(*parts: object) -> int:
    text = "/".join(map(str, parts)).encode(errors="backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest())


def _random(*parts: object) -> random.Random:
    return random.Random(_digest(*parts))  # noqa: S311 - to be repeatable


def _amount(generator: random.Random, least: int, most: int) -> int:
    return generator.randrange(least * 100, most * 100 + 1, 50)


def _opening_balance(account_id: str, index: int) -> int:
    return _amount(_random("opening", account_id, index), 5_000, 25_000)


@functools.lru_cache(maxsize=_CACHED_MONTHS)
def _month(account_id: str, index: int) -> tuple[FakeTransaction, ...]:
    rows = sorted(_rows(account_id, index), key=lambda row: row.day)
    balance = _opening_balance(account_id, index)
    # The transfer makes the balance meet the opening one of the next month.
    surplus = balance + sum(row.signed_amount for row in rows)
    surplus -= _opening_balance(account_id, index + 1)
    transfer = _row(account_id, index, "savings", abs(surplus))
    side: Side = "debit" if surplus > 0 else "credit"
    rows.append(attrs.evolve(transfer, side=side))
    finished = []
    for number, row in enumerate(rows):
        balance += row.signed_amount
        digest = f"{_digest('row', account_id, index, number):032x}"
        finished.append(attrs.evolve(row, balance=balance, hash=digest))
    return tuple(finished)


def _rows(account_id: str, index: int) -> Iterator[FakeTransaction]:
    row = functools.partial(_row, account_id, index)
    fixed = _random("always", account_id)
    varying = _random("month", account_id, index)
    month = _day(index, 1).month
    salary = fixed.randrange(40, 91) * 100_000
    yield row(
        "salary",
        salary,
        letter=fixed.choice("ABCDEFGH"),
        month=calendar.month_abbr[month].upper(),
    )
    yield row("rent", salary * fixed.randrange(15, 26) // 100)
    yield row("loan", salary * fixed.randrange(5, 16) // 100)
    yield row("fund", salary * 5 // 100)
    yield row("power", _amount(varying, 400, 2_000))
    yield row("cash", varying.randrange(1, 11) * 50_000)
    day = varying.randrange(11, 27)
    yield row("friend", _amount(varying, 100, 900), day)
    if month % _INTEREST_MONTHS == 0:
        yield row("interest", _amount(varying, 50, 200))
    for number in range(1, varying.randrange(8, 15) + 1):
        shop, day = varying.choice(_SHOPS), varying.randrange(2, 28)
        yield row(shop, _amount(varying, 20, 1_200), day, number=number)


def _row(
    account_id: str,
    index: int,
    kind: str,
    amount: int,
    day: int = 0,
    **values: object,
) -> FakeTransaction:
    fields = read_table("fake_data/ledger.csv")[kind]
    payee = fields["payee"].format(**values)
    return FakeTransaction(
        account_id=account_id,
        day=_day(index, day or int(fields["day"])),
        narration=fields["narration"].format(payee=payee, **values),
        payee=payee,
        side="credit" if fields["side"] == "credit" else "debit",
        amount=amount,
        channel=fields["channel"],
        description=fields["description"],
        merchant=fields["merchant"],
        category=fields["category"],
    )
