"""A spec is accepted up to its edges; beyond, field, value and remedy are named."""

from __future__ import annotations

from typing import Any

import pytest

from controller import parse_spec
from controller.model import CheckpointPolicy, Command, Script, Source, Task
from protos.taas.v1 import job_pb2
from tests.unit.create_requests import DIGEST, MOST_WORKERS, new, refusal, request, spec
from trainer.contract import RESERVED_ENV, RESERVED_ENV_PREFIX


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        pytest.param({"workers": 1}, "workers", 1, id="one worker"),
        pytest.param({"workers": MOST_WORKERS}, "workers", MOST_WORKERS, id="most workers"),
        pytest.param({"min_workers": 0}, "min_workers", 2, id="min workers follow workers"),
        pytest.param({"min_workers": 1}, "min_workers", 1, id="elastic"),
        pytest.param({"min_workers": 2}, "min_workers", 2, id="min workers the same"),
        pytest.param({"max_restarts": 0}, "max_restarts", 0, id="no restart is not unset"),
        pytest.param({"ttl_seconds_after_finished": 0}, "ttl_after_finished_s", 0, id="ttl of 0"),
        pytest.param({"active_deadline_seconds": 0}, "active_deadline_s", None, id="no deadline"),
        pytest.param({"start_deadline_seconds": 1}, "start_deadline_s", 1, id="start deadline"),
        pytest.param(
            {"progress_deadline_seconds": 1}, "progress_deadline_s", 1, id="progress deadline"
        ),
        pytest.param({"grace_seconds": 3600}, "grace_s", 3600, id="longest grace"),
        pytest.param({"grace_seconds": 1}, "grace_s", 1, id="shortest grace"),
        pytest.param(
            {"parameters": {"größe": "x" * 4096, "_x": "", "k" * 128: "\n"}},
            "parameters",
            (("_x", ""), ("größe", "x" * 4096), ("k" * 128, "\n")),
            id="widest parameters",
        ),
        pytest.param(
            {"env": {"_": "", "PATH": "/bin", "TF_CONFIG_2": "x", "taas_x": "y"}},
            "env",
            (("PATH", "/bin"), ("TF_CONFIG_2", "x"), ("_", ""), ("taas_x", "y")),
            id="env like reserved ones",
        ),
        pytest.param(
            {"task": {"module": "a/b-c d.py"}}, "program", Task("a/b-c d.py"), id="module path"
        ),
        pytest.param(
            {"task": {"module": "m" * 252 + ".py"}},
            "program",
            Task("m" * 252 + ".py"),
            id="long module",
        ),
        pytest.param(
            {"task": {"module": "..x.py"}}, "program", Task("..x.py"), id="dots in a name"
        ),
        pytest.param(
            {"checkpoints": {"every_steps": 9}},
            "checkpoints",
            CheckpointPolicy(every_steps=9, every_seconds=0),
            id="by steps only",
        ),
        pytest.param(
            {"checkpoints": {"every_seconds": 9}},
            "checkpoints",
            CheckpointPolicy(every_seconds=9),
            id="by time only",
        ),
        pytest.param(
            {"checkpoints": {"keep_last": 1, "best_metric": "top_k/accuracy", "best_mode": 1}},
            "checkpoints",
            CheckpointPolicy(keep_last=1, best_metric="top_k/accuracy", best_mode="max"),
            id="best",
        ),
        pytest.param({"suspend": True}, "suspend", True, id="suspended from the start"),
        pytest.param(
            {
                "task": None,
                "script": {
                    "path": "a/train.py",
                    "arguments": ["--rate", "", "x" * 4096],
                    "distribute": True,
                    "own_checkpoints": True,
                },
            },
            "program",
            Script("a/train.py", ("--rate", "", "x" * 4096), distribute=True, own_checkpoints=True),
            id="script",
        ),
        pytest.param(
            {"task": None, "script": {"path": "t.py"}},
            "progress_deadline_s",
            600,
            id="a script's deadline",
        ),
        pytest.param(
            {"task": None, "command": {"words": ["w"] * 256}},
            "program",
            Command(("w",) * 256),
            id="longest command",
        ),
        pytest.param(
            {"task": None, "command": {"words": ["w"]}, "progress_deadline_seconds": 7},
            "progress_deadline_s",
            None,
            id="a command's deadline",
        ),
        pytest.param(
            {"task": None, "source": None, "command": {"words": ["w"]}},
            "source",
            None,
            id="command in the image",
        ),
    ],
)
def test_an_edge_is_accepted(changes: dict[str, Any], field: str, value: object) -> None:
    assert getattr(new(request(spec(**changes))).spec, field) == value


