"""Files that programs and users write and others read, and objects that kubectl writes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf import json_format

from controller import wire
from controller.errors import InvalidJob
from controller.kubernetes import job_documents
from protos.taas.v1 import job_pb2
from taas.rollout import _step
from tests.fuzz.engine import Target
from tests.fuzz.messages import random_message
from tests.unit.create_requests import request as a_request
from trainer import exported, requirements, rows, storage, workfolder
from trainer.exported import NotAModel
from trainer.rows import NotATable


def targets(folder: Path) -> tuple[Target, ...]:
    """Return the targets; files that they need are made in the folder."""
    return (
        Target("resource", _resource, (InvalidJob,), seeds=_RESOURCES, make=_a_resource),
        Target("evaluation", _evaluation, (ValueError,), seeds=_EVALUATIONS, tokens=_JSON),
        Target("model-json", _Description(folder), (NotAModel,), _DESCRIPTIONS, tokens=_JSON),
        Target("work-index", _WorkIndex(folder), (OSError,), seeds=_INDEXES, tokens=_JSON),
        Target("requirements", _requirements, (), seeds=_REQUIREMENTS, tokens=_LINES),
        Target("rows", _Rows(folder), (NotATable,), seeds=_TABLES, tokens=_FIELDS),
    )


# --- TrainingJob objects


def _resource(data: bytes) -> None:
    """Every object is read, if only as a job that is refused, and what follows can be stored."""
    given = _json(data)
    document: dict[str, Any] = {"metadata": _METADATA, **given}
    stored = job_documents.read(document)
    wire.job_to_wire(stored.job).SerializeToString()
    json.dumps(job_documents.status_patch(stored, stored.job.status, ()))
    if stored.refusal is not None:
        json.dumps(job_documents.refusal_patch(stored, stored.refusal))
        raise InvalidJob("spec", stored.job.status.message)


def _json(data: bytes) -> dict[str, Any]:
    """Return spec and status of an object as an API server could have it."""
    try:
        found = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidJob("object", f"no JSON: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise InvalidJob("object", "no object")
    # The schema of the resource says of these what they are; see deploy/base/crd.yaml.
    status = found.get("status")
    if isinstance(status, dict):
        status.pop("events", None)
    return {name: found[name] for name in ("spec", "status") if name in found}


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _a_resource(random: Random) -> bytes:
    """Return a sound object in which some of spec and status is random."""
    spec = _sound_spec()
    wild = _proto_json(random, job_pb2.TrainingJobSpec)
    for name in (name for name in wild if random.random() < 0.3):
        if name in _PROGRAMS:
            spec = {key: value for key, value in spec.items() if key not in _PROGRAMS}
        spec[name] = wild[name]
    made = {"spec": spec}
    if random.random() < 0.5:
        status = _proto_json(random, job_pb2.TrainingJobStatus)
        made["status"] = {key: value for key, value in status.items() if random.random() < 0.5}
    return json.dumps(made).encode()


def _sound_spec() -> dict[str, Any]:
    return dict(json_format.MessageToDict(a_request().training_job.spec))


def _proto_json(random: Random, kind: Any) -> dict[str, Any]:
    """Return some fields of a random message; those that JSON cannot say are left out."""
    found: dict[str, Any] = {}
    whole = random_message(random, kind)
    for descriptor, value in whole.ListFields():
        one = kind()
        if descriptor.is_repeated or descriptor.message_type is not None:
            getattr(one, descriptor.name).MergeFrom(value)
        else:
            setattr(one, descriptor.name, value)
        try:
            found |= json_format.MessageToDict(one)
        except (ValueError, json_format.Error):
            continue
    return found


_METADATA = {
    "namespace": "default",
    "name": "mnist",
    "uid": "uid",
    "resourceVersion": "1",
    "creationTimestamp": "2026-01-01T00:00:00Z",
}
# Of these a job has one.
_PROGRAMS = frozenset({"task", "script", "command"})
_RESOURCES = (
    json.dumps({"spec": _sound_spec()}).encode(),
    b'{"spec":{"command":{"words":["true"]},"workers":2},"status":{"phase":"PHASE_RUNNING"}}',
)


# --- Files


def _evaluation(data: bytes) -> None:
    found = storage.Evaluated.from_json(data.decode(errors="replace"))
    assert storage.parse_checkpoint_id(found.id) is not None or found.generation >= 10**6


class _Description:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "description"
        self._folder.mkdir()

    def __call__(self, data: bytes) -> None:
        (self._folder / exported.DESCRIPTION).write_bytes(data)
        assert _step(self._folder) >= 1
        exported.description(self._folder)


class _WorkIndex:
    def __init__(self, folder: Path) -> None:
        self._paths = storage.JobPaths(folder / "indexed", "n", "j", "u")
        self._paths.work.mkdir(parents=True)

    def __call__(self, data: bytes) -> None:
        self._paths.work_index.write_bytes(data)
        workfolder._read(self._paths)


def _requirements(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    kept = requirements._without_tensorflow(text)
    assert not any(line.strip().startswith("tensorflow==") for line in kept.splitlines())


class _Rows:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "rows.csv"

    def __call__(self, data: bytes) -> None:
        self._path.write_bytes(data)
        for row in rows.read(str(self._path), ["x", "y"]):
            assert bool(row.error) != bool(row.values)


_EVALUATIONS = (b'{"step": 10, "generation": 1, "examples": 5, "metrics": {"loss": 0.5}}',)
_DESCRIPTIONS = (
    b'{"inputs": {"kind": "table", "columns": ["x"]}, "classes": ["a"], "step": 7}',
    b'{"inputs": {"kind": "image"}, "classes": null, "variables": ["v"]}',
)
_INDEXES = (b'{"source": {"train.py": [8, 1]}, "collected": ["model.keras"]}',)
_REQUIREMENTS = (b"numpy\ntensorflow==2.18\n# x\ntensorflow-cpu[x] ; a\n", b"\xff-r other.txt\n")
_TABLES = (b"x,y\n1,2\n3,4\n", b'\xef\xbb\xbfy,x,z\r\n"1","2","a ""b"""\r\n')
_JSON = (
    *(b"1e999", b"-1e999", b"NaN", b"Infinity", b"null", b"true", b"[", b"{", b'"', b"[" * 3000),
    *(b"99999999999999999999999", b"-1", b"{}", b"[]", b'"../x"', b"\\ud800", b"\\u0000", b"0.5"),
)
_LINES = (
    b"tensorflow",
    b"TensorFlow_GPU",
    b"==",
    b"\\\n",
    b"\x0b",
    b"\x85",
    b"\xe2\x80\xa8",
    b"--",
)
_FIELDS = (
    b'"',
    b",",
    b"\n",
    b"\r",
    b"nan",
    b"1e999",
    b"1_0",
    b"\0",
    b"\xff",
    b"x,y\n",
    b"x" * 200_000,
)
