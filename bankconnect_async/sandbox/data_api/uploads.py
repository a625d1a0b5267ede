"""
The verdict on an uploaded statement.

Pure: what the form held comes in, a statement or a reason against it goes
out. The sandbox fetches nothing: what a URL of somebody else would lead to is
made up from its name.
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
    find_bank,
)
from bankconnect_async.sandbox.fake_data.ledgers import Span, fake_account
from bankconnect_async.sandbox.fake_data.pdfs import (
    Document,
    UnreadableError,
    WrongPasswordError,
    fake_document,
    read_pdf,
)
from bankconnect_async.sandbox.http.errors import BadValueError
from bankconnect_async.sandbox.session_api.field_rules import as_url

from .statements import UploadedStatement


class BadStatementError(Exception):
    """
    A statement is not taken.

    Attributes:
        code: Why, in the codes of the session flow.
        statement_id: Which one it is, where it has an id already.
    """

    def __init__(self, code: str, statement_id: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.statement_id = statement_id


@attrs.frozen(kw_only=True)
class Material:
    """
    What was uploaded.

    Attributes:
        content: The file.
        url: Where it is, if it is somewhere else and was not fetched.
        password: For opening it.
        bank: The bank that was named with it.
    """

    content: bytes = attrs.field(default=b"", repr=False)
    url: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    bank: SandboxBank | None = None

    @property
    def digest(self) -> str:
        """To know it again."""
        what = self.content if self.url is None else self.url.encode()
        return hashlib.sha256(what).hexdigest()


def decode_base64(text: str) -> bytes:
    """
    Decode a file that travels as text.

    Raises:
        BadStatementError: If it is none.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadStatementError("INVALID_BASE_64") from None


def is_url(value: object) -> bool:
    """
    Tell whether *value* is an absolute http or https URL.
    """
    try:
        as_url()(value)
    except BadValueError:
        return False
    return True


def judge_statement(
    material: Material,
    *,
    owner: str,
    asked: Span,
    now: datetime.datetime,
) -> UploadedStatement:
    """
    Return the statement that was uploaded.

    Args:
        material: What was.
        owner: Whose it is; data are made up by it.
        asked: The days it covers, if it does not say so itself.
        now: When it came.

    Raises:
        BadStatementError: With the reason, if it is not taken.
    """
    document = _document(material, owner)
    bank = _bank(material, document)
    if not document.has_columns:
        raise BadStatementError("STATEMENT_UNSUPPORTED_FORMAT")
    number, period = document.number, document.period
    return UploadedStatement(
        account=fake_account(owner, bank.identifier.lower(), number),
        span=period or asked,
        source="pdf",
        received_at=now,
        password=material.password,
        page_count=document.page_count,
        fraud_type="author_fraud" if document.is_edited else None,
        digest=material.digest,
        has_details=number is not None and period is not None,
    )


def _document(material: Material, owner: str) -> Document:
    if material.url is not None:
        document = _named(material, material.url, owner)
    elif not material.content:
        raise BadStatementError("EMPTY_FILE")
    else:
        document = _read(material)
    if document.is_scanned:
        raise BadStatementError("PDF_IS_IMAGE")
    return document


def _read(material: Material) -> Document:
    try:
        return read_pdf(material.content, material.password)
    except UnreadableError:
        raise BadStatementError("INVALID_FILE_OBJECT") from None
    except WrongPasswordError:
        raise BadStatementError("PASSWORD_INCORRECT") from None


def _bank(material: Material, document: Document) -> SandboxBank:
    found, given = document.bank, material.bank
    if found is None and given is None:
        raise BadStatementError("BANK_NAME_UNDETECTED")
    if given is None:
        assert found is not None  # noqa: S101 - one of them is
        return found
    # Statements mention other banks, too.
    if found is not None and not document.names(given):
        raise BadStatementError("BANK_NAME_MISMATCH")
    return given


#: What a word in the name of a file says about it.
_BY_WORD: Final[Mapping[str, str]] = {
    "missing": "INVALID_FILE_URL",
    "empty": "EMPTY_FILE",
    "damaged": "INVALID_FILE_OBJECT",
    "scanned": "PDF_IS_IMAGE",
    "unsupported": "STATEMENT_UNSUPPORTED_FORMAT",
}


def _named(material: Material, url: str, owner: str) -> Document:
    name = urlsplit(url).path.rpartition("/")[2].lower()
    words: Any = re.findall(r"[a-z]+", name)
    for word in words:
        if word in _BY_WORD:
            raise BadStatementError(_BY_WORD[word])
    if "encrypted" in words and not material.password:
        raise BadStatementError("PASSWORD_INCORRECT")
    bank = next(filter(None, map(find_bank, words)), None)
    if bank is None and "unknown" not in words:
        bank = material.bank or find_bank(EXAMPLE_BANK)
    return fake_document(bank, owner)
