"""The readers of outside input that need no TensorFlow."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.message import DecodeError

from controller import (
    cursors,
    paging,
    parse,
    parse_filter,
    parse_names,
    wire,
    wire_store,
    wire_workers,
)
from controller.errors import InvalidJob
from controller.history import _record
from controller.local.lines import LineFiles
from controller.ports import ListFilter
from controller.render import assignment, kubernetes_settings, render
from protos.taas.v1 import training_service_pb2 as pb
from protos.taas.v1 import worker_service_pb2
from taas import documents
from taas.errors import InvalidRequest
from tests.fuzz.engine import Target
from tests.fuzz.messages import random_message
from tests.unit.create_requests import request as a_request
from trainer import storage
from trainer.reports import parse_report
from trainer.sources import InvalidSource, unpack_source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = kubernetes_settings("taas:8474", "image", "CA")


def targets(folder: Path) -> tuple[Target, ...]:
    """Return the targets; files that they need are made in the folder."""
    return (
        Target("create", _create, (InvalidJob, DecodeError), make=_a_create, seeds=_CREATES),
        Target("hello", _hello, (InvalidJob, DecodeError), make=_message(_MESSAGE)),
        Target("watch-cursor", _watch_cursor, (InvalidJob,), seeds=_CURSORS),
        Target("log-cursor", _log_cursor, (InvalidJob,), seeds=_CURSORS),
        Target("page-token", _page_token, (InvalidJob,), seeds=_TOKENS),
        Target("filter", _filter, (InvalidJob,), seeds=_FILTERS, tokens=_FILTER_WORDS),
        Target("job-name", _names, (InvalidJob,), seeds=_NAMES, tokens=_PATH_WORDS),
        Target("manifest", _manifest, (ValueError,), seeds=_MANIFESTS, tokens=_JSON_WORDS),
        Target("fences", _Fences(folder), (), seeds=_FENCES, tokens=_JSON_WORDS),
        Target("record-line", _record_line, (), seeds=_RECORDS, tokens=_JSON_WORDS),
        Target("record-file", _RecordFile(folder), (), seeds=(b"a\nb\n", b"x" * 3000)),
        Target("report", _report, (), seeds=_REPORTS, tokens=_JSON_WORDS),
        Target("archive", _Archive(folder), (InvalidSource,), seeds=_archives(), make=_an_archive),
        Target("document", _Document(folder), (InvalidRequest,), seeds=_DOCUMENTS, tokens=_YAML),
    )


# --- Requests

_MESSAGE = worker_service_pb2.ConnectRequest


def _create(data: bytes) -> None:
    """What is let in must also be storable, showable and runnable."""
    request = pb.CreateTrainingJobRequest.FromString(data)
    job = parse.new_job(request, uid="uid", now=NOW, max_workers=100)
    wire.job_to_wire(job).SerializeToString()
    stored = wire_store.job_from_json(wire_store.job_to_json(job))
    assert stored == job, "a stored job is another one"
    assignment(job, 1).to_json()
    json.dumps(render(job, 0, SETTINGS))


def _a_create(random: Random) -> bytes:
    """Return a sound request in which one part is random."""
    request = a_request()
    whole = random_message(random, pb.CreateTrainingJobRequest)
    spec, wild = request.training_job.spec, whole.training_job.spec  # type: ignore[attr-defined]
    for descriptor, value in wild.ListFields():
        if random.random() < 0.3:
            if descriptor.is_repeated or descriptor.message_type is not None:
                spec.ClearField(descriptor.name)
                getattr(spec, descriptor.name).MergeFrom(value)
            else:
                setattr(spec, descriptor.name, value)
    return (whole if random.random() < 0.2 else request).SerializeToString()


def _hello(data: bytes) -> None:
    request = _MESSAGE.FromString(data)
    seen = wire_workers.member_from_hello(request.hello, NOW)
    seen = wire_workers.member_with_heartbeat(seen, request.heartbeat, NOW)
    replace(seen, exited=wire_workers.exited_from_wire(request.exited, 0, NOW))
    record = request.record
    wire.checkpoint_from_wire(record.checkpoint)
    wire.progress_from_wire(record.progress)


def _message(kind: Any) -> Callable[[Random], bytes]:
    return lambda random: random_message(random, kind).SerializeToString()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _watch_cursor(data: bytes) -> None:
    found = cursors.WatchCursor.decode(_text(data), "uid")
    assert cursors.WatchCursor.decode(found.encode(), "uid") == found


def _log_cursor(data: bytes) -> None:
    found = cursors.LogCursor.decode(_text(data), "uid")
    assert cursors.LogCursor.decode(found.encode(), "uid") == found


def _page_token(data: bytes) -> None:
    wanted = ListFilter(namespace="default")
    paging.position(_text(data), wanted)
    paging.place(_text(data), wanted)


def _filter(data: bytes) -> None:
    parent, _, text = _text(data).partition("|")
    parse_filter.list_filter(parent, text)


def _names(data: bytes) -> None:
    """Whatever is taken for a name is one folder name, and no other."""
    text = _text(data)
    key = parse_names.job_name(text, "name")
    for part in (key.namespace, key.name):
        assert Path(part).name == part
        assert part not in ("", ".", "..")
        assert part.isascii()


_CREATES = (a_request().SerializeToString(), a_request(request_id="x").SerializeToString())
_CURSORS = (
    cursors.WatchCursor("uid", 3, 2, 1).encode().encode(),
    cursors.LogCursor("uid", ((0, 5), (1, 7))).encode().encode(),
)
_TOKENS = (
    paging.token(7, ListFilter(namespace="default")).encode(),
    paging.token(("a", "b"), ListFilter(namespace="default")).encode(),
)
_FILTERS = (
    b"namespaces/a|phase=RUNNING AND labels.team=vision",
    b"namespaces/-|name=a*",
    b"namespaces/a|",
)
_FILTER_WORDS = (b" AND ", b"phase=", b"labels.", b"name=", b"*", b"=", b"PHASE_", b"namespaces/")
_NAMES = (b"namespaces/default/trainingJobs/mnist",)
_PATH_WORDS = (b"..", b"/", b"\0", b"%2e", b"\xe2\x80\xae", b"\xef\xbc\x8e", b"-", b"namespaces/")


# --- Files that users' programs can write


def _manifest(data: bytes) -> None:
    found = storage.Manifest.from_json(_text(data))
    assert found.size >= 0
    assert storage.parse_checkpoint_id(found.id) is not None or found.step >= 10**10
    for entry in found.files:
        path = os.path.normpath(f"/checkpoint/{entry.path}")
        assert path.startswith("/checkpoint"), path


class _Fences:
    def __init__(self, folder: Path) -> None:
        self._paths = storage.JobPaths(folder / "fences", "n", "j", "u")
        self._paths.fences.mkdir(parents=True)

    def __call__(self, data: bytes) -> None:
        (self._paths.fences / "g000001.json").write_bytes(data)
        storage.read_fences(self._paths)


def _record_line(data: bytes) -> None:
    record = _record(_text(data), 3, 7)
    assert (record.generation, record.index) == (3, 7)
    record.SerializeToString()


class _RecordFile:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "records"

    def __call__(self, data: bytes) -> None:
        self._path.write_bytes(data)
        fd = os.open(self._path, os.O_RDONLY)
        try:
            lines = LineFiles()
            found = lines.read(("u", 1), fd, 0, 10_000)
            expected = [line.decode(errors="replace") for line in data.split(b"\n")[:-1]]
            assert found == expected[:10_000]
            assert lines.read(("u", 1), fd, 2, 1) == expected[2:3]
        finally:
            os.close(fd)


def _report(data: bytes) -> None:
    parse_report(data.partition(b"\n")[0])


_MANIFESTS = (
    storage.Manifest(
        10, 1, 1.5, (storage.FileEntry("variables.index", 3, "0" * 64),), {"loss": 0.5}
    )
    .to_json()
    .encode(),
)
_FENCES = (b'{"generation": 2, "base_step": 10}',)
_RECORDS = (
    b'{"generation":1,"time":"2026-01-01T00:00:00Z","progress":{"step":"5","loss":0.25}}',
    b'{"index":"3","checkpoint":{"id":"step-0000000010.g000001","step":"10"}}',
)
_REPORTS = (
    b'{"type": "stage", "stage": "training", "step": 3}',
    b'{"type": "step", "step": 3}',
    b'{"type": "record", "record": {"progress": {"step": "5"}}}',
    b'{"type": "failure", "message": "x", "details": "y"}',
    b'{"type": "leaving", "code": 0}',
)
_JSON_WORDS = (
    *(b"1e999", b"-1e999", b"NaN", b"Infinity", b"null", b"true", b"[", b"{", b'"', b"[" * 3000),
    *(b"99999999999999999999999", b"-1", b"{}", b'"../x"', b'"/etc"', b"\\ud800", b"\\u0000"),
)


# --- Archives


class _Archive:
    """Unpacks, and looks whether anything has changed outside the folder."""

    def __init__(self, folder: Path) -> None:
        self._root, self._scratch = folder / "root", folder / "around" / "scratch"
        (self._root / "sources").mkdir(parents=True)
        self._scratch.parent.mkdir()
        self._kept = self._scratch.parent / "kept"
        self._kept.write_text("kept")

    def __call__(self, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        archive = storage.source_archive(self._root, digest)
        archive.write_bytes(data)
        try:
            unpack_source(self._root, digest, self._scratch, most_bytes=100_000, most_files=50)
        finally:
            archive.unlink()
            shutil.rmtree(self._scratch, ignore_errors=True)
            assert sorted(self._scratch.parent.iterdir()) == [self._kept]
            assert self._kept.read_text() == "kept"


def _tar(*members: tuple[str, bytes, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive of (name, type, content or link name)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as tar:
        for name, kind, content in members:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                entry.linkname = content.decode()
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _archives() -> tuple[bytes, ...]:
    file = ("task.py", tarfile.REGTYPE, b"x" * 10)
    long = ("d/" * 60 + "f" * 150, tarfile.REGTYPE, b"y")
    plain = _tar(file, ("d", tarfile.DIRTYPE, b""), long)
    bomb = _tar(("zeros", tarfile.REGTYPE, bytes(3_000_000)))
    return (*(gzip.compress(tar, mtime=0) for tar in (plain, _tar(file), bomb)), b"\x1f\x8b")


def _an_archive(random: Random) -> bytes:
    """Return an archive with names and kinds that somebody chose to do harm, or its tar damaged
    before it is packed."""
    names = ("a", "../kept", "/tmp/x", "a/../../kept", "./a", "a/b", "link", "link/kept", "é", "..")
    kinds = (tarfile.REGTYPE,) * 4 + (
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
        tarfile.GNUTYPE_SPARSE,
    )
    links = (b"..", b"/etc/passwd", b"../kept", b"a", b"link")
    members = [
        (random.choice(names), random.choice(kinds), random.choice(links))
        for _ in range(random.randrange(1, 6))
    ]
    form = random.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    tar = bytearray(_tar(*members, form=form))
    for _ in range(random.choice((0, 0, 1, 4))):
        tar[random.randrange(len(tar))] = random.randrange(256)
    return gzip.compress(bytes(tar), 1, mtime=0)


# --- Job documents


class _Document:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "job.yaml"

    def __call__(self, data: bytes) -> None:
        self._path.write_bytes(data)
        documents.load(self._path)


_DOCUMENTS = (
    b"apiVersion: taas.dev/v1\nkind: TrainingJob\nmetadata: {name: mnist, labels: {a: b}}\n"
    b"spec:\n  task: {module: task.py}\n  workers: 2\n  parameters: {epochs: '5'}\n",
    b'{"apiVersion":"taas.dev/v1","kind":"TrainingJob","metadata":{"name":"m"},"spec":{}}',
    b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\n"
    b"d: &d [*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d]\nspec: [*e,*e,*e,*e,*e]\n",
)
_YAML = (
    *(b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"!!binary ", b"!!set ", b"? "),
    *(b"2001-99-99", b"0x", b"1e999", b".nan", b"---\n", b"[", b"{", b"\t", b"\xff", b"- ", b": "),
    *(b"!!timestamp ", b"!!int ", b"!!float ", b"[" * 2000, b"\n  pod: {template: ", b"null"),
)
