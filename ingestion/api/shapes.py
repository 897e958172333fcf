"""How drf-spectacular learns of our text fields and our answers."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, get_type_hints

from drf_spectacular.extensions import OpenApiSerializerExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, list_hash
from msgspec import NODEFAULT, inspect


class TextFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Our text fields, with the patterns that they really check."""

    target_class = "ingestion.fields.Text"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        """The JSON schema of the field."""
        text = self.target
        shape: dict[str, Any] = {"type": "string"}
        if not text.allow_blank:
            shape["minLength"] = 1
        if text.max_length is not None:
            shape["maxLength"] = text.max_length
        if text.format:
            shape["format"] = text.format
        if text.pattern and text.allow_blank:
            # With a plain `pattern`, drf-spectacular adds the empty text as a second form, and only
            # one form may match; the empty text matches both.
            shape["allOf"] = [{"pattern": text.pattern}]
        elif text.pattern:
            shape["pattern"] = text.pattern
        return shape


class AnswerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Our answers, as their types define them."""

    target_class = "msgspec.Struct"
    match_subclasses = True

    def get_name(self, auto_schema: AutoSchema, direction: str) -> str:
        """The component's name."""
        return str(self.target.__name__)

    def map_serializer(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        """The JSON schema of the answer."""
        answer = inspect.type_info(self.target)
        assert isinstance(answer, inspect.StructType)  # noqa: S101 (for mypy)
        return _object(answer, auto_schema)


def _object(
    type_: inspect.StructType | inspect.TypedDictType, auto_schema: AutoSchema
) -> dict[str, Any]:
    order = list(get_type_hints(type_.cls))  # msgspec tells the fields of a TypedDict by the letter
    fields = sorted(type_.fields, key=lambda field: order.index(field.name))
    shape = {
        "type": "object",
        "description": cleandoc(type_.cls.__doc__ or ""),
        "properties": {field.name: _shape(field.type, auto_schema) for field in fields},
        # What is neither required nor has a default is UNSET: left out.
        "required": sorted(
            field.name for field in fields if field.required or field.default is not NODEFAULT
        ),
    }
    return {key: value for key, value in shape.items() if value}


def _shape(type_: inspect.Type, auto_schema: AutoSchema) -> dict[str, Any]:
    """The JSON schema of a value; classes become components, and words are named by a hook."""
    match type_:
        case inspect.Metadata():
            return {**_shape(type_.type, auto_schema), **(type_.extra_json_schema or {})}
        case inspect.UnionType():
            (given,) = (one for one in type_.types if not isinstance(one, inspect.NoneType))
            shape = _shape(given, auto_schema)
            return {**shape, "type": [shape["type"], "null"]}
        case inspect.StrType():
            return {"type": "string"} | (
                {"minLength": type_.min_length} if type_.min_length else {}
            )
        case inspect.IntType():
            bound = {} if type_.ge is None else {"minimum": type_.ge}
            return {"type": "integer"} | bound
        case inspect.FloatType():
            return {"type": "number"}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.LiteralType():
            return {"enum": list(type_.values), "type": "string"}
        case inspect.EnumType():
            words = [(one.value, one.name) for one in type_.cls]
            return {
                "enum": [word for word, _ in words],
                "type": "string",
                "x-spec-enum-id": list_hash(words),
            }
        case inspect.CollectionType():
            return {"type": "array", "items": _shape(type_.item_type, auto_schema)}
        case inspect.DictType():
            values = _shape(type_.value_type, auto_schema)
            return {"type": "object", "additionalProperties": values}
        case inspect.StructType() | inspect.TypedDictType():
            name = type_.cls.__name__
            component = ResolvedComponent(  # type: ignore[no-untyped-call]
                name=name,
                type=ResolvedComponent.SCHEMA,
                schema=_object(type_, auto_schema),
                object=name,
            )
            auto_schema.registry.register_on_missing(component)
            return component.ref
    raise TypeError(type_)
