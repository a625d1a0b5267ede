"""
Forms with a statement in them.
"""

from typing import Any, Final, TypeAlias

from bankconnect_async.sandbox.banks import SandboxBank
from bankconnect_async.sandbox.http.errors import JsonObject
from bankconnect_async.sandbox.http.storage import Storage

from .uploads import BadStatementError, Material, decode_base64


Content: TypeAlias = bytes | None


def material_of(
    body: JsonObject,
    storage: Storage,
    *,
    bank: SandboxBank | None,
    is_base64: bool,
) -> tuple[Material, Content]:
    """
    Return what was uploaded, and the file to be stored.

    A link to the sandbox's own storage is followed. No other URL is.

    Raises:
        BadStatementError: If there is nothing to be had.
    """
    password = body.get("pdf_password")
    file: Any = body.get("file")
    if file is not None:
        content = decode_base64(file) if is_base64 else file
    elif storage.owns(body["file_url"]):
        content = storage.read(body["file_url"])
        if content is None:
            raise BadStatementError("INVALID_FILE_URL")
    else:
        url = body["file_url"]
        return Material(url=url, password=password, bank=bank), None
    return Material(content=content, password=password, bank=bank), content


#: What a field must be where a file is expected, and the other way round.
WRONG_FILE: Final = {
    True: "Not a valid string.",
    False: "The submitted data was not a file.",
}
