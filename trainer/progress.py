"""Tells the world how far the training is: records, TensorBoard curves, reports to the agent.

A record is written to the record file before it is reported, each as one line.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from protos.taas.v1 import history_pb2, job_pb2
from trainer.contract import Report
from trainer.snapshot import StorageError
from trainer.storage import Manifest

# Smallest time between two progress records.
RECORD_EVERY_S = 1.0
# Bytes of records that wait for a disk that takes nothing: about an hour of them.
_MOST_UNWRITTEN = 4 * 1024 * 1024
# Marks a value as a point of a curve; 1 is DATA_CLASS_SCALAR.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)


class Reports:
    """Lines to the agent, safe from several threads. Without a descriptor they go nowhere."""

    def __init__(self, descriptor: int | None) -> None:
        """Write to `descriptor`, which stays the caller's."""
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def stage(self, stage: str, step: int) -> None:
        """Say what this trainer is doing now."""
        self._send({"type": Report.STAGE, "stage": stage, "step": step})

    def step(self, step: int) -> None:
        """Say that steps up to this one are done."""
        self._send({"type": Report.STEP, "step": step})

    def record(self, record: Mapping[str, Any]) -> None:
        """Pass on a record that is in the record file."""
        self._send({"type": Report.RECORD, "record": record})

    def saving(self, failure: str) -> None:
        """Say why the newest checkpoint could not be saved, "" when one is saved again."""
        self._send({"type": Report.SAVING, "failure": failure})

    def failure(self, message: str, details: str) -> None:
        """Say why this trainer is about to leave."""
        self._send({"type": Report.FAILURE, "message": message, "details": details})

    def leaving(self, code: int) -> None:
        """Say that the process ends now with this exit code, without returning from `main`."""
        self._send({"type": Report.LEAVING, "code": int(code)})

    def _send(self, report: Mapping[str, Any]) -> None:
        with self._lock:
            if self._descriptor is None:
                return
            try:
                write_all(self._descriptor, json.dumps(report).encode() + b"\n")
            except BrokenPipeError:
                # The agent is gone, and this process will be in a moment.
                self._descriptor = None


def write_all(descriptor: int, line: bytes) -> None:
    """Write all of it, in one piece where the kernel lets us."""
    while line:
        line = line[os.write(descriptor, line) :]


class Records:
    """The record file of one generation; the chief's alone.

    While the storage takes nothing (a full disk), records wait in memory and training goes on.
    """

    def __init__(self, path: Path, *, generation: int, reports: Reports) -> None:
        """Open the file, with its folder. Raises StorageError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(path, error) from error
        self._path = path
        self._generation, self._reports = generation, reports
        self._index = 0
        self._unwritten = bytearray()
        self._unreported: list[Mapping[str, Any]] = []
        # Checkpoints are announced from the thread that writes them.
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file. Raises StorageError if records are left that it does not take."""
        try:
            write_all(self._file, bytes(self._unwritten))
        except OSError as error:
            raise StorageError(self._path, error) from error
        finally:
            os.close(self._file)

    def restored(self, step: int, checkpoint: str, skipped: tuple[str, ...]) -> None:
        """Record from which checkpoint training goes on."""
        kind = history_pb2.Restored(step=step, checkpoint=checkpoint, skipped=skipped)
        self._write(history_pb2.Record(restored=kind))

    def progress(self, progress: job_pb2.Progress) -> None:
        """Record how far the training is."""
        self._write(history_pb2.Record(progress=progress))

    def evaluation(self, dataset: str, step: int, size: int, metrics: Mapping[str, float]) -> None:
        """Record metrics over a held-out set."""
        kind = history_pb2.Evaluation(dataset=dataset, step=step, examples=size, metrics=metrics)
        self._write(history_pb2.Record(evaluation=kind))

    def checkpoint(self, manifest: Manifest) -> None:
        """Record a committed checkpoint."""
        kind = job_pb2.Checkpoint(
            id=manifest.id,
            step=manifest.step,
            generation=manifest.generation,
            size_bytes=manifest.size,
            metrics=manifest.metrics,
        )
        kind.create_time.FromNanoseconds(int(manifest.time * 1e9))
        self._write(history_pb2.Record(checkpoint=kind))

    def exported(self, step: int, paths: list[str], size: int) -> None:
        """Record what was exported, by paths below the output folder."""
        kind = history_pb2.Exported(step=step, paths=paths, size_bytes=size)
        self._write(history_pb2.Record(exported=kind))

    def notice(self, reason: str, message: str) -> None:
        """Record something that people should know."""
        self._write(history_pb2.Record(notice=history_pb2.Notice(reason=reason, message=message)))

    def _write(self, record: history_pb2.Record) -> None:
        with self._lock:
            record.generation, record.index = self._generation, self._index
            record.time.GetCurrentTime()
            fields = json_format.MessageToDict(record)
            self._unwritten += json.dumps(fields).encode() + b"\n"
            self._unreported.append(fields)
            self._index += 1
            try:
                # What was written of a line stays; the rest of it goes first the next time.
                while self._unwritten:
                    del self._unwritten[: os.write(self._file, self._unwritten)]
            except OSError as error:
                if len(self._unwritten) > _MOST_UNWRITTEN:
                    raise StorageError(self._path, error) from error
                return
            for each in self._unreported:
                self._reports.record(each)
            self._unreported.clear()


