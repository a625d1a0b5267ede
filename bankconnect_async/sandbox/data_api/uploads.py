"""
Reading of an uploaded statement.

Nothing is fetched: a link to the sandbox's own storage is read there, and
the words in any other link say what kind of file it stands for.
"""

import base64
import binascii
import datetime
import hashlib
import re

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from bankconnect_async.sandbox.banks import (
    EXAMPLE_BANK,
    SandboxBank,
    all_banks,
    find_bank,
)
from bankconnect_async.sandbox.fake_data.file_errors import (
    UnreadableError,
    WrongPasswordError,
)
from bankconnect_async.sandbox.fake_data.ledgers import Span, fake_account
from bankconnect_async.sandbox.fake_data.pdfs import (
    StatementDocument,
    fake_document,
    read_pdf,
)
from bankconnect_async.sandbox.http.errors import BadValueError, JsonObject
from bankconnect_async.sandbox.http.storage import Storage
from bankconnect_async.sandbox.session_api.field_rules import as_url

from .statements import UploadedStatement


#: The problem that a word in the file name of a link stands for.
_PROBLEM_WORDS: Final[Mapping[str, str]] = {
    "missing": "INVALID_FILE_URL",
    "empty": "EMPTY_FILE",
    "damaged": "INVALID_FILE_OBJECT",
    "scanned": "PDF_IS_IMAGE",
    "unsupported": "STATEMENT_UNSUPPORTED_FORMAT",
}


class BadStatementError(Exception):
    """
    A statement is not accepted.

    Attributes:
        code: The reason, as a code of the session flow.
        statement_id: The id of the statement; blank if it has none yet.
    """

    def __init__(self, code: str, statement_id: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.statement_id = statement_id


@attrs.frozen(kw_only=True)
class StatementForm:
    """
    A form with a statement: its file, or a link to that.

    Attributes:
        fields: The form's fields; a text as file is Base64.
        bank: The bank that the form names, if any.
    """

    fields: JsonObject = attrs.field(repr=False)
    bank: SandboxBank | None

    @property
    def password(self) -> Any:
        """The password of the file, if there is one."""
        return self.fields.get("pdf_password")


def is_url(value: object) -> bool:
    """
    Tell whether *value* is an absolute http or https URL.
    """
    try:
        as_url()(value)
    except BadValueError:
        return False
    return True


def unknown_bank_text() -> str:
    """
    Return the text about a bank that is not in the list.
    """
    known = ", ".join(bank.identifier.lower() for bank in all_banks())
    return f"Please use following bank strings: [{known}]"


def read_statement(
    form: StatementForm,
    storage: Storage,
    *,
    owner: str,
    requested: Span,
    now: datetime.datetime,
) -> tuple[UploadedStatement, bytes | None]:
    """
    Return the statement in a form, and its file unless that is elsewhere.

    Args:
        form: The form.
        storage: The storage whose own links are followed.
        owner: The link id that the fake data depend on.
        requested: The days of a statement that names none itself.
        now: The time of the upload.

    Raises:
        BadStatementError: If the statement is not accepted.
    """
    content = _content(form, storage)
    if content is None:
        url = str(form.fields["file_url"])
        document, origin = _document_of_url(url, form, owner), url.encode()
    else:
        document, origin = _read_document(content, form.password), content
    if document.is_scanned:
        raise BadStatementError("PDF_IS_IMAGE")
    bank = _bank(form, document)
    if not document.has_columns:
        raise BadStatementError("STATEMENT_UNSUPPORTED_FORMAT")
    number, period = document.account_number, document.period
    statement = UploadedStatement(
        account=fake_account(owner, bank.identifier.lower(), number),
        span=period or requested,
        source="pdf",
        received_at=now,
        password=form.password,
        page_count=document.page_count,
        fraud_type="author_fraud" if document.is_edited else None,
        digest=hashlib.sha256(origin).hexdigest(),
        has_details=number is not None and period is not None,
    )
    return statement, content


def _content(form: StatementForm, storage: Storage) -> bytes | None:
    file, url = form.fields.get("file"), form.fields.get("file_url")
    if isinstance(file, str):
        return _decode_base64(file)
    if file is not None:
        return bytes(file)
    if not storage.owns(str(url)):
        return None
    stored = storage.read(str(url))
    if stored is None:
        raise BadStatementError("INVALID_FILE_URL")
    return stored


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadStatementError("INVALID_BASE_64") from None


def _read_document(content: bytes, password: str | None) -> StatementDocument:
    if not content:
        raise BadStatementError("EMPTY_FILE")
    try:
        return read_pdf(content, password)
    except UnreadableError:
        raise BadStatementError("INVALID_FILE_OBJECT") from None
    except WrongPasswordError:
        raise BadStatementError("PASSWORD_INCORRECT") from None


def _document_of_url(
    url: str, form: StatementForm, owner: str
) -> StatementDocument:
    name = urlsplit(url).path.rpartition("/")[2].lower()
    words: list[str] = re.findall(r"[a-z]+", name)
    for word in words:
        if word in _PROBLEM_WORDS:
            raise BadStatementError(_PROBLEM_WORDS[word])
    if "encrypted" in words and not form.password:
        raise BadStatementError("PASSWORD_INCORRECT")
    bank = next(filter(None, map(find_bank, words)), None)
    if bank is None and "unknown" not in words:
        bank = form.bank or find_bank(EXAMPLE_BANK)
    return fake_document(bank, owner)


def _bank(form: StatementForm, document: StatementDocument) -> SandboxBank:
    bank = form.bank or document.bank
    if bank is None:
        raise BadStatementError("BANK_NAME_UNDETECTED")
    # Statements mention other banks, too.
    if document.bank is not None and not document.mentions(bank):
        raise BadStatementError("BANK_NAME_MISMATCH")
    return bank
