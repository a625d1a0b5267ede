"""
Browser messages of every dialect to events, and events to messages.

The kinds follow the contract's page on callbacks, "Classification". All
messages come through the customer's browser: an event is a claim.
"""

import enum

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

import attrs

from bankconnect_async._tracebacks import hide_frames
from bankconnect_async.errors import (
    DecodeError,
    ForeignMessageError,
    InvalidRequestError,
)
from bankconnect_async.models._fields import (
    add_problem,
    is_present,
    load,
    structure,
    wire_keys,
)
from bankconnect_async.models.events import (
    ENTITY_ID,
    ERROR_TYPE,
    ERROR_TYPES,
    EVENT_NAME,
    LINK_ID,
    MESSAGE,
    MESSAGE_TYPE,
    REASON,
    SESSION_ID,
    Envelope,
    ErrorEvent,
    Event,
    EventName,
    ExitEvent,
    FlatMessage,
    InfoEvent,
    LibraryCallback,
    LibraryStatus,
    Status,
    SuccessEvent,
    UnknownEvent,
)


Dialect: TypeAlias = Literal["seed", "entity", "session"]

_T = TypeVar("_T")

(_TYPE,) = wire_keys(Envelope)["type"]
_FLAT = frozenset(EventName)


class Channel(enum.StrEnum):
    """
    The channel of a message, where the message itself does not name it.

    Pages that host the journey in a WebView get bare payloads, and so do users
    of the vendor's other client SDKs (contract, sections 6 and 7). The value
    is the vendor's name of the function, result or SDK.

    Attributes:
        WEBVIEW_SUCCESS, WEBVIEW_EXIT, WEBVIEW_ERROR, WEBVIEW_INFO: The
            functions of the interface object `BankConnectAndroid`.
        WEBVIEW_RESULT: Its function for every kind of message, in any form.
        REACT_SUCCESS, REACT_EXIT, REACT_ERROR: The callbacks of the React SDK.
        REACT_NATIVE_SUCCESS, IONIC_SUCCESS: The positional arguments, as a
            mapping of `entityId` and `sessionId`.
        FLUTTER: The map of all outcomes.
        IOS: The payload of the closure.
        ANDROID: The Parcelable in the result of the activity.
        ANDROID_VIEW_SUCCESS, ANDROID_VIEW_FINISHED, ANDROID_VIEW_EXIT,
            ANDROID_VIEW_ERROR, ANDROID_VIEW_UPLOAD,
            ANDROID_VIEW_ENTITY_DESTROYED: The callbacks of 2019 to 2021.
        LIBRARY: The script-tag library of 2019.
    """

    WEBVIEW_SUCCESS = "webview.onSuccess"
    WEBVIEW_EXIT = "webview.onExit"
    WEBVIEW_ERROR = "webview.onError"
    WEBVIEW_INFO = "webview.onInfo"
    WEBVIEW_RESULT = "webview.onResult"
    REACT_SUCCESS = "react.onSuccess"
    REACT_EXIT = "react.onExit"
    REACT_ERROR = "react.onError"
    REACT_NATIVE_SUCCESS = "react_native.success"
    IONIC_SUCCESS = "ionic.success"
    FLUTTER = "flutter.getJourneyResult"
    IOS = "ios"
    ANDROID = "android.finbox_result"
    ANDROID_VIEW_SUCCESS = "android_view.OnSuccess"
    ANDROID_VIEW_FINISHED = "android_view.OnFinished"
    ANDROID_VIEW_EXIT = "android_view.OnExit"
    ANDROID_VIEW_ERROR = "android_view.OnError"
    ANDROID_VIEW_UPLOAD = "android_view.OnUpload"
    ANDROID_VIEW_ENTITY_DESTROYED = "android_view.OnEntityDestroyed"
    LIBRARY = "jslib.statementCallback"


@hide_frames
def decode_event(
    raw: Mapping[str, Any] | str | bytes, *, channel: Channel | None = None
) -> Event:
    """
    Decode a browser message into an event.

    It accepts the envelope of every dialect and the flat form of 2021. An
    unknown status gives an `UnknownEvent`, so that a new event of the vendor
    does not break a deployed consumer.

    Args:
        raw: The message as delivered: an object, or JSON.
        channel: The channel, for payloads without an envelope.

    Raises:
        ForeignMessageError: If the message has another type than the vendor's.
        DecodeError: If a field is missing or has a wrong type.
    """
    message = load(raw)
    if channel is None or (
        channel is Channel.WEBVIEW_RESULT and _is_whole(message)
    ):
        return _whole(message)
    return _checked(_CHANNELS[channel], _Payload(message, message))


