"""
PDFs of statements: fake ones for tests, and the reading of uploaded ones.

Reading needs pypdf, the extra ``[sandbox]``. Without it only the raw bytes
are scanned: they show whether the file is encrypted or a scan, any password
opens it, and only uncompressed text is found, as `statement_pdf` writes it.
The log names the extra once when a file needs it.
"""

import datetime
import functools
import logging
import re

from typing import Final

import attrs

from bankconnect_async._codec.session_requests import date_text
from bankconnect_async.errors import InvalidRequestError
from bankconnect_async.sandbox import fake_data
from bankconnect_async.sandbox.banks import SandboxBank, all_banks, find_bank
from bankconnect_async.sandbox.http.errors import BadValueError
from bankconnect_async.sandbox.session_api.combined_rules import (
    six_months_before,
)
from bankconnect_async.sandbox.session_api.field_rules import as_date

from .file_errors import NEEDS_EXTRA, UnreadableError, WrongPasswordError
from .ledgers import (
    FakeAccount,
    FakeTransaction,
    Span,
    fake_account,
    transactions,
)


_MAGIC: Final = b"%PDF-"
_LINES_PER_PAGE: Final = 50
_RAW_TEXT = re.compile(rb"\(((?:[^()\\]|\\.)*)\) Tj")
_ESCAPE = re.compile(rb"\\(.)")
_TO_ESCAPE = re.compile(r"[\\()]")
_NUMBER = re.compile(
    r"account\s*(?:number|no\.?)\s*:?\s*([0-9]{6,18})", re.IGNORECASE
)
_PERIOD = re.compile(r"([0-9/]{10})\s+to\s+([0-9/]{10})", re.IGNORECASE)
_COLUMNS: Final = (
    ("date",),
    ("balance",),
    ("amount", "debit", "credit", "withdrawal", "deposit"),
)
# A text with the columns of a statement, where its own text is not known.
_COLUMN_NAMES: Final = "date amount balance"
# Acrobat's Distiller and PDFMaker make PDFs, its other programs change them.
_EDITOR = re.compile(
    r"editor|ilovepdf|pdfescape|sejda|smallpdf"
    r"|acrobat(?!.*(?:distiller|pdfmaker))",
    re.IGNORECASE,
)
_METADATA = re.compile(rb"/(?:Producer|Creator)\s*\(([^)]*)\)")

_log: Final = logging.getLogger("bankconnect_async.sandbox")


@attrs.frozen(kw_only=True)
class StatementDocument:
    """
    The content of a PDF.

    Attributes:
        text: The text layer; blank if the PDF is a scan.
        page_count: The number of pages.
        is_edited: Whether the metadata names an editor.
    """

    text: str = attrs.field(repr=False)
    page_count: int = 1
    is_edited: bool = False

    @property
    def is_scanned(self) -> bool:
        """Whether there are images only."""
        return not self.text.strip()

    @property
    def bank(self) -> SandboxBank | None:
        """The bank that is named first."""
        text = self.text.lower()
        found = [
            (match.start(), -len(bank.name), bank.identifier)
            for bank in all_banks()
            if (name := bank.name.lower()) in text
            and (match := re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))
        ]
        return find_bank(min(found)[2]) if found else None

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
                start, end = map(as_date, found.groups())
            except BadValueError:
                continue
            if start <= end:
                return Span(start=start, end=end)
        return None

    @property
    def has_columns(self) -> bool:
        """Whether there are columns of dates, balances and amounts."""
        text = self.text.lower()
        return all(any(word in text for word in words) for words in _COLUMNS)


def read_pdf(content: bytes, password: str | None) -> StatementDocument:
    """
    Read a PDF.

    Raises:
        UnreadableError: If it is not a PDF, or damaged.
        WrongPasswordError: If it is encrypted with another password.
    """
    if not content.lstrip().startswith(_MAGIC):
        raise UnreadableError
    found = fake_data.pypdf_files.read(content, password)
    if found is None:
        return _scan_pdf(content, password)
    return StatementDocument(
        text=found.text,
        page_count=found.page_count,
        is_edited=any(map(_EDITOR.search, found.metadata)),
    )


@functools.cache
def _log_missing_extra() -> None:
    _log.warning(
        "some uploaded PDFs can only be read with the extra: %s", NEEDS_EXTRA
    )


def _scan_pdf(content: bytes, password: str | None) -> StatementDocument:
    if b"/Encrypt" in content:
        _log_missing_extra()
        if not password:
            raise WrongPasswordError
        # The text cannot be read, but nothing shows that it is a scan.
        return StatementDocument(text=_COLUMN_NAMES)
    lines = [_ESCAPE.sub(rb"\1", line) for line in _RAW_TEXT.findall(content)]
    text = b"\n".join(lines).decode("latin-1")
    if not text and b"/Font" in content:
        _log_missing_extra()
        text = _COLUMN_NAMES
    return StatementDocument(
        text=text,
        page_count=max(1, len(re.findall(rb"/Type\s*/Page\b", content))),
        is_edited=any(
            _EDITOR.search(value.decode("latin-1"))
            for value in _METADATA.findall(content)
        ),
    )


