"""Jobs, checkpoints and the details of a job as people read them: tables or aligned columns."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protos.taas.v1.job_pb2 import Checkpoint, Progress, TrainingJob, TrainingJobSpec
from taas import names, plain, units
from taas.display import PHASE_STYLES, cost_text

JOB_COLUMNS = ("NAME", "PHASE", "WORKERS", "STEP", "LOSS", "RESTARTS", "AGE")
CHECKPOINT_COLUMNS = ("ID", "STEP", "GENERATION", "SIZE", "AGE", "METRICS")


def job_row(job: TrainingJob, *, namespace: str, now: datetime) -> tuple[str, ...]:
    """Return a job's cells for JOB_COLUMNS."""
    status = job.status
    phase = names.phase_name(status.phase)
    return (
        names.short_name(job.name, namespace),
        f"{phase} (deleting)" if job.HasField("delete_time") else phase,
        f"{status.ready_workers}/{job.spec.workers}",
        _step(status.progress),
        units.number(status.progress.loss) if status.progress.step else "",
        str(status.restarts),
        units.age(job.create_time, now),
    )


def checkpoint_row(checkpoint: Checkpoint, *, now: datetime) -> tuple[str, ...]:
    """Return a checkpoint's cells for CHECKPOINT_COLUMNS."""
    return (
        checkpoint.id,
        f"{checkpoint.step:,}",
        str(checkpoint.generation),
        units.size(checkpoint.size_bytes),
        units.age(checkpoint.create_time, now),
        metrics_text(checkpoint.metrics),
    )


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Return metrics as "accuracy 0.9912  loss 0.0271"."""
    pairs = sorted(metrics.items())
    return "  ".join(f"{units.harmless(name)} {units.number(value)}" for name, value in pairs)


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw a table on a terminal."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    styles = {names.phase_name(phase): style for phase, style in PHASE_STYLES.items()}
    for row in rows:
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    console.print(table)


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines with aligned columns, for pipes; empty cells are "-" so that `cut` works."""
    filled = [tuple(cell or "-" for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *filled, strict=True)]
    for row in (columns, *filled):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def job_details(job: TrainingJob, *, now: datetime) -> Iterator[str]:
    """Yield the lines of `taas get`."""
    space, name = names.split_name(job.name)
    pairs = [("name", name), ("namespace", space), *_status_pairs(job, now), *_spec_pairs(job)]
    shown = [(key, value) for key, value in pairs if value]
    width = max(len(key) for key, _ in shown) + 1
    for key, value in shown:
        yield f"{key + ':':<{width}} {value}"
    if job.status.HasField("last_failure"):
        failure = job.status.last_failure
        where = f"worker {failure.worker}: " if failure.worker >= 0 else ""
        yield ""
        yield f"last failure: {failure.reason}: {where}{units.harmless(failure.message)}"
        yield from plain.traceback_lines(failure)


def _status_pairs(job: TrainingJob, now: datetime) -> Iterable[tuple[str, str]]:
    status = job.status
    yield "phase", names.phase_name(status.phase)
    yield "message", units.harmless(status.message)
    yield "created", f"{units.moment(job.create_time)} ({units.age(job.create_time, now)} ago)"
    yield "started", units.moment(status.start_time)
    yield "ended", units.moment(status.completion_time)
    if status.start_time.seconds and status.completion_time.seconds:
        took = units.aware(status.completion_time) - units.aware(status.start_time)
        yield "took", units.duration(took.total_seconds())
    if status.HasField("progress") and status.progress.step:
        progress = status.progress
        yield "step", f"{_step(progress)}  epoch {progress.epoch:.2f}"
        yield "training", f"loss {units.number(progress.loss)}  {metrics_text(progress.metrics)}"
        if not names.is_final(status.phase) and progress.examples_per_second:
            yield "rate", units.rate(progress.examples_per_second)
    if status.HasField("last_checkpoint"):
        found = status.last_checkpoint
        yield "checkpoint", f"{found.id} ({units.size(found.size_bytes)})"
    if status.HasField("storage_trouble"):
        trouble = status.storage_trouble
        since = units.age(trouble.since, now)
        yield "storage", f"no checkpoint saved for {since}: {units.harmless(trouble.message)}"
    yield "generation", str(status.generation)
    if status.restarts:
        causes = ", ".join(f"{k} {v}" for k, v in sorted(status.restarts_by_reason.items()))
        yield "restarts", f"{status.restarts} ({causes})" if causes else str(status.restarts)
    if status.accounting.restarts:
        yield "lost", cost_text(status.accounting.lost)
    if status.goodput:
        yield "goodput", f"{status.goodput:.1%} of the time new steps were made"
    for worker in status.workers:
        state = names.worker_state_name(worker.state).lower()
        yield f"worker {worker.index}", f"{state} {units.harmless(worker.reason)}".rstrip()


def _spec_pairs(job: TrainingJob) -> Iterable[tuple[str, str]]:
    spec = job.spec
    least = f" (at least {spec.min_workers})" if spec.min_workers not in (0, spec.workers) else ""
    beside = " and an evaluator" if spec.evaluator else ""
    yield "workers", f"{spec.workers}{least}{beside}"
    yield from _program_pairs(spec)
    if spec.HasField("source"):
        yield "source", f"{spec.source.digest[:12]} ({units.size(spec.source.size_bytes)})"
    yield "parameters", ", ".join(f"{k}={v}" for k, v in sorted(spec.parameters.items()))
    yield "labels", ", ".join(f"{k}={v}" for k, v in sorted(job.labels.items()))


def _program_pairs(spec: TrainingJobSpec) -> Iterable[tuple[str, str]]:
    yield "task", spec.task.module
    if spec.HasField("script"):
        script = spec.script
        yield "script", units.harmless(shlex.join([script.path, *script.arguments]))
        yield "distributed", "by the service" if script.distribute else "by the script itself"
        yield "saved", "by the script itself" if script.own_checkpoints else "by the service"
    yield "command", units.harmless(shlex.join(spec.command.words))


def _step(progress: Progress) -> str:
    if not progress.step:
        return ""
    return f"{progress.step:,}" + (f"/{progress.total_steps:,}" if progress.total_steps else "")