@attrs.frozen
class _Payload:
    keys: Mapping[str, Any]
    raw: Mapping[str, Any]
    path: str = "$"
    problems: list[str] = attrs.Factory(list)

    def has(self, *keys: str) -> bool:
        return any(is_present(self.keys.get(key)) for key in keys)

    def read(self, cls: type[_T], **given: Any) -> _T:
        return structure(
            cls, self.keys, self.path, self.problems, raw=self.raw, **given
        )


_Decoder: TypeAlias = Callable[[_Payload], Event]


def _checked(decode: _Decoder, payload: _Payload) -> Event:
    event = decode(payload)
    if payload.problems:
        raise DecodeError(problems=payload.problems)
    return event


def _is_whole(message: Mapping[str, Any]) -> bool:
    return _TYPE in message or _is_flat(message)


def _is_flat(message: Mapping[str, Any]) -> bool:
    status = structure(FlatMessage, message, "$", []).status
    return _TYPE not in message and status in _FLAT


def _whole(message: Mapping[str, Any]) -> Event:
    if _is_flat(message):
        return _checked(_flat, _Payload(message, message))
    problems: list[str] = []
    envelope = structure(Envelope, message, "$", problems)
    if envelope.type not in (None, MESSAGE_TYPE):
        raise ForeignMessageError(
            problems=[
                f"is not {MESSAGE_TYPE}: another window sent the message "
                f"@ $.type"
            ]
        )
    if problems or envelope.payload is None:
        raise DecodeError(problems=problems)
    payload = _Payload(envelope.payload, message, "$.payload")
    decode = _STATUSES.get(str(envelope.status))
    if decode is None:
        return _unknown(payload, str(envelope.status))
    return _checked(decode, payload)


def _success(payload: _Payload) -> Event:
    if not payload.has(ENTITY_ID, SESSION_ID):
        add_problem(
            payload.problems,
            f"neither {ENTITY_ID} nor {SESSION_ID} @ {payload.path}",
        )
    return payload.read(SuccessEvent)


def _fb_exit(payload: _Payload) -> Event:
    return payload.read(ExitEvent)


def _exit(payload: _Payload) -> Event:
    # From 2020-05-23 to 2020-09-11 failures had this status, too. Only they
    # had a reason.
    if payload.has(*ERROR_TYPES) or (
        payload.has(REASON) and not payload.has(MESSAGE)
    ):
        return payload.read(ErrorEvent)
    return payload.read(ExitEvent, is_failure=False)


def _error(payload: _Payload) -> Event:
    return payload.read(ErrorEvent)


def _info(payload: _Payload) -> Event:
    return payload.read(InfoEvent)


def _unknown(payload: _Payload, status: str) -> Event:
    # A bad link id does not make an unknown event invalid.
    lenient = attrs.evolve(payload, problems=[])
    return lenient.read(UnknownEvent, status=status)


def _flat(payload: _Payload) -> Event:
    flat = structure(FlatMessage, payload.keys, payload.path, payload.problems)
    return InfoEvent(
        event_name=flat.status, message=flat.data, raw=payload.raw
    )


def _guess(payload: _Payload) -> Event:
    for keys, decode in _TELLTALES:
        if payload.has(*keys):
            return decode(payload)
    return _fb_exit(payload)


def _step(name: str) -> _Decoder:
    def decode(payload: _Payload) -> Event:
        return attrs.evolve(payload.read(InfoEvent), event_name=name)

    return decode


def _library(payload: _Payload) -> Event:
    said = structure(
        LibraryCallback, payload.keys, payload.path, payload.problems
    )
    match said.status:
        case LibraryStatus.DONE:
            return SuccessEvent(entity_id=said.request_id, raw=payload.raw)
        case LibraryStatus.FAILED:
            return ErrorEvent(reason=said.message, raw=payload.raw)
        case LibraryStatus.LEFT:
            return ExitEvent(
                reason=said.message, is_failure=False, raw=payload.raw
            )
        case _:
            return UnknownEvent(status=said.status, raw=payload.raw)


_STATUSES: Final[Mapping[str, _Decoder]] = {
    Status.FB_SUCCESS: _success,
    Status.FB_EXIT: _fb_exit,
    Status.SUCCESS: _success,
    Status.EXIT: _exit,
    Status.ERROR: _error,
    Status.INFO: _info,
}

