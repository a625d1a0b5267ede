"""
PDFs of statements: made up for tests, and read when they are uploaded.

Reading takes pypdf, the extra ``[sandbox]``. Without it a file is looked at
from outside: it is encrypted or scanned if its bytes say so, any password is
the right one, and only text that is not compressed is found, as in the PDFs
of `statement_pdf`.
"""

import datetime
import io
import re
import types

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from bankconnect_async._codec.session_requests import date_text
from bankconnect_async.errors import ConfigurationError, InvalidRequestError
from bankconnect_async.sandbox.banks import SandboxBank, all_banks, find_bank
from bankconnect_async.sandbox.session_api.combined_rules import (
    six_months_before,
)

from .ledgers import (
    FakeAccount,
    FakeTransaction,
    Span,
    fake_account,
    transactions,
)


try:
    import pypdf
except ImportError:  # pragma: no cover - there is a test that hides it
    pypdf = None  # type: ignore[assignment]


_MAGIC: Final = b"%PDF-"
# Who, where and when stands at the beginning; the rest only takes time.
_PAGES_READ: Final = 5
_ROWS_A_PAGE: Final = 50
_RAW_TEXT = re.compile(rb"\(((?:[^()\\]|\\.)*)\) Tj")
_ESCAPE = re.compile(rb"\\(.)")
_TO_ESCAPE = re.compile(r"[\\()]")
_NUMBER = re.compile(
    r"account\s*(?:number|no\.?)\s*:?\s*([0-9]{6,18})", re.IGNORECASE
)
_EDITED = re.compile(rb"/Producer \([^)]*editor", re.IGNORECASE)
_PERIOD = re.compile(r"([0-9/]{10})\s+to\s+([0-9/]{10})", re.IGNORECASE)
_COLUMNS: Final = (
    ("date",),
    ("balance",),
    ("amount", "debit", "credit", "withdrawal", "deposit"),
)
# What the metadata of an edited file names.
_EDITOR: Final = "editor"
_DATE: Final = "%d/%m/%Y"


class UnreadableError(Exception):
    """
    The file is no PDF, or a damaged one.
    """


class WrongPasswordError(Exception):
    """
    The file is encrypted, and the password is wrong or missing.
    """


@attrs.frozen(kw_only=True)
class StatementDocument:
    """
    What a PDF tells.

    Attributes:
        text: The text layer; blank if it is scanned.
        page_count: How many pages it has.
        is_edited: Whether its metadata names an editor.
    """

    text: str = attrs.field(repr=False)
    page_count: int
    is_edited: bool = False

    @property
    def is_scanned(self) -> bool:
        """Whether there are images only."""
        return not self.text.strip()

    @property
    def bank(self) -> SandboxBank | None:
        """The bank that is named first."""
        return _named_bank(self.text)

    def mentions(self, bank: SandboxBank) -> bool:
        """Tell whether *bank* is named somewhere."""
        return bank.name.lower() in self.text.lower()

    @property
    def account_number(self) -> str | None:
        """The account's number."""
        found = _NUMBER.search(self.text)
        return found[1] if found else None

    @property
    def period(self) -> Span | None:
        """The days that it covers."""
        for found in _PERIOD.finditer(self.text):
            try:
                start, end = (
                    datetime.datetime.strptime(day, _DATE).date()  # noqa: DTZ007
                    for day in found.groups()
                )
            except ValueError:
                continue
            if start <= end:
                return Span(start=start, end=end)
        return None

    @property
    def has_columns(self) -> bool:
        """Whether there are columns of dates, balances and amounts."""
        text = self.text.lower()
        return all(any(word in text for word in any_) for any_ in _COLUMNS)


def _named_bank(text: str) -> SandboxBank | None:
    lowered = text.lower()
    found = [
        (match.start(), -len(bank.name), bank)
        for bank in all_banks()
        if bank.name.lower() in lowered
        and (
            match := re.search(
                rf"(?<!\w){re.escape(bank.name.lower())}(?!\w)", lowered
            )
        )
    ]
    return min(found, key=lambda hit: hit[:2])[2] if found else None


