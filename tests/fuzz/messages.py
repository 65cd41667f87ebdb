"""Random protobuf messages: any field, with values that are right, nearly right, and extreme."""

from __future__ import annotations

from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

F = FieldDescriptor
WORDS = (
    *("", "a", "mnist", "default", "namespaces/default", "namespaces/-", "task.py", "best", "max"),
    "namespaces/default/trainingJobs/mnist",
    *("namespaces/default/trainingJobs/other", "model/saved_model.pb"),
    *(
        "0123456789abcdef" * 4,
        "sha256:" + "0" * 64,
        "step-0000000010.g000001",
        "model/saved_model.pb",
    ),
    *("..", "../..", "../../../etc/passwd", "/etc/passwd", "a/../../b", "..\\..\\x", "%2e%2e%2f"),
    *("a\0b", "\u202e", "\uff0e\uff0e/", "e\u0301", "\u0000", "😀", "\ufeff", "\x7f\x1b[2J", "\n"),
    *("x" * 64, "x" * 5000, "ü" * 300, "$(id)", "${HOME}", "{{.}}", "' OR 1=1 --", "-rf", "*", "-"),
    *("phase=RUNNING", "labels.team=vision", "name=a*", "phase=RUNNING AND phase=FAILED", "="),
    *("taas.dev/job", "app.kubernetes.io/name", "TAAS_POD_UID", "TF_CONFIG", "cpu", "1Gi", "1e999"),
    *("null", "[]", "{}", '{"spec":{}}', "[" * 5000, "NaN", "-1", "WyJ1aWQiLDEsMiwzXQ=="),
)
_INTS = (0, 1, 2, 7, 8, 100, -1, -2, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, 0.5, -1.0, 1e308, float("inf"), float("-inf"), float("nan"), 5e-324)


def random_message(random: Random, kind: type[Message], depth: int = 6) -> Message:
    """Return a message with some of its fields set."""
    message = kind()
    fill(random, message, depth)
    return message


def fill(random: Random, message: Any, depth: int) -> None:
    """Set some fields of a message."""
    for descriptor in message.DESCRIPTOR.fields:
        if random.random() > 0.4:
            continue
        if descriptor.is_repeated:
            _fill_repeated(random, message, descriptor, depth)
        elif descriptor.message_type is not None:
            if depth:
                inner = getattr(message, descriptor.name)
                inner.SetInParent()
                fill(random, inner, depth - 1)
        else:
            setattr(message, descriptor.name, scalar(random, descriptor))


def _fill_repeated(random: Random, message: Any, descriptor: Any, depth: int) -> None:
    values = getattr(message, descriptor.name)
    count = random.choice((0, 1, 1, 2, 5))
    kind = descriptor.message_type
    if kind is None:
        values.extend(scalar(random, descriptor) for _ in range(count))
    elif kind.GetOptions().map_entry:
        key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
        for _ in range(count):
            if value.message_type is None:
                values[scalar(random, key)] = scalar(random, value)
            elif depth:
                fill(random, values[scalar(random, key)], depth - 1)
    elif depth:
        for _ in range(count):
            fill(random, values.add(), depth - 1)


def scalar(random: Random, descriptor: Any) -> Any:
    """Return a value that the field can hold."""
    match descriptor.cpp_type:
        case F.CPPTYPE_STRING:
            if descriptor.type == F.TYPE_BYTES:
                return random.randbytes(random.choice((0, 1, 100, 3000)))
            return random.choice(WORDS)
        case F.CPPTYPE_BOOL:
            return random.random() < 0.5
        case F.CPPTYPE_DOUBLE | F.CPPTYPE_FLOAT:
            return random.choice(_FLOATS)
        case F.CPPTYPE_UINT32:
            return random.choice(_INTS) % 2**32
        case F.CPPTYPE_UINT64:
            return random.choice(_INTS) % 2**64
        case F.CPPTYPE_INT64:
            return random.choice(_INTS)
        case F.CPPTYPE_ENUM:
            return random.choice((0, 1, 2, 3, 5, 99, -1))
    number = random.choice(_INTS) % 2**32
    return number - 2**32 if number >= 2**31 else number