_TELLTALES: Final[tuple[tuple[tuple[str, ...], _Decoder], ...]] = (
    (ERROR_TYPES, _error),
    ((EVENT_NAME,), _info),
    ((ENTITY_ID, SESSION_ID), _success),
)

_CHANNELS: Final[Mapping[Channel, _Decoder]] = {
    Channel.WEBVIEW_SUCCESS: _success,
    Channel.WEBVIEW_EXIT: _exit,
    Channel.WEBVIEW_ERROR: _error,
    Channel.WEBVIEW_INFO: _info,
    Channel.WEBVIEW_RESULT: _guess,
    Channel.REACT_SUCCESS: _success,
    Channel.REACT_EXIT: _exit,
    Channel.REACT_ERROR: _error,
    Channel.REACT_NATIVE_SUCCESS: _success,
    Channel.IONIC_SUCCESS: _success,
    Channel.FLUTTER: _guess,
    Channel.IOS: _guess,
    Channel.ANDROID: _guess,
    Channel.ANDROID_VIEW_SUCCESS: _success,
    Channel.ANDROID_VIEW_FINISHED: _success,
    Channel.ANDROID_VIEW_EXIT: _exit,
    Channel.ANDROID_VIEW_ERROR: _error,
    Channel.ANDROID_VIEW_UPLOAD: _step("OnUpload"),
    Channel.ANDROID_VIEW_ENTITY_DESTROYED: _step("OnEntityDestroyed"),
    Channel.LIBRARY: _library,
}


_Shape: TypeAlias = tuple[Status, tuple[str, ...]]
_Shapes: TypeAlias = Mapping[type, tuple[_Shape, ...]]

_LATER: Final[_Shapes] = {
    ExitEvent: ((Status.EXIT, (LINK_ID, MESSAGE)),),
    ErrorEvent: ((Status.ERROR, (REASON, LINK_ID, ERROR_TYPE)),),
    InfoEvent: ((Status.INFO, (LINK_ID, EVENT_NAME, MESSAGE)),),
}
# The order of the keys is the documentation's.
_SHAPES: Final[Mapping[Dialect, _Shapes]] = {
    "seed": {
        SuccessEvent: ((Status.FB_SUCCESS, (ENTITY_ID, LINK_ID)),),
        ExitEvent: ((Status.FB_EXIT, (REASON, LINK_ID)),),
        ErrorEvent: ((Status.FB_EXIT, (REASON, LINK_ID)),),
    },
    "entity": {
        **_LATER,
        SuccessEvent: (
            (Status.SUCCESS, (ENTITY_ID, LINK_ID)),
            (Status.SUCCESS, (LINK_ID, ENTITY_ID, SESSION_ID)),
        ),
    },
    "session": {
        **_LATER,
        SuccessEvent: ((Status.SUCCESS, (SESSION_ID, LINK_ID)),),
    },
}
# Other keys are left out if they have no value.
_NOTHING: Final[Mapping[str, str | None]] = {
    LINK_ID: None,
    REASON: "",
    MESSAGE: "",
}


def encode_event(event: Event, dialect: Dialect) -> dict[str, Any]:
    """
    Return the browser message by which *dialect* reports *event*.

    Fields for which the dialect has no key are left out, as the vendor does:
    the first dialect has no error codes and reports a failure as an exit.

    Args:
        event: The event.
        dialect: `seed` for the first documentation, `entity` or `session` for
            the flow of the current one.

    Raises:
        InvalidRequestError: If the dialect has no such event, or no key for
            one of the ids of a success.
    """
    values = {
        key: getattr(event, name)
        for name, keys in wire_keys(event.__class__).items()
        for key in keys
    }
    ids = {key for key in (ENTITY_ID, SESSION_ID) if values.get(key)}
    for status, keys in _SHAPES[dialect].get(type(event), ()):
        if ids <= set(keys) and (ids or not isinstance(event, SuccessEvent)):
            envelope = Envelope(
                type=MESSAGE_TYPE,
                status=status.value,
                payload=_payload(keys, values),
            )
            return attrs.asdict(envelope)
    raise InvalidRequestError(
        fields={"event": (f"cannot be said in the {dialect} dialect",)}
    )


def _payload(
    keys: tuple[str, ...], values: Mapping[str, str | None]
) -> dict[str, str | None]:
    return {
        key: _NOTHING[key] if (value := values[key]) is None else str(value)
        for key in keys
        if values[key] is not None or key in _NOTHING
    }
