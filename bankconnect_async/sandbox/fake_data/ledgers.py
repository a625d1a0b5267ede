"""
Made-up accounts: who holds them, and what happened on them.

Pure. Everything follows by hash from whose account it is, month by month, so
that any range of dates shows the same rows. Balances add up: each month ends
with a transfer that leaves what the next one begins with.
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


Side: TypeAlias = Literal["debit", "credit"]

# Months are cheap to make up again; a load test must not fill the memory.
_KEPT_MONTHS: Final = 512
_MONTHS_A_YEAR: Final = 12
_QUARTER: Final = 3
_NUMBERS: Final = [
    "ONE",
    "TWO",
    "THREE",
    "FOUR",
    "FIVE",
    "SIX",
    "SEVEN",
    "EIGHT",
    "NINE",
    "TEN",
    "ELEVEN",
    "TWELVE",
]


@attrs.frozen(kw_only=True)
class FakeAccount:
    """
    One bank account, plainly made up.

    Attributes:
        account_id: A UUID, the same for the same owner, bank and number.
        bank: Lower-case identifier.
        number: In clear.
        name, address, ifsc, micr: As they stand on a statement.
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
        """The number as it may be shown."""
        return f"{'X' * 12}{self.number[-4:]}"


@attrs.frozen(kw_only=True)
class FakeTransaction:
    """
    One transaction.

    Attributes:
        account_id: The id of its account.
        day: The day.
        narration: As the bank prints it.
        payee: The other side's name, out of the narration.
        side: Which way the rupees went.
        amount, balance: In paise, the balance after it.
        channel, description, merchant: In the contract's words.
        category: For people, as the session flow has it.
        hash: Unique.
    """

    account_id: str
    day: datetime.date
    narration: str
    payee: str
    side: Side
    amount: int
    balance: int
    channel: str
    description: str
    merchant: str
    category: str
    hash: str

    @property
    def is_salary(self) -> bool:
        """Whether it is a salary."""
        return self.channel == "salary"

    @property
    def is_of_lender(self) -> bool:
        """Whether it is a loan's."""
        return self.description == "lender_transaction"


@attrs.frozen(kw_only=True)
class Span:
    """
    Days, both ends included.
    """

    start: datetime.date
    end: datetime.date

    def __contains__(self, day: datetime.date) -> bool:
        return self.start <= day <= self.end

    def overlaps(self, other: "Span") -> bool:
        """Tell whether some day is in both."""
        return self.start <= other.end and other.start <= self.end


def fake_account(
    owner: str, bank: str, number: str | None = None
) -> FakeAccount:
    """
    Return an account of *owner*, a link id, at *bank*.

    Args:
        owner: Whose.
        bank: Lower-case identifier.
        number: If it is known, as from the text of a statement.
    """
    if number is None:
        number = f"{_digest('number', owner, bank) % 10**5:012}"
    point = _digest("holder", owner)
    code = _digest("branch", owner, bank) % 10**3
    return FakeAccount(
        account_id=_uuid("account", owner, bank, number),
        bank=bank,
        number=number,
        name=f"SAMPLE HOLDER {_NUMBERS[point % len(_NUMBERS)]}",
        address=f"{point % 97 + 1} SAMPLE STREET",
        ifsc=f"ABCD{code:07}",
        micr=f"{code:09}",
    )


def months(spans: Iterable[Span]) -> list[datetime.date]:
    """
    Return the first day of every month with a day in *spans*, in order.
    """
    found = {
        datetime.date(*_year_month(index))
        for span in spans
        for index in range(_index(span.start), _index(span.end) + 1)
    }
    return sorted(found)


def gaps(within: Span, spans: Iterable[Span]) -> Iterator[Span]:
    """
    Yield the days of *within* that no span has.
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
    Return what happened on the days of *spans*, in order.
    """
    spans = list(spans)
    return [
        row
        for month in months(spans)
        for row in _month(account.account_id, _index(month))
        if any(row.day in span for span in spans)
    ]


def _index(day: datetime.date) -> int:
    return day.year * _MONTHS_A_YEAR + day.month - 1


def _year_month(index: int) -> tuple[int, int, int]:
    year, month = divmod(index, _MONTHS_A_YEAR)
    return year, month + 1, 1