def read_pdf(content: bytes, password: str | None) -> StatementDocument:
    """
    Read a PDF.

    Raises:
        UnreadableError: If it is none.
        WrongPasswordError: If it is encrypted, and not with *password*.
    """
    if not content.lstrip().startswith(_MAGIC):
        raise UnreadableError
    if pypdf is None:
        return _look_at(content, password)
    try:
        return _read(pypdf, content, password)
    except WrongPasswordError:
        raise
    # Uploads may be anything; pypdf's errors are many and not all its own.
    except Exception as exc:
        raise UnreadableError from exc


def _read(
    module: types.ModuleType, content: bytes, password: str | None
) -> StatementDocument:
    reader = module.PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(password or ""):
        raise WrongPasswordError
    metadata: Mapping[str, object] = reader.metadata or {}
    return StatementDocument(
        text="\n".join(
            page.extract_text() for page in reader.pages[:_PAGES_READ]
        ),
        page_count=len(reader.pages),
        is_edited=any(
            _EDITOR in str(value).lower() for value in metadata.values()
        ),
    )


def _look_at(content: bytes, password: str | None) -> StatementDocument:
    if b"/Encrypt" in content:
        if not password:
            raise WrongPasswordError
        # Its text cannot be seen, but there is no reason to think it scanned.
        return StatementDocument(text="date amount balance", page_count=1)
    lines = [_ESCAPE.sub(rb"\1", line) for line in _RAW_TEXT.findall(content)]
    text = b"\n".join(lines).decode("latin-1")
    if not text and b"/Font" in content:
        text = "date amount balance"
    return StatementDocument(
        text=text,
        page_count=max(1, len(re.findall(rb"/Type\s*/Page\b", content))),
        is_edited=bool(_EDITED.search(content)),
    )


def statement_pdf(  # noqa: PLR0913
    bank_name: str = "axis",
    link_id: str = "customer-42",
    *,
    from_date: datetime.date | None = None,
    to_date: datetime.date | None = None,
    account_number: str | None = None,
    password: str | None = None,
    scanned: bool = False,
    edited: bool = False,
) -> bytes:
    """
    Make up the PDF of a statement, for uploads.

    ::

        pdf = statement_pdf("hdfc", "customer-42", password="secret")

    Uploaded for the same link id, it shows what the sandbox then answers.

    Args:
        bank_name: The bank's identifier, in any case.
        link_id: Whose account it is.
        from_date: First day; by default the first one of the sixth month
            before *to_date*, as in a session that names none.
        to_date: Last day, by default today in India.
        account_number: At least six digits, for a second account; by default
            that of *link_id* at this bank.
        password: Encrypt it.
        scanned: Leave the text layer out, so that there is only an image.
        edited: Name a PDF editor in its metadata, which is `author_fraud`.

    Raises:
        InvalidRequestError: If an argument makes no sense.
        ConfigurationError: If it is to be encrypted and pypdf is missing.
    """
    bank = find_bank(bank_name)
    to_date = to_date or _today()
    from_date = from_date or six_months_before(to_date)
    problems = _problems(bank, from_date, to_date, account_number)
    if problems or bank is None:
        raise InvalidRequestError(fields=problems)
    account = fake_account(link_id, bank.identifier.lower(), account_number)
    span = Span(start=from_date, end=to_date)
    content = write_pdf(
        account,
        span,
        transactions(account, [span]),
        scanned=scanned,
        edited=edited,
    )
    return content if password is None else _encrypted(content, password)


def _problems(
    bank: SandboxBank | None,
    start: datetime.date,
    end: datetime.date,
    number: str | None,
) -> dict[str, tuple[str, ...]]:
    problems: dict[str, tuple[str, ...]] = {}
    if bank is None:
        problems["bank_name"] = ("must be the identifier of a known bank",)
    if start > end:
        problems["from_date"] = ("must not be after to_date",)
    if number is not None and not re.fullmatch(r"[0-9]{6,18}", number):
        problems["account_number"] = ("must be 6 to 18 digits",)
    return problems


def _today() -> datetime.date:
    india = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    return datetime.datetime.now(india).date()


