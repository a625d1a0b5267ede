"""
Answers of endpoints other than ``session/``, and the bodies they are asked by.

The contract's `rest-api.md` (entities, upload status) and `webhooks.md`
(setting the endpoint, recovery) say what stands here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs
import orjson

from . import _reading as reading
from ._reading import wired
from .callbacks import ExtractionWebhook
from .errors import InvalidRequestError, UnreadableAnswerError


T = TypeVar("T")

#: What `upload_status` says once the uploads are complete.
COMPLETED: Final = "COMPLETED"

# The same state in two spellings (U-20).
_SYNONYMS: Final = {"NO_UPLOAD": "NO_UPLOADS"}


def _status_word(value: object, path: str, problems: list[str]) -> Any:
    word = reading.text(value, path, problems)
    if word is None:
        return None
    word = word.strip().upper().replace(" ", "_")
    return _SYNONYMS.get(word, word)


@attrs.frozen(kw_only=True)
class Entity:
    """
    A customer in the entity flow (`GET entity/<entity_id>/`).

    Attributes:
        entity_id: The vendor's id.
        link_id: Yours, if one was given.
        raw: The answer as received.
    """

    entity_id: str = wired(reading.text, required=True)
    link_id: str | None = wired(reading.text)
    raw: Mapping[str, Any] = attrs.field(
        factory=dict, repr=False, eq=False, hash=False
    )


@attrs.frozen(kw_only=True)
class UploadStatus:
    """
    How far the uploads of a session are (`session_upload_status/`).

    Attributes:
        session_id: Of the session.
        upload_status: `COMPLETED`, `IN_PROGRESS`, `NO_UPLOADS` or `EXPIRED`
            in one spelling; words not known yet are kept.
        raw: The answer as received; it holds account numbers.
    """

    session_id: str = wired(reading.text, required=True)
    upload_status: str = wired(_status_word, required=True)
    raw: Mapping[str, Any] = attrs.field(
        factory=dict, repr=False, eq=False, hash=False
    )


def decode_entity(raw: bytes, *, status: int = 200) -> Entity:
    """
    Read the answer of `GET entity/<entity_id>/`.

    Raises:
        UnreadableAnswerError: If it is none.
    """
    return _decode(Entity, raw, status)


def decode_upload_status(raw: bytes, *, status: int = 200) -> UploadStatus:
    """
    Read the answer of `GET session_data/<session_id>/session_upload_status/`.

    Raises:
        UnreadableAnswerError: If it is none.
    """
    return _decode(UploadStatus, raw, status)


@attrs.frozen(kw_only=True)
class _Payloads:
    payloads: tuple[ExtractionWebhook, ...] = wired(
        reading.many(reading.one(ExtractionWebhook)), default=()
    )
    raw: Mapping[str, Any] = attrs.field(factory=dict, repr=False)


def decode_webhook_payloads(
    raw: bytes, *, status: int = 200
) -> tuple[ExtractionWebhook, ...]:
    """
    Read the answer of `GET entity/webhook_payloads/`, newest first.

    Raises:
        UnreadableAnswerError: If it is none.
    """
    return _decode(_Payloads, raw, status).payloads


def _decode(cls: type[T], raw: bytes, status: int) -> T:
    # A frame that raises must not hold the answer.
    value, problems = _read(cls, raw)
    del raw
    if problems:
        del value
        raise UnreadableAnswerError(
            f"the server answered {status} in another shape than documented: "
            f"{'; '.join(problems)}",
            problems=problems,
            status=status,
        )
    return value


def _read(cls: type[T], raw: bytes) -> tuple[T, list[str]]:
    problems: list[str] = []
    document = reading.load(raw)
    if isinstance(document, str):
        problems.append(document)
        document = {}
    value = reading.structure(cls, document, "$", problems, raw=document)
    return value, problems


def encode_webhook_update(url: str, mode: int | Sequence[str]) -> bytes:
    """
    Write the body of `POST …/update_webhook/`.

    The mode is always sent: the entity flow forgets it with every update
    that leaves it out.

    Args:
        url: Where the vendor shall post webhooks to.
        mode: A number, or event names where the session flow took them.

    Raises:
        InvalidRequestError: If either cannot be sent.
    """
    fields: dict[str, tuple[str, ...]] = {}
    if not url.startswith(("https://", "http://")):
        fields["url"] = ("must be an absolute http or https URL",)
    if isinstance(mode, str) or not (
        type(mode) is int
        or (
            isinstance(mode, Sequence)
            and all(isinstance(name, str) for name in mode)
        )
    ):
        fields["mode"] = ("must be a number or a list of event names",)
    if fields:
        raise InvalidRequestError(fields=fields)
    modes = mode if isinstance(mode, int) else list(mode)
    return orjson.dumps({"webhook_url": url, "webhook_mode": modes})