def _digest(*parts: object) -> int:
    text = "/".join(map(str, parts)).encode(errors="backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest())


def _uuid(*parts: object) -> str:
    return str(uuid.UUID(int=_digest(*parts), version=4))


def _random_amount(chance: random.Random, least: int, most: int) -> int:
    return chance.randrange(least * 100, most * 100 + 1, 50)


def _opening(key: str, index: int) -> int:
    chance = random.Random(_digest("opening", key, index))  # noqa: S311
    return _random_amount(chance, 5_000, 25_000)


@attrs.frozen
class _Entry:
    day: int
    side: Side
    amount: int
    narration: str
    payee: str
    channel: str
    category: str
    description: str = ""
    merchant: str = ""


_SHOPS: Final = (
    ("SAMPLE GROCER", "groceries", "Groceries"),
    ("SAMPLE CANTEEN", "food", "Food"),
    ("SAMPLE BOOKS", "shopping", "Shopping"),
    ("SAMPLE PHARMACY", "medical", "Medical"),
    ("SAMPLE CABS", "travel", "Travel"),
    ("SAMPLE PUMP", "fuel", "Fuel"),
)


@functools.lru_cache(maxsize=_KEPT_MONTHS)
def _month(key: str, index: int) -> tuple[FakeTransaction, ...]:
    year, month, _ = _year_month(index)
    entries = sorted(_entries(key, index), key=lambda entry: entry.day)
    balance = _opening(key, index)
    # The transfer at the end of the month makes it meet the next one.
    left = balance + sum(map(_signed, entries)) - _opening(key, index + 1)
    entries.append(_transfer(left))
    found = []
    for number, entry in enumerate(entries):
        balance += _signed(entry)
        found.append(
            FakeTransaction(
                account_id=key,
                day=datetime.date(year, month, entry.day),
                narration=entry.narration,
                payee=entry.payee,
                side=entry.side,
                amount=entry.amount,
                balance=balance,
                channel=entry.channel,
                description=entry.description,
                merchant=entry.merchant,
                category=entry.category,
                hash=f"{_digest('row', key, index, number):032x}",
            )
        )
    return tuple(found)


def _signed(entry: _Entry) -> int:
    return entry.amount if entry.side == "credit" else -entry.amount


def _transfer(left: int) -> _Entry:
    return _Entry(
        day=28,
        side="debit" if left > 0 else "credit",
        amount=abs(left),
        narration="IMPS/SAMPLE SAVINGS/SELF",
        payee="SAMPLE SAVINGS",
        channel="self_transfer",
        category="Self Transfer",
    )


def _entries(key: str, index: int) -> Iterator[_Entry]:
    _, month, _ = _year_month(index)
    always = random.Random(_digest("always", key))  # noqa: S311
    chance = random.Random(_digest("month", key, index))  # noqa: S311
    yield from _regular(always, calendar.month_abbr[month].upper())
    yield _Entry(
        7,
        "debit",
        _random_amount(chance, 400, 2_000),
        "BBPS/SAMPLE POWER",
        "SAMPLE POWER",
        "bill_payment",
        "Bills",
        description="electric_bill",
        merchant="bills",
    )
    yield _Entry(
        10,
        "debit",
        chance.randrange(1, 11) * 50_000,
        "ATM/SAMPLE STREET",
        "SAMPLE STREET",
        "cash_withdrawl",
        "Cash",
    )
    yield _Entry(
        chance.randrange(11, 27),
        "credit",
        _random_amount(chance, 100, 900),
        "UPI/SAMPLE FRIEND",
        "SAMPLE FRIEND",
        "upi",
        "Transfer from SAMPLE FRIEND",
    )
    if month % _QUARTER == 0:
        yield _Entry(
            27,
            "credit",
            _random_amount(chance, 50, 200),
            "INTEREST PAID",
            "INTEREST PAID",
            "bank_interest",
            "Interest",
        )
    for number in range(chance.randrange(8, 15)):
        payee, merchant, category = chance.choice(_SHOPS)
        yield _Entry(
            chance.randrange(2, 28),
            "debit",
            _random_amount(chance, 20, 1_200),
            f"UPI/{payee}/{number + 1:04}",
            payee,
            "upi",
            category,
            merchant=merchant,
        )


def _regular(always: random.Random, month: str) -> Iterator[_Entry]:
    salary = always.randrange(40, 91) * 100_000
    employer = f"SAMPLE EMPLOYER {always.choice('ABCDEFGH')}"
    yield _Entry(
        1,
        "credit",
        salary,
        f"NEFT/{employer}/{month}",
        employer,
        "salary",
        "Salary",
    )
    yield _Entry(
        3,
        "debit",
        salary * always.randrange(15, 26) // 100,
        "NEFT/SAMPLE LANDLORD",
        "SAMPLE LANDLORD",
        "net_banking_transfer",
        "Rent",
    )
    yield _Entry(
        5,
        "debit",
        salary * always.randrange(5, 16) // 100,
        "NACH/SAMPLE LENDER/0001",
        "SAMPLE LENDER",
        "auto_debit_payment",
        "Loan",
        description="lender_transaction",
        merchant="loans",
    )
    yield _Entry(
        20,
        "debit",
        salary * 5 // 100,
        "NACH/SAMPLE FUND/0001",
        "SAMPLE FUND",
        "investment",
        "Investments",
        merchant="investments",
    )
