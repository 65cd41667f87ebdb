"""Events as plain lines, for pipes and logs: time, kind, key=value. The format is stable.

2026-01-31T12:00:00Z progress step=100 total_steps=1000 epoch=1.2 loss=0.0712 accuracy=0.9781
2026-01-31T12:00:01Z state from=RUNNING to=RESTARTING generation=1 message="worker 1 was lost"
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from protos.taas.v1.history_pb2 import Evaluation, Event, Exported, Record, Restored, StateChange
from protos.taas.v1.job_pb2 import Checkpoint, Failure, LostTime, Progress, RestartCost
from taas import names, units

Fields = dict[str, object]

# From this share of the time on, reading the data faster would make the training faster.
NOTABLY_STARVED = 0.1


class PlainDisplay:
    """Writes each event as a line, and the program's traceback of a failure indented below it."""

    def __init__(
        self, write: Callable[[str], None], note: Callable[[str], None], now: Callable[[], datetime]
    ) -> None:
        self._write = write
        self._note = note
        self._now = now

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        """Every line is out already."""

    def event(self, event: Event) -> None:
        """Show an event."""
        for line in lines(event):
            self._write(line)

    def lost(self, why: str) -> None:
        """Show that the service went away."""
        self._note(f"{self._time()} {why}")

    def back(self) -> None:
        """Show that the service answers again."""
        self._note(f"{self._time()} connected again")

    def _time(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def lines(event: Event) -> Iterator[str]:
    """Yield the lines of an event; an event of a newer kind yields none."""
    match event.WhichOneof("kind"):
        case "state":
            kind, fields = "state", _state(event.state)
            failure = event.state.failure if event.state.HasField("failure") else None
        case "worker":
            kind, fields = "worker", _worker(event)
            failure = None
        case "restart":
            kind, fields = "restart", _restart(event.restart)
            failure = None
        case "record":
            kind, fields = _record(event.record)
            failure = None
        case _:
            return
    if not kind:
        return
    text = " ".join(f"{key}={_value(value)}" for key, value in fields.items())
    yield f"{units.moment(event.time)} {kind} {text}"
    if failure is not None and failure.details:
        yield from traceback_lines(failure)


def traceback_lines(failure: Failure) -> Iterator[str]:
    """Yield the program's own traceback, indented."""
    yield from textwrap.indent(units.harmless(failure.details).rstrip(), "    ").splitlines()


def _state(change: StateChange) -> Fields:
    fields: Fields = {
        "from": names.phase_name(getattr(change, "from")),
        "to": names.phase_name(change.to),
        "generation": change.generation,
    }
    if change.message:
        fields["message"] = change.message
    if change.HasField("failure"):
        failure = change.failure
        fields["reason"] = failure.reason
        if failure.worker >= 0:
            fields["worker"] = failure.worker
        if failure.signal:
            fields["signal"] = failure.signal
        elif failure.exit_code:
            fields["exit_code"] = failure.exit_code
        if failure.message and failure.message != change.message:
            fields["failure"] = failure.message
    return fields


def _worker(event: Event) -> Fields:
    change = event.worker
    fields: Fields = {
        "index": change.index,
        "from": names.worker_state_name(getattr(change, "from")),
        "to": names.worker_state_name(change.to),
        "generation": change.generation,
    }
    if change.message:
        fields["message"] = change.message
    return fields


def lost_parts(lost: LostTime) -> Iterator[tuple[str, float]]:
    """Yield the parts of lost time by name, in the order in which they come."""
    for field in LostTime.DESCRIPTOR.fields:
        yield field.name.removesuffix("_seconds"), getattr(lost, field.name)


def _restart(cost: RestartCost) -> Fields:
    parts = dict(lost_parts(cost.lost))
    return {
        "generation": cost.generation,
        "reason": cost.reason,
        "lost_seconds": f"{sum(parts.values()):.2f}",
        **{name: f"{seconds:.2f}" for name, seconds in parts.items()},
        "steps_recomputed": cost.steps_recomputed,
    }


def _record(record: Record) -> tuple[str, Fields]:
    match record.WhichOneof("kind"):
        case "progress":
            return "progress", _progress(record.progress)
        case "checkpoint":
            return "checkpoint", _checkpoint(record.checkpoint)
        case "evaluation":
            return "evaluation", _evaluation(record.evaluation)
        case "restored":
            return "restored", _restored(record.restored)
        case "exported":
            return "exported", _exported(record.exported)
        case "notice":
            return "notice", {"reason": record.notice.reason, "message": record.notice.message}
    return "", {}


def _checkpoint(found: Checkpoint) -> Fields:
    return {
        "id": found.id,
        "step": found.step,
        "size_bytes": found.size_bytes,
        **_metrics(found.metrics),
    }


def _evaluation(found: Evaluation) -> Fields:
    return {
        "dataset": found.dataset,
        "step": found.step,
        "examples": found.examples,
        **_metrics(found.metrics),
    }


def _restored(found: Restored) -> Fields:
    fields: Fields = {"step": found.step, "checkpoint": found.checkpoint}
    if found.skipped:
        fields["skipped"] = "; ".join(found.skipped)
    return fields


def _exported(found: Exported) -> Fields:
    return {"step": found.step, "paths": ",".join(found.paths), "size_bytes": found.size_bytes}


def _progress(progress: Progress) -> Fields:
    fields: Fields = {"step": progress.step}
    if progress.total_steps:
        fields["total_steps"] = progress.total_steps
    fields["epoch"] = f"{progress.epoch:.3f}"
    fields["loss"] = f"{progress.loss:.6g}"
    fields.update(_metrics(progress.metrics))
    if progress.examples_per_second:
        fields["examples_per_second"] = f"{progress.examples_per_second:.1f}"
    if progress.HasField("seconds_left"):
        fields["seconds_left"] = f"{progress.seconds_left:.0f}"
    if progress.starved_fraction >= NOTABLY_STARVED:
        fields["starved"] = f"{progress.starved_fraction:.2f}"
    return fields


def _metrics(metrics: Mapping[str, float]) -> Fields:
    """Return metrics as fields; a name that would break the format is mended."""
    return {re.sub(r"[\s=\"]+", "_", k): f"{v:.6g}" for k, v in sorted(metrics.items())}


def _value(value: object) -> str:
    text = units.harmless(str(value))
    quoted = not text or re.search(r"[\s\"=]", text)
    return json.dumps(text, ensure_ascii=False) if quoted else text