def fake_document(bank: SandboxBank | None, owner: str) -> StatementDocument:
    """
    Return the content of a statement of *owner* that is stored elsewhere.
    """
    lines = [_COLUMN_NAMES]
    if bank is not None:
        account = fake_account(owner, bank.identifier.lower())
        lines += [bank.name, f"Account number: {account.number}"]
    return StatementDocument(text="\n".join(lines))


def statement_pdf(  # noqa: PLR0913 - a public signature
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
    Return the PDF of a fake statement, for uploads.

    ::

        pdf = statement_pdf("hdfc", "customer-42", password="secret")

    Uploaded for the same link id, it shows what the sandbox then returns.

    Args:
        bank_name: The bank's identifier, in any case.
        link_id: The link id of the account's holder.
        from_date: The first day; by default the first one of the sixth month
            before *to_date*, as in a session that names none.
        to_date: The last day; by default today in India.
        account_number: A number of 6 to 18 digits, for a second account; by
            default that of *link_id* at this bank.
        password: The password to encrypt it with.
        scanned: Whether to leave the text layer out, as in a scan.
        edited: Whether its metadata name a PDF editor, which the sandbox
            reports as `author_fraud`.

    Raises:
        InvalidRequestError: If an argument is bad.
        ConfigurationError: If it is to be encrypted and pypdf is missing.
    """
    bank = find_bank(bank_name)
    india = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    to_date = to_date or datetime.datetime.now(india).date()
    from_date = from_date or six_months_before(to_date)
    problems = {}
    if from_date > to_date:
        problems["from_date"] = ("must not be after to_date",)
    if account_number is not None and not re.fullmatch(
        r"[0-9]{6,18}", account_number
    ):
        problems["account_number"] = ("must be 6 to 18 digits",)
    if bank is None:
        problems["bank_name"] = ("must be the identifier of a known bank",)
    if bank is None or problems:
        raise InvalidRequestError(fields=problems)
    account = fake_account(link_id, bank.identifier.lower(), account_number)
    span = Span(start=from_date, end=to_date)
    rows = transactions(account, [span])
    content = write_pdf(account, span, rows, scanned=scanned, edited=edited)
    if password is None:
        return content
    return fake_data.pypdf_files.encrypt(content, password)


def write_pdf(
    account: FakeAccount,
    span: Span,
    rows: list[FakeTransaction],
    *,
    scanned: bool = False,
    edited: bool = False,
) -> bytes:
    """
    Return a statement whose text is not compressed.
    """
    if scanned:
        pages = ["q 500 0 0 700 40 70 cm /Im0 Do Q"]
        resource = "/XObject << /Im0 4 0 R >>"
        content = _stream(
            "x",
            "/Type /XObject /Subtype /Image /Width 1 /Height 1 "
            "/ColorSpace /DeviceGray /BitsPerComponent 8 ",
        )
    else:
        lines = _lines(account, span, rows)
        pages = [
            _page(lines[first : first + _LINES_PER_PAGE])
            for first in range(0, len(lines), _LINES_PER_PAGE)
        ]
        resource = "/Font << /F1 4 0 R >>"
        content = "<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>"
    producer = "PDF Editor" if edited else "bankconnect-async sandbox"
    numbers = range(6, 6 + 2 * len(pages), 2)
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        f"<< {resource} >>",
        content,
        f"<< /Producer ({producer}) >>",
    ]
    for number, page in zip(numbers, pages, strict=True):
        objects += [
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            f"/Resources 3 0 R /Contents {number + 1} 0 R >>",
            _stream(page),
        ]
    return _assemble(objects)


def _stream(content: str, head: str = "") -> str:
    return f"<< {head}/Length {len(content)} >>\nstream\n{content}\nendstream"


def _lines(
    account: FakeAccount, span: Span, rows: list[FakeTransaction]
) -> list[str]:
    bank = find_bank(account.bank)
    return [
        bank.name if bank else account.bank,
        "STATEMENT OF ACCOUNT",
        f"Name: {account.name}",
        f"Address: {account.address}",
        f"Account number: {account.number}",
        f"IFSC: {account.ifsc}  MICR: {account.micr}",
        f"Period: {date_text(span.start)} to {date_text(span.end)}",
        "",
        f"{'Date':<12}{'Details':<32}{'Amount':>14}{'Balance':>14}",
        *(
            f"{date_text(row.day):<12}{row.narration[:31]:<32}"
            f"{'-' if row.side == 'debit' else ''}{row.amount / 100:>.2f}"
            f"{row.balance / 100:>14.2f}"
            for row in rows
        ),
    ]


def _page(lines: list[str]) -> str:
    escaped = (_TO_ESCAPE.sub(r"\\\g<0>", line) for line in lines)
    shown = "\n".join(f"({line}) Tj T*" for line in escaped)
    return f"BT /F1 9 Tf 12 TL 40 800 Td\n{shown}\nET"


def _assemble(objects: list[str]) -> bytes:
    body = bytearray(_MAGIC + b"1.4\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        text = f"{number} 0 obj\n{content}\nendobj\n"
        body += text.encode("latin-1", "replace")
    size = len(objects) + 1
    entries = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    trailer = (
        f"xref\n0 {size}\n0000000000 65535 f \n{entries}"
        f"trailer\n<< /Size {size} /Root 1 0 R /Info 5 0 R >>\n"
        f"startxref\n{len(body)}\n%%EOF\n"
    )
    return bytes(body) + trailer.encode()