def test_as_many_entries_as_allowed_are_accepted() -> None:
    many = {f"k{i}": "v" for i in range(256)}
    job = new(request(spec(parameters=many, env=many), labels={f"k{i}": "v" for i in range(64)}))
    assert (len(job.spec.parameters), len(job.spec.env), len(job.labels)) == (256, 256, 64)


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        pytest.param({"task": None}, "task", "is missing; set task.module", id="no program"),
        pytest.param(
            {"task": None, "script": {}}, "script.path", 'for example "train.py"', id="no script"
        ),
        pytest.param(
            {"task": None, "script": {"path": "train.sh"}}, "script.path", "no Python file", id="sh"
        ),
        pytest.param(
            {"task": None, "script": {"path": "t.py"}, "source": None},
            "source",
            "set script.path to its absolute path",
            id="script without a source",
        ),
        pytest.param(
            {"task": None, "script": {"path": "t.py", "arguments": ["a\0"]}},
            "script.arguments[0]",
            "NUL",
            id="argument NUL",
        ),
        pytest.param(
            {"task": None, "script": {"path": "t.py"}, "parameters": {"a": "1"}},
            "parameters",
            "script.arguments",
            id="parameters of a script",
        ),
        pytest.param(
            {"task": None, "command": {"words": []}}, "command.words", "no program", id="no words"
        ),
        pytest.param(
            {"task": None, "command": {"words": [""]}}, "command.words", "no program", id="no word"
        ),
        pytest.param(
            {"task": None, "command": {"words": ["w"] * 257}},
            "command.words",
            "at most 256",
            id="many words",
        ),
        pytest.param(
            {"task": None, "command": {"words": ["w", "x" * 4097]}},
            "command.words[1]",
            "at most 4096",
            id="long word",
        ),
        pytest.param(
            {"task": None, "command": {"words": ["x" * 4096] * 20}},
            "parameters",
            "as JSON",
            id="long command",
        ),
        pytest.param({"task": {"module": ""}}, "task.module", "'' is no path", id="no module"),
        pytest.param({"task": {"module": "m" * 253 + ".py"}}, "task.module", "1 to 255", id="long"),
        pytest.param({"task": {"module": "a\0.py"}}, "task.module", "printable", id="module NUL"),
        pytest.param({"task": {"module": "a\n.py"}}, "task.module", "printable", id="line end"),
        pytest.param(
            {"task": {"module": "/task.py"}}, "task.module", "try 'task.py'", id="absolute"
        ),
        pytest.param({"task": {"module": "//task.py"}}, "task.module", "try 'task.py'", id="//"),
        pytest.param({"task": {"module": "../task.py"}}, "task.module", "try 'task.py'", id="up"),
        pytest.param(
            {"task": {"module": "a/../../t.py"}}, "task.module", "try 't.py'", id="down and up"
        ),
        pytest.param(
            {"task": {"module": "a/../t.py"}}, "task.module", "try 't.py'", id="inner dots"
        ),
        pytest.param({"task": {"module": "./task.py"}}, "task.module", "try 'task.py'", id="dot"),
        pytest.param(
            {"task": {"module": "a//t.py"}}, "task.module", "try 'a/t.py'", id="two slashes"
        ),
        pytest.param(
            {"task": {"module": "a\\t.py"}}, "task.module", "try 'a/t.py'", id="backslash"
        ),
        pytest.param({"task": {"module": "task.py/"}}, "task.module", "try 'task.py'", id="folder"),
        pytest.param({"task": {"module": "../.."}}, "task.module", "plain path", id="up and up"),
        pytest.param({"task": {"module": "/"}}, "task.module", "plain path", id="root"),
        pytest.param({"task": {"module": ".."}}, "task.module", "no Python file", id="dots only"),
        pytest.param({"task": {"module": "task"}}, "task.module", "no Python file", id="no .py"),
        pytest.param({"task": {"module": "task.ipynb"}}, "task.module", ".py file", id="notebook"),
        pytest.param({"task": {"module": "task.PY"}}, "task.module", ".py file", id="case of .py"),
        pytest.param({"task": {"module": "a/.py"}}, "task.module", ".py file", id="only .py"),
        pytest.param({"source": None}, "source", "UploadSource", id="no source"),
        pytest.param(
            {"source": {"digest": "abc", "size_bytes": 1}},
            "source.digest",
            "'abc'",
            id="short digest",
        ),
        pytest.param(
            {"source": {"digest": DIGEST.upper(), "size_bytes": 1}},
            "source.digest",
            "lower-case",
            id="upper-case digest",
        ),
        pytest.param(
            {"source": {"digest": DIGEST + "\n", "size_bytes": 1}},
            "source.digest",
            "64 lower-case hexadecimal",
            id="digest with line end",
        ),
        pytest.param(
            {"source": {"digest": "../" + DIGEST[3:], "size_bytes": 1}},
            "source.digest",
            "64 lower-case hexadecimal",
            id="digest is a path",
        ),
        pytest.param(
            {"source": {"digest": DIGEST}}, "source.sizeBytes", "0 is no size", id="size 0"
        ),
        pytest.param(
            {"source": {"digest": DIGEST, "size_bytes": -1}},
            "source.sizeBytes",
            "-1",
            id="size < 0",
        ),
        pytest.param({"workers": 0}, "workers", "0 is too small; set 1 or more", id="no workers"),
        pytest.param({"workers": -3}, "workers", "-3 is too small", id="negative workers"),
        pytest.param({"workers": 9}, "workers", "9 is out of range; set 1 to 8", id="many workers"),
        pytest.param({"min_workers": -1}, "minWorkers", "set 0 to 2", id="negative min workers"),
        pytest.param({"min_workers": 3}, "minWorkers", "3 is out of range", id="min > workers"),
        pytest.param({"parameters": {"": "1"}}, "parameters", "Python identifier", id="no name"),
        pytest.param({"parameters": {"a-b": "1"}}, "parameters", "'a-b' cannot", id="hyphen"),
        pytest.param({"parameters": {"1a": "1"}}, "parameters", "'1a' cannot", id="digit first"),
        pytest.param(
            {"parameters": {"k" * 129: "1"}}, "parameters", "129 characters", id="long name"
        ),
        pytest.param(
            {"parameters": {"rate": "x" * 4097}},
            "parameters['rate']",
            "has 4097 characters; use at most 4096",
            id="long value",
        ),
        pytest.param({"parameters": {"a": "x\0"}}, "parameters['a']", "NUL", id="parameter NUL"),
        pytest.param(
            {"parameters": {f"k{i}": "" for i in range(257)}},
            "parameters",
            "at most 256",
            id="many",
        ),
        pytest.param(
            {"parameters": {f"k{i}": "x" * 4096 for i in range(16)}},
            "parameters",
            "use at most 65536",
            id="big parameters",
        ),
        pytest.param(
            {"env": {f"K{i}": "x" * 4096 for i in range(16)}},
            "parameters",
            "with env",
            id="big env",
        ),
        pytest.param(
            {"parameters": {f"k{i}": "€" * 4096 for i in range(3)}},
            "parameters",
            "bytes as JSON",
            id="big as JSON only",
        ),
        pytest.param({"env": {"": "1"}}, "env", "'' cannot name a variable", id="no env name"),
        pytest.param({"env": {"A=B": "1"}}, "env", "'A=B' cannot", id="env ="),
        pytest.param({"env": {"1A": "1"}}, "env", "beginning with no digit", id="env digit first"),
        pytest.param({"env": {"GRÖSSE": "1"}}, "env", "use letters", id="env letter"),
        pytest.param({"env": {"A\n": "1"}}, "env", "use letters", id="env line end"),
        pytest.param(
            {"env": {"A": "x\0y"}}, "env['A']", "NUL character; leave it out", id="env NUL"
        ),
        pytest.param({"env": {"A": "x" * 4097}}, "env['A']", "at most 4096", id="long env"),
        pytest.param({"env": {"K" * 129: "x"}}, "env", "at most 128", id="long env name"),
        pytest.param(
            {"env": {f"K{i}": "" for i in range(257)}}, "env", "has 257 entries", id="many env"
        ),
        pytest.param({"env": {"TAAS_JOB": "x"}}, "env", "set by the service", id="TAAS_JOB"),
        pytest.param({"env": {"TAAS_": "x"}}, "env", "choose another name", id="TAAS_"),
        pytest.param({"env": {"TF_CONFIG": "{}"}}, "env", "TF_CONFIG is set", id="TF_CONFIG"),
        pytest.param(
            {"checkpoints": {"every_steps": -1}}, "checkpoints.everySteps", "-1", id="steps"
        ),
        pytest.param(
            {"checkpoints": {"every_seconds": -1}}, "checkpoints.everySeconds", "-1", id="seconds"
        ),
        pytest.param({"checkpoints": {"keep_last": -1}}, "checkpoints.keepLast", "-1", id="keep"),
        pytest.param(
            {"checkpoints": {"best_metric": "val accuracy"}},
            "checkpoints.bestMetric",
            "without spaces",
            id="metric with a space",
        ),
        pytest.param(
            {"checkpoints": {"best_metric": "a\n"}},
            "checkpoints.bestMetric",
            "printable",
            id="metric",
        ),
        pytest.param(
            {"checkpoints": {"best_metric": "m" * 129}},
            "checkpoints.bestMetric",
            "at most 128",
            id="long metric",
        ),
        pytest.param(
            {"checkpoints": {"best_mode": 3}},
            "checkpoints.bestMode",
            "3 is unknown; set one of BEST_MODE_UNSPECIFIED, BEST_MODE_MAX, BEST_MODE_MIN",
            id="best mode",
        ),
        pytest.param({"max_restarts": -1}, "maxRestarts", "set 0 or more", id="max restarts"),
        pytest.param({"active_deadline_seconds": -1}, "activeDeadlineSeconds", "-1", id="active"),
        pytest.param({"start_deadline_seconds": -1}, "startDeadlineSeconds", "-1", id="start"),
        pytest.param({"progress_deadline_seconds": -1}, "progressDeadlineSeconds", "-1", id="hang"),
        pytest.param({"ttl_seconds_after_finished": -1}, "ttlSecondsAfterFinished", "-1", id="ttl"),
        pytest.param({"grace_seconds": -1}, "graceSeconds", "set 0 to 3600", id="negative grace"),
        pytest.param({"grace_seconds": 3601}, "graceSeconds", "3601", id="long grace"),
    ],
)
def test_a_bad_spec_is_refused(changes: dict[str, Any], field: str, says: str) -> None:
    error = refusal(request(spec(**changes)))
    assert error.field == f"trainingJob.spec.{field}"
    assert says in error.why
    assert len(str(error)) < 400


