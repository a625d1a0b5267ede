"""
Schemas of models for pydantic, which imports this module when it asks.

They follow from the attributes of a class. An instance is taken as it is; an
object with the keys of `as_dict` makes one through the constructor, with all
of its checks.
"""

import functools
import inspect
import operator
import types
import typing

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from pydantic_core import (
    InitErrorDetails,
    PydanticSerializationUnexpectedValue,
    ValidationError,
    core_schema,
)
from yarl import URL

from bankconnect_async.errors import InvalidRequestError

from ._rows import RAW, Rows
from .parameter_groups import Consent, Metadata
from .sessions import UNSET, SessionRequest, Unset
from .values import TAG, TAGGED, fields_of


# The types of JSON, where it has others. A whole number is to stay one.
_HINTS: Final = {URL: str, float: int | float}
# An unknown parameter is a mistake, an unknown field of a response is new.
_STRICT: Final = frozenset({Consent, Metadata, SessionRequest})
# Errors of pydantic show the input, which may be a secret.
_HIDDEN: Final = "***"


def value_schema(cls: type[Any], handler: Any) -> core_schema.CoreSchema:
    """
    Implement `__get_pydantic_core_schema__` of a model.
    """
    fields = core_schema.typed_dict_schema(
        dict(_fields(cls, handler)),
        extra_behavior="forbid" if cls in _STRICT else "ignore",
        metadata={
            "pydantic_js_updates": {
                "title": cls.__name__,
                "description": _first_line(cls),
            }
        },
    )

    def validate(
        value: object, handler: Callable[[object], dict[str, Any]]
    ) -> Any:
        return value if isinstance(value, cls) else _make(cls, value, handler)

    def serialize(value: Any, handler: Callable[[Any], Any]) -> Any:
        if isinstance(value, cls):
            return handler(dict(fields_of(value, cls)))
        # Where it is one of several classes, pydantic goes on to the next.
        raise PydanticSerializationUnexpectedValue(f"is no {cls.__name__}")

    # Errors name it.
    validate.__name__ = cls.__name__
    return core_schema.no_info_wrap_validator_function(
        validate,
        fields,
        ref=f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",
        serialization=core_schema.wrap_serializer_function_ser_schema(
            serialize, schema=fields
        ),
    )


def rows_schema(source: Any, handler: Any) -> core_schema.CoreSchema:
    """
    Implement `__get_pydantic_core_schema__` of `Rows`.

    Raises:
        TypeError: If *source* does not say of which class the rows are.
    """
    if not typing.get_args(source):
        raise TypeError(
            "pydantic has to know the class of rows: write Rows[Transaction]"
        )
    (row_type,) = typing.get_args(source)
    return core_schema.no_info_after_validator_function(
        functools.partial(Rows, row_type),
        handler.generate_schema(types.GenericAlias(tuple, (row_type, ...))),
    )


def _first_line(cls: type[Any]) -> str:
    paragraph, _, _ = (inspect.getdoc(cls) or "").partition("\n\n")
    return paragraph.replace("\n", " ")


def _fields(
    cls: type[Any], handler: Any
) -> Iterator[tuple[str, core_schema.TypedDictField]]:
    if cls in TAGGED:
        tag = core_schema.literal_schema([cls.__name__])
        yield TAG, core_schema.typed_dict_field(tag, required=True)
    hints = typing.get_type_hints(
        cls, localns={"Consent": Consent, "Metadata": Metadata}
    )
    for each in attrs.fields(cls):
        if each.name == RAW:
            continue
        hint = hints[each.name]
        schema = handler.generate_schema(_json_hint(hint))
        default = _default(each, hint)
        if default:
            schema = core_schema.with_default_schema(schema, **default)
        yield (
            each.alias or each.name,
            core_schema.typed_dict_field(schema, required=not default),
        )


def _json_hint(hint: Any) -> Any:
    if not isinstance(hint, types.UnionType):
        return hint
    members = [
        _HINTS.get(each, each)
        for each in typing.get_args(hint)
        if each is not Unset
    ]
    return functools.reduce(operator.or_, members)


def _default(
    attribute: "attrs.Attribute[Any]", hint: Any
) -> Mapping[str, Any]:
    if Unset in typing.get_args(hint):
        # A factory, because JSON schemas show other defaults.
        return {"default_factory": lambda: UNSET}
    match attribute.default:
        case attrs.NOTHING:
            return {}
        case attrs.Factory(factory=factory):  # type: ignore[misc]
            return {"default_factory": factory}
        case default:
            return {"default": default}


def _make(
    cls: type[Any], value: object, handler: Callable[[object], dict[str, Any]]
) -> Any:
    try:
        fields = handler(value)
        if cls in TAGGED:
            del fields[TAG]
        return cls(**fields)
    except ValidationError as error:
        problems = [
            InitErrorDetails(
                type=each["type"],
                loc=each["loc"],
                input=_HIDDEN,
                ctx=each.get("ctx", {}),
            )
            for each in error.errors(include_input=False, include_url=False)
        ]
    except InvalidRequestError as error:
        problems = [
            InitErrorDetails(
                type="value_error",
                loc=(name,),
                input=_HIDDEN,
                ctx={"error": text},
            )
            for name, texts in error.fields.items()
            for text in texts
        ]
    raise ValidationError.from_exception_data(cls.__name__, problems)
