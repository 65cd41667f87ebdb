"""Reads job documents (YAML or JSON), the same that `kubectl apply` takes, strictly.

apiVersion: taas.dev/v1
kind: TrainingJob
metadata: {name: mnist, namespace: default, labels: {team: vision}}
spec:
  source: ./mnist          # only here: a local folder, packed and uploaded
  task: {module: task.py}
  workers: 2
  parameters: {epochs: "5"}
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.struct_pb2 import Struct

from protos.taas.v1.job_pb2 import TrainingJobSpec
from taas.errors import FieldViolation, InvalidRequest

API_VERSION = "taas.dev/v1"
KIND = "TrainingJob"
SUFFIXES = (".yaml", ".yml", ".json")

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_METADATA = ("name", "namespace", "labels")
# What `kubectl get -o yaml` adds. It is the cluster's, so it is passed over.
_METADATA_OF_CLUSTER = (
    "annotations",
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "uid",
)

# The API server takes no larger objects.
_MOST_BYTES = 3 * 1024 * 1024
_MOST_NODES = 100_000


@dataclass(frozen=True, slots=True)
class Document:
    """A job as a document describes it; `source` is the local folder it names, if it does."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    spec: TrainingJobSpec
    source: Path | None


def load(path: Path) -> Document:
    """Read one job document. Raises InvalidRequest naming the file and the field."""
    raw = _read(path)
    _only(raw, _TOP, "")
    for key, value in (("apiVersion", API_VERSION), ("kind", KIND)):
        if raw.get(key) != value:
            raise InvalidRequest.of(key, f"{raw.get(key)!r} is not {value!r}; {path} needs that")
    metadata = _mapping(raw.get("metadata"), "metadata")
    _only(metadata, (*_METADATA, *_METADATA_OF_CLUSTER), "metadata")
    labels = _mapping(metadata.get("labels"), "metadata.labels")
    spec = dict(_mapping(raw.get("spec"), "spec"))
    source = spec.pop("source", None) if isinstance(spec.get("source"), str) else None
    return Document(
        name=_text(metadata.get("name"), "metadata.name"),
        namespace=_text(metadata.get("namespace"), "metadata.namespace"),
        labels={str(k): _text(v, f"metadata.labels.{k}") for k, v in labels.items()},
        spec=parse_spec(spec),
        source=None if source is None else path.parent / Path(source).expanduser(),
    )


def parse_spec(raw: Mapping[str, Any]) -> TrainingJobSpec:
    """Return the spec for its proto JSON. Raises InvalidRequest for what the schema lacks."""
    violations = tuple(_violations(raw, TrainingJobSpec.DESCRIPTOR, "spec"))
    if violations:
        raise InvalidRequest("", violations)
    try:
        return json_format.ParseDict(dict(raw), TrainingJobSpec())
    except json_format.ParseError as error:
        raise InvalidRequest.of("spec", str(error)) from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = _start(path)
        # JSON is YAML, so one parser reads both.
        documents = list(yaml.safe_load_all(text))
    except OSError as error:
        raise InvalidRequest.of(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest.of(str(path), f"is not UTF-8 text: {error}") from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        # The parser lets the errors of dates, numbers and depths through as they are.
        why = " ".join(str(error).split())
        raise InvalidRequest.of(str(path), f"is neither YAML nor JSON: {why}") from error
    if not _is_small(documents):
        raise InvalidRequest.of(
            str(path), f"holds more than {_MOST_NODES} values; write out what its aliases repeat"
        )
    if len(documents) != 1:
        raise InvalidRequest.of(
            str(path), f"holds {len(documents)} documents; write one job a file"
        )
    return _mapping(documents[0], str(path))


def _start(path: Path) -> str:
    """Return the text of a file that is no larger than a job document."""
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InvalidRequest.of(str(path), f"is larger than {_MOST_BYTES} bytes; no job is")
    return data.decode("utf-8")


def _is_small(value: object) -> bool:
    """Say whether all values that a value is made of, counted as often as aliases repeat them,
    are few. One that contains itself is not."""
    left, waiting = _MOST_NODES, [value]
    while waiting and left > 0:
        left -= 1
        match waiting.pop():
            case dict() as mapping:
                waiting += [*mapping.keys(), *mapping.values()]
            case list() | tuple() | set() as several:
                waiting += several
    return not waiting


def _mapping(value: object, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest.of(field, f"{value!r} is not a mapping of names to values")
    return {str(key): item for key, item in value.items()}


def _text(value: object, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest.of(field, f'{value!r} is not text; write "{value}"')
    return value


def _only(raw: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in raw:
        if key not in known:
            field = f"{where}.{key}" if where else key
            raise InvalidRequest.of(field, _unknown(key, known))


def _unknown(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"
    return f"no such field; {hint}"


def _violations(raw: Mapping[str, Any], message: Any, where: str) -> Iterable[FieldViolation]:
    """Yield a violation for each field that the message lacks and each value of a wrong type."""
    fields = {field.json_name: field for field in message.fields}
    aliases = {field.name: field for field in message.fields}
    for key, value in raw.items():
        field = fields.get(key) or aliases.get(key)
        if field is None:
            yield FieldViolation(f"{where}.{key}", _unknown(key, fields))
        elif value is not None:
            yield from _value_violations(value, field, f"{where}.{key}")


def _value_violations(value: Any, field: Any, where: str) -> Iterable[FieldViolation]:
    kind = field.message_type
    if kind is None:
        if why := _scalar_fault(value, field):
            yield FieldViolation(where, why)
    elif not isinstance(value, dict):
        yield FieldViolation(where, f"{value!r} is not a mapping of names to values")
    elif kind.GetOptions().map_entry:
        of_value = kind.fields_by_name["value"]
        for key, item in value.items():
            if why := _scalar_fault(item, of_value):
                yield FieldViolation(f"{where}.{key}", why)
    elif kind.full_name != Struct.DESCRIPTOR.full_name:  # which takes whatever JSON has
        yield from _violations({str(k): v for k, v in value.items()}, kind, where)


def _scalar_fault(value: Any, field: Any) -> str:
    """Return what is wrong with a value, "" for nothing; ranges are for the service to check."""
    if field.type == FieldDescriptor.TYPE_STRING:
        if not isinstance(value, str):
            shown = str(value).lower() if isinstance(value, bool) else value
            return f'{shown} is not text; write "{shown}"'
    elif field.type == FieldDescriptor.TYPE_BOOL:
        if not isinstance(value, bool):
            return f"{value!r} is not true or false"
    elif field.type == FieldDescriptor.TYPE_ENUM:
        known = [item.name for item in field.enum_type.values]
        if value not in known:
            return f"{value!r} is not one of {', '.join(known)}"
    elif isinstance(value, bool) or not isinstance(value, (int, str)):
        return f"{value!r} is not a whole number"
    return ""