class Curves:
    """TensorBoard event files of the chief, one folder a data set. For one thread.

    Points that cannot be written are lost, which is told once; training goes on.
    """

    def __init__(self, folder: Path, on_failed: Callable[[str], None]) -> None:
        """Write below this folder."""
        self._folder = folder
        self._on_failed = on_failed
        self._told = False
        self._writers: dict[str, Any] = {}

    def point(self, dataset: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to every curve."""
        # tf.summary.scalar needs TensorBoard itself; what it writes needs only this.
        points = {name: np.float32(value) for name, value in values.items()}
        self.put(dataset, step, points, _SCALAR)

    def put(self, dataset: str, step: int, values: Mapping[str, Any], metadata: Any) -> None:
        """Add values that TensorBoard shows as the metadata says."""
        with self.harmless(), self._writer(dataset).as_default():
            for name, value in values.items():
                tf.summary.write(name, value, step, metadata=metadata)

    def graph(self, dataset: str, graph: Any) -> None:
        """Add a graph of TensorFlow."""
        with self.harmless(), self._writer(dataset).as_default():
            tf.summary.graph(graph)

    def _writer(self, dataset: str) -> Any:
        if dataset not in self._writers:
            path = str(self._folder / dataset)
            self._writers[dataset] = tf.summary.create_file_writer(path)
        return self._writers[dataset]

    def flush(self) -> None:
        """Bring all points so far into the files."""
        for writer in list(self._writers.values()):
            with self.harmless():
                writer.flush()

    def close(self) -> None:
        """Flush and close the files."""
        for writer in list(self._writers.values()):
            with self.harmless():
                writer.close()

    @contextlib.contextmanager
    def harmless(self) -> Iterator[None]:
        """Within, what cannot be read or written is told, and that is all."""
        try:
            yield
        except (tf.errors.OpError, OSError) as error:
            # A writer that has failed stays failed; the next point opens another file.
            self._writers.clear()
            if not self._told:
                self._told = True
                self._on_failed(f"{self._folder}: points of the curves were lost: {error}")


class Pace:
    """Rates between two progress records, from the time that calls took."""

    def __init__(self, *, total_steps: int, global_batch: int) -> None:
        """Begin before the first call. 0 is unknown, of steps and of the batch."""
        self._total, self._batch = total_steps, global_batch
        self._steps, self._seconds, self._starved_s = 0, 0.0, 0.0
        self._compiled = False
        self._last = -math.inf

    def called(self, steps: int, seconds: float, starved_s: float = 0.0) -> None:
        """Take in a call, and how much of it was waiting for input where that is known. The first
        one compiles, so its time would mislead."""
        if self._compiled:
            self._steps += steps
            self._seconds += seconds
            self._starved_s += starved_s
        self._compiled = True

    def due(self) -> bool:
        """Tell whether it is time for a record."""
        return time.monotonic() - self._last >= RECORD_EVERY_S

    def progress(self, step: int, epoch: float, values: Mapping[str, float]) -> job_pb2.Progress:
        """Return the record's content, and begin a new measurement."""
        rate = self._steps / self._seconds if self._seconds else 0.0
        starved = min(1.0, self._starved_s / self._seconds) if self._seconds else 0.0
        done = 0 < self._total <= step
        left = 0.0 if done else (self._total - step) / rate if rate and self._total else None
        self._steps, self._seconds, self._starved_s = 0, 0.0, 0.0
        self._last = time.monotonic()
        metrics = {name: value for name, value in values.items() if name != "loss"}
        return job_pb2.Progress(
            step=step,
            total_steps=self._total,
            epoch=epoch,
            loss=values["loss"],
            metrics=metrics,
            examples_per_second=rate * self._batch,
            seconds_left=left,
            starved_fraction=starved,
        )


@contextlib.contextmanager
def closing_all(*things: Any) -> Iterator[None]:
    """Close all of them at the end, in this order, whatever happens."""
    with contextlib.ExitStack() as stack:
        for thing in reversed(things):
            stack.callback(thing.close)
        yield
