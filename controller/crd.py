"""Makes the CustomResourceDefinition of TrainingJob from the descriptors of job.proto. Pure.

Types, names, enums and descriptions come from the descriptors and the comments in them; what
protobuf cannot say (defaults, bounds, rules between fields) is in controller.crd_rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
)

from controller import crd_rules

Schema = dict[str, Any]

_PACKAGE = "taas.v1"
_Type = FieldDescriptorProto
# Numbers of the fields of FileDescriptorProto and DescriptorProto, which make up a comment's path.
_MESSAGE, _FIELD, _ENUM = 4, 2, 5
_SCALARS: dict[int, Schema] = {
    _Type.TYPE_STRING: {"type": "string"},
    _Type.TYPE_BOOL: {"type": "boolean"},
    _Type.TYPE_INT32: {"type": "integer", "format": "int32"},
    # Proto JSON writes 64 bits as text and reads both.
    _Type.TYPE_INT64: {"x-kubernetes-int-or-string": True},
    # Of any type, because proto JSON writes what is no number, such as a loss of NaN, as text.
    _Type.TYPE_DOUBLE: {"x-kubernetes-preserve-unknown-fields": True},
}
_WELL_KNOWN: dict[str, Schema] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Struct": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


class _Types:
    """The messages and enums of a descriptor set by full name, and their comments."""

    def __init__(self, files: FileDescriptorSet) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self._comments: dict[tuple[str, str], str] = {}
        renamed: dict[str, str] = {}
        for file in (f for f in files.file if f.package == _PACKAGE):
            comments = {
                tuple(place.path): place.leading_comments
                for place in file.source_code_info.location
            }
            for i, message in enumerate(file.message_type):
                name = f".{_PACKAGE}.{message.name}"
                self.messages[name] = message
                self._comments[name, ""] = comments.get((_MESSAGE, i), "")
                for j, field in enumerate(message.field):
                    self._comments[name, field.name] = comments.get((_MESSAGE, i, _FIELD, j), "")
                    renamed[field.name] = field.json_name
            for i, enum in enumerate(file.enum_type):
                name = f".{_PACKAGE}.{enum.name}"
                self.enums[name] = enum
                self._comments[name, ""] = comments.get((_ENUM, i), "")
        # Comments name fields as protobuf does; people who write YAML know the other spelling.
        names = sorted((n for n in renamed if "_" in n), key=len, reverse=True)
        self._spelling = re.compile(rf"\b({'|'.join(names)})\b") if names else None
        self._renamed = renamed

    def comment(self, type_name: str, field: str = "") -> str:
        """Return a comment as one paragraph, "" if there is none."""
        text = " ".join(self._comments.get((type_name, field), "").split())
        if self._spelling is None:
            return text
        return self._spelling.sub(lambda found: self._renamed[found[1]], text)


def crd(files: FileDescriptorSet) -> dict[str, Any]:
    """Return the resource definition. Raises ValueError when the comments are missing, or when
    crd_rules names a field that does not exist."""
    types = _Types(files)
    job = f".{_PACKAGE}.TrainingJob"
    if not types.comment(job):
        raise ValueError("the descriptors have no comments; make them with `buf build`")
    _check_rules(types)
    schema: Schema = {
        "type": "object",
        "description": types.comment(job),
        "required": ["spec"],
        "properties": {
            "spec": _message(types, f"{job}Spec") | {"description": types.comment(job, "spec")},
            "status": _message(types, f"{job}Status")
            | {"description": types.comment(job, "status")},
        },
        "x-kubernetes-validations": _rules(crd_rules.OF_THE_RESOURCE),
    }
    schema["properties"]["status"]["properties"]["events"] = crd_rules.EVENTS
    return crd_rules.definition(schema)


def _check_rules(types: _Types) -> None:
    for name in (*crd_rules.FIELDS, *crd_rules.RULES, *crd_rules.REQUIRED):
        message, _, field = name.partition(".")
        found = types.messages.get(f".{_PACKAGE}.{message}", DescriptorProto())
        if found.name != message or (field and field not in {f.json_name for f in found.field}):
            raise ValueError(f"crd_rules names {name}, which is not in the protos")


def _rules(rules: Mapping[str, str]) -> list[Schema]:
    return [{"rule": rule, "message": message} for message, rule in rules.items()]


def _message(types: _Types, name: str) -> Schema:
    message = types.messages[name]
    schema: Schema = {"type": "object", "description": types.comment(name)}
    schema["properties"] = {
        field.json_name: _field(types, name, field)
        for field in sorted(message.field, key=lambda field: field.number)
    }
    if message.name in crd_rules.REQUIRED:
        schema["required"] = list(crd_rules.REQUIRED[message.name])
    rules = _rules(dict(_oneofs(message)))
    for blamed, text, rule in crd_rules.RULES.get(message.name, ()):
        rules.append({"rule": rule, "message": text, "fieldPath": f".{blamed}"})
    if rules:
        schema["x-kubernetes-validations"] = rules
    return schema


def _oneofs(message: DescriptorProto) -> Iterator[tuple[str, str]]:
    """Yield message and rule of each choice: exactly one of its fields is set. Optional fields
    are choices of one in a descriptor, but none for people."""
    for i, oneof in enumerate(message.oneof_decl):
        fields = [
            f.json_name
            for f in message.field
            if f.HasField("oneof_index") and f.oneof_index == i and not f.proto3_optional
        ]
        if fields:
            count = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in fields)
            yield f"{oneof.name}: set exactly one of {', '.join(fields)}", f"{count} == 1"


def _field(types: _Types, owner: str, field: FieldDescriptorProto) -> Schema:
    """Return the schema of a field, lists and maps included."""
    message = types.messages[owner]
    entries = {f".{_PACKAGE}.{message.name}.{n.name}": n for n in message.nested_type}
    entry = entries.get(field.type_name)
    if entry is not None:
        schema: Schema = {
            "type": "object",
            "additionalProperties": _value(types, entry.field[1]),
        }
    elif field.label == _Type.LABEL_REPEATED:
        schema = {"type": "array", "items": _value(types, field)}
    else:
        schema = _value(types, field)
    comment = types.comment(owner, field.name)
    if comment:
        schema["description"] = comment
    return _with(schema, crd_rules.FIELDS.get(f"{message.name}.{field.json_name}", {}))


def _value(types: _Types, field: FieldDescriptorProto) -> Schema:
    name = field.type_name
    if name in _WELL_KNOWN:
        return dict(_WELL_KNOWN[name])
    if field.type == _Type.TYPE_ENUM:
        values = [value.name for value in types.enums[name].value]
        return {"type": "string", "description": types.comment(name), "enum": values}
    if field.type == _Type.TYPE_MESSAGE:
        return _message(types, name)
    return dict(_SCALARS[field.type])


def _with(schema: Schema, rules: Mapping[str, Any]) -> Schema:
    """Add what the rules say about a field; those of maps' values go one level down."""
    merged = dict(schema)
    for key, value in rules.items():
        if key in ("additionalProperties", "items"):
            merged[key] = _with(merged[key], value)
        elif key == "x-kubernetes-validations":
            merged[key] = [*merged.get(key, ()), *_rules(value)]
        else:
            merged[key] = value
    return merged