@pytest.mark.parametrize("name", sorted(RESERVED_ENV | {RESERVED_ENV_PREFIX + "X"}))
def test_every_reserved_variable_is_refused(name: str) -> None:
    assert refusal(request(spec(env={name: "x"}))).field == "trainingJob.spec.env"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("team", "vision", id="plain"),
        pytest.param("team", "", id="empty value"),
        pytest.param("Team_1.x-y", "V_1.x-y", id="every character"),
        pytest.param("k" * 63, "v" * 63, id="longest"),
        pytest.param("example.com/team", "x", id="prefix"),
        pytest.param("a/b", "x", id="short prefix"),
        pytest.param("a." * 126 + "a/k", "x", id="longest prefix"),
    ],
)
def test_a_label_is_accepted(key: str, value: str) -> None:
    assert new(request(labels={key: value})).labels == ((key, value),)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        pytest.param("", "x", "'' cannot be a label's key", id="empty key"),
        pytest.param("-a", "x", "beginning and ending with a letter or digit", id="hyphen first"),
        pytest.param("a-", "x", "'a-' cannot", id="hyphen last"),
        pytest.param("a b", "x", "'a b' cannot", id="space"),
        pytest.param("ä", "x", "'ä' cannot", id="letter"),
        pytest.param("k" * 64, "x", "1 to 63", id="long key"),
        pytest.param("/a", "x", "'/a' cannot", id="empty prefix"),
        pytest.param("a/", "x", "'a/' cannot", id="empty name"),
        pytest.param("A/b", "x", "'A/b' cannot", id="prefix in capitals"),
        pytest.param("a..b/c", "x", "'a..b/c' cannot", id="empty part of the prefix"),
        pytest.param("a/b/c", "x", "'a/b/c' cannot", id="two slashes"),
        pytest.param("a." * 126 + "aa/k", "x", "cannot be a label's key", id="long prefix"),
        pytest.param("k", "-x", "'-x' cannot be the value of label k", id="value hyphen first"),
        pytest.param("k", "x y", "'x y' cannot", id="value space"),
        pytest.param("k", "x/y", "'x/y' cannot", id="value slash"),
        pytest.param("k", "v" * 64, "at most 63", id="long value"),
    ],
)
def test_a_bad_label_is_refused(key: str, value: str, says: str) -> None:
    error = refusal(request(labels={"good": "one", key: value}))
    assert error.field == "trainingJob.labels"
    assert says in error.why


def test_too_many_labels_are_refused() -> None:
    error = refusal(request(labels={f"k{i}": "v" for i in range(65)}))
    assert str(error) == "trainingJob.labels: has 65 entries; set at most 64"


def test_a_source_is_parsed() -> None:
    source = job_pb2.Source(digest=DIGEST, size_bytes=3)
    assert parse_spec.source_from_wire(source, "header.source") == Source(DIGEST, 3)