def _encrypted(content: bytes, password: str) -> bytes:
    if pypdf is None:
        raise ConfigurationError(
            "a password takes pypdf: pip install 'bankconnect-async[sandbox]'"
        )
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    # The one method that pypdf masters without another package.
    writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def write_pdf(
    account: FakeAccount,
    span: Span,
    rows: list[FakeTransaction],
    *,
    scanned: bool = False,
    edited: bool = False,
) -> bytes:
    """
    Write a statement, its text not compressed.
    """
    pages = (
        [_IMAGE_PAGE]
        if scanned
        else [_text_page(lines) for lines in _pages(account, span, rows)]
    )
    producer = "PDF Editor" if edited else "bankconnect-async sandbox"
    first_page = 6
    kids = " ".join(
        f"{first_page + 2 * number} 0 R" for number in range(len(pages))
    )
    resources = (
        "/XObject << /Im0 4 0 R >>" if scanned else "/Font << /F1 4 0 R >>"
    )
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        f"<< {resources} >>",
        _IMAGE
        if scanned
        else "<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>",
        f"<< /Producer ({producer}) >>",
    ]
    for number, page in enumerate(pages):
        objects += [
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            "/Resources 3 0 R "
            f"/Contents {first_page + 2 * number + 1} 0 R >>",
            _stream("", page),
        ]
    return _assembled(objects)


_IMAGE_PAGE: Final = "q 500 0 0 700 40 70 cm /Im0 Do Q"


def _stream(head: str, content: str) -> str:
    return f"<< {head}/Length {len(content)} >>\nstream\n{content}\nendstream"


_IMAGE: Final = _stream(
    "/Type /XObject /Subtype /Image /Width 1 /Height 1 "
    "/ColorSpace /DeviceGray /BitsPerComponent 8 ",
    "x",
)


def _pages(
    account: FakeAccount, span: Span, rows: list[FakeTransaction]
) -> Iterator[list[str]]:
    bank = find_bank(account.bank)
    head = [
        bank.name if bank else account.bank,
        "STATEMENT OF ACCOUNT",
        f"Name: {account.name}",
        f"Address: {account.address}",
        f"Account number: {account.number}",
        f"IFSC: {account.ifsc}  MICR: {account.micr}",
        f"Period: {date_text(span.start)} to {date_text(span.end)}",
        "",
        f"{'Date':<12}{'Details':<32}{'Amount':>14}{'Balance':>14}",
    ]
    lines = [
        f"{date_text(row.day):<12}{row.narration[:31]:<32}"
        f"{'-' if row.side == 'debit' else ''}{row.amount / 100:>.2f}"
        f"{row.balance / 100:>14.2f}"
        for row in rows
    ]
    lines = head + lines
    for first in range(0, len(lines), _ROWS_A_PAGE):
        yield lines[first : first + _ROWS_A_PAGE]


def _text_page(lines: list[str]) -> str:
    shown = "\n".join(f"({_escaped(line)}) Tj T*" for line in lines)
    return f"BT /F1 9 Tf 12 TL 40 800 Td\n{shown}\nET"


def _escaped(line: str) -> str:
    return _TO_ESCAPE.sub(r"\\\g<0>", line)


def _assembled(objects: list[str]) -> bytes:
    body = bytearray(_MAGIC + b"1.4\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n".encode(
            "latin-1", "replace"
        )
    table = len(body)
    size = len(objects) + 1
    entries = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    body += (
        f"xref\n0 {size}\n0000000000 65535 f \n{entries}"
        f"trailer\n<< /Size {size} /Root 1 0 R /Info 5 0 R >>\n"
        f"startxref\n{table}\n%%EOF\n"
    ).encode()
    return bytes(body)


def fake_document(bank: SandboxBank | None, owner: str) -> StatementDocument:
    """
    Return what a statement of *owner* tells that cannot be read.
    """
    words = ["date amount balance"]
    if bank is not None:
        account = fake_account(owner, bank.identifier.lower())
        words += [bank.name, f"Account number: {account.number}"]
    return StatementDocument(text="\n".join(words), page_count=1)
