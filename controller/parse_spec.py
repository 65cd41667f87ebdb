"""What users may ask for in a spec. Pure; every refusal is an InvalidJob.

The error names the field as proto JSON spells it, shows the value and says what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from controller.errors import InvalidJob
from controller.model import Source, Spec
from controller.parse_names import claim, job_id, shown
from controller.parse_pod import check_pod
from controller.parse_program import check_program
from controller.parse_values import check_range
from controller.wire import spec_with_defaults
from protos.taas.v1 import job_pb2
from trainer.contract import is_reserved

# Of parameters and of env.
MOST_ENTRIES = 256
MOST_KEY_CHARS = 128
MOST_VALUE_CHARS = 4096
# A trainer that starts cold gets its assignment as one environment variable, of which Linux
# allows 128 KiB; half of it is left to the addresses of the workers and to paths.
_MOST_ASSIGNMENT_BYTES = 64 * 1024
MOST_GRACE_S = 3600

ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def spec_from_wire(spec: job_pb2.TrainingJobSpec, field: str) -> Spec:
    """Check a spec and return it with the defaults filled in. Raises InvalidJob."""
    check_program(spec, field)
    if spec.HasField("source"):
        source_from_wire(spec.source, f"{field}.source")
    check_range(spec.workers, f"{field}.workers", 1)
    check_range(spec.min_workers, f"{field}.minWorkers", 0, spec.workers)
    check_range(spec.elastic_wait_seconds, f"{field}.elasticWaitSeconds", 0)
    _check_parameters(spec.parameters, f"{field}.parameters")
    _check_env(spec.env, f"{field}.env")
    _check_assignment(spec, f"{field}.parameters")
    _check_checkpoints(spec.checkpoints, f"{field}.checkpoints")
    check_range(spec.max_restarts, f"{field}.maxRestarts", 0)
    check_range(spec.active_deadline_seconds, f"{field}.activeDeadlineSeconds", 0)
    check_range(spec.start_deadline_seconds, f"{field}.startDeadlineSeconds", 0)
    check_range(spec.progress_deadline_seconds, f"{field}.progressDeadlineSeconds", 0)
    check_range(spec.ttl_seconds_after_finished, f"{field}.ttlSecondsAfterFinished", 0)
    check_range(spec.grace_seconds, f"{field}.graceSeconds", 0, MOST_GRACE_S)
    _check_origins(spec, field)
    check_pod(spec.pod, f"{field}.pod")
    claim(spec.storage.claim_name, f"{field}.storage.claimName")
    return spec_with_defaults(spec)


def source_from_wire(source: job_pb2.Source, field: str) -> Source:
    """Check what names a packed source folder and return it. Raises InvalidJob."""
    if not _DIGEST.fullmatch(source.digest):
        raise InvalidJob(
            f"{field}.digest",
            f"{shown(source.digest)} is no SHA-256 in 64 lower-case hexadecimal digits; "
            "send the one that UploadSource returned",
        )
    if source.size_bytes < 1:
        raise InvalidJob(
            f"{field}.sizeBytes",
            f"{source.size_bytes} is no size; send the size of the archive in bytes",
        )
    return Source(source.digest, source.size_bytes)


def _check_parameters(parameters: Mapping[str, str], field: str) -> None:
    for name in _entries(parameters, field):
        if not name.isidentifier():
            raise InvalidJob(
                field, f"{shown(name)} cannot name a parameter; use a Python identifier"
            )


def _check_env(env: Mapping[str, str], field: str) -> None:
    for name in _entries(env, field):
        if not re.fullmatch(ENV_NAME, name):
            raise InvalidJob(
                field,
                f"{shown(name)} cannot name a variable; use letters, digits and '_', "
                "beginning with no digit",
            )
        if is_reserved(name):
            raise InvalidJob(
                field, f"{name} is set by the service for every worker; choose another name"
            )


def _entries(mapping: Mapping[str, str], field: str) -> Iterator[str]:
    """Yield the keys of a mapping in order, once its size and its values are sound."""
    if len(mapping) > MOST_ENTRIES:
        raise InvalidJob(field, f"has {len(mapping)} entries; set at most {MOST_ENTRIES}")
    for key, value in sorted(mapping.items()):
        if len(key) > MOST_KEY_CHARS:
            raise InvalidJob(
                field,
                f"the name {shown(key)} has {len(key)} characters; use at most {MOST_KEY_CHARS}",
            )
        if len(value) > MOST_VALUE_CHARS:
            raise InvalidJob(
                f"{field}[{shown(key)}]",
                f"has {len(value)} characters; use at most {MOST_VALUE_CHARS}, "
                "and put more than that into a file of the source folder",
            )
        if "\0" in value:
            raise InvalidJob(
                f"{field}[{shown(key)}]", f"{shown(value)} has a NUL character; leave it out"
            )
        yield key


def _check_assignment(spec: job_pb2.TrainingJobSpec, field: str) -> None:
    words = [*spec.script.arguments, *spec.command.words]
    size = len(json.dumps([dict(spec.parameters), dict(spec.env), words]))
    if size > _MOST_ASSIGNMENT_BYTES:
        raise InvalidJob(
            field,
            f"take, together with env and the program's arguments, {size} bytes as JSON; use at "
            f"most {_MOST_ASSIGNMENT_BYTES}, and put more than that into a file of the source "
            "folder",
        )


def _check_origins(spec: job_pb2.TrainingJobSpec, field: str) -> None:
    if spec.HasField("init_from"):
        if not spec.HasField("task"):
            raise InvalidJob(
                f"{field}.initFrom",
                "is for tasks; a script loads the weights that it begins with itself",
            )
        job_id(spec.init_from.job, f"{field}.initFrom.job")
        check_range(spec.init_from.step, f"{field}.initFrom.step", 0)
    if spec.HasField("rewind"):
        if spec.HasField("command"):
            raise InvalidJob(f"{field}.rewind", "is not for commands, which see to their own files")
        check_range(spec.rewind.step, f"{field}.rewind.step", 1)
        check_range(spec.rewind.generation, f"{field}.rewind.generation", 0)


def _check_checkpoints(policy: job_pb2.CheckpointPolicy, field: str) -> None:
    check_range(policy.every_steps, f"{field}.everySteps", 0)
    check_range(policy.every_seconds, f"{field}.everySeconds", 0)
    check_range(policy.keep_last, f"{field}.keepLast", 0)
    check_range(policy.keep_every_steps, f"{field}.keepEverySteps", 0)
    metric = policy.best_metric
    if len(metric) > MOST_KEY_CHARS or not metric.isprintable() or " " in metric:
        raise InvalidJob(
            f"{field}.bestMetric",
            f"{shown(metric)} cannot name a metric; use at most {MOST_KEY_CHARS} printable "
            'characters without spaces, for example "accuracy"',
        )
    if policy.best_mode not in job_pb2.BestMode.values():
        known = ", ".join(job_pb2.BestMode.keys())
        raise InvalidJob(f"{field}.bestMode", f"{policy.best_mode} is unknown; set one of {known}")
