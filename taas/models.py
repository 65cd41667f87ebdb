"""The model of a job, brought here: what it exported, or one of its checkpoints while it trains."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from protos.taas.v1.job_pb2 import BEST_MODE_MIN, Checkpoint, CheckpointPolicy, TrainingJob
from taas import names
from taas.client import Client
from taas.errors import NotFound

# Layout of a folder with a model, as trainer.exported reads it; in a job's output it lies at the
# top when the job is done, and in GRAPH, without values, while it trains.
MODEL, DESCRIPTION, GRAPH, CHECKPOINT = "model", "model.json", "graph", "checkpoint"
SAVED_MODEL = "saved_model.pb"
# Models of one job that stay in the cache.
_KEPT = 3
# A job may move on between the question what is newest and the download.
_ATTEMPTS = 3

# Called with what is being fetched, bytes done and bytes in all.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Version:
    """A state of a job's model. Without a checkpoint it is what the job exported."""

    job: str
    uid: str
    step: int
    checkpoint: str = ""

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"checkpoint of step {self.step}" if self.checkpoint else "exported model"


def saved_model(folder: Path) -> Path | None:
    """Return the folder of the SavedModel that a folder holds or is; None if it is none."""
    for place in (folder, folder / MODEL):
        if (place / SAVED_MODEL).is_file():
            return place
    return None


def chosen(newest_first: Sequence[Checkpoint], policy: CheckpointPolicy) -> Checkpoint | None:
    """Return the best checkpoint by the job's own metric, else the newest; None if there is none.

    Among equals the newest is the best.
    """
    sign = -1.0 if policy.best_mode == BEST_MODE_MIN else 1.0
    best, best_value = None, -math.inf
    for checkpoint in newest_first:
        value = sign * checkpoint.metrics.get(policy.best_metric, math.nan)
        # Strictly greater keeps the first met, which is the newest; so does the check for NaN.
        if math.isfinite(value) and value > best_value:
            best, best_value = checkpoint, value
    return best or next(iter(newest_first), None)


def newest(client: Client, name: str) -> Version:
    """Return the version of a job's model to use now. Raises NotFound if there is none yet."""
    job = client.get(name)
    paths = {file.path for file in client.files(name)}
    if DESCRIPTION in paths:
        return Version(job.name, job.uid, job.status.progress.step)
    checkpoint = chosen(client.checkpoints(name), job.spec.checkpoints)
    if checkpoint is None or f"{GRAPH}/{DESCRIPTION}" not in paths:
        raise NotFound(_nothing_yet(job, name))
    return Version(job.name, job.uid, checkpoint.step, checkpoint.id)


def _nothing_yet(job: TrainingJob, name: str) -> str:
    what = f"{name} has no model to ask (it is {names.phase_name(job.status.phase)})"
    if names.is_final(job.status.phase):
        return f"{what}: it ended before its first checkpoint"
    return f"{what}: there is one from its first checkpoint on, after a minute by default"


def bring(client: Client, name: str, cache: Path, progress: Progress) -> tuple[Version, Path]:
    """Return the newest version of a job's model and its folder; each is fetched once.

    Raises NotFound if there is none yet.
    """
    for _ in range(_ATTEMPTS - 1):
        version = newest(client, name)
        with contextlib.suppress(NotFound):
            return version, fetch(client, version, cache, progress)
    version = newest(client, name)
    return version, fetch(client, version, cache, progress)


def fetch(client: Client, version: Version, cache: Path, progress: Progress) -> Path:
    """Return the folder of that version, fetched unless the cache has it.

    Raises NotFound if the job has moved on meanwhile: ask for the newest again.
    """
    folder = cache / f"{version.uid}-{version.checkpoint or f'final-{version.step}'}"
    if saved_model(folder) is not None:
        return folder
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".tmp-") as temporary:
        complete = _download(client, version, Path(temporary) / "output", progress)
        # Another command may have been faster.
        with contextlib.suppress(OSError):
            complete.rename(folder)
    _forget(cache, version.uid)
    return folder


def _download(client: Client, version: Version, folder: Path, progress: Progress) -> Path:
    """Download into a folder that does not exist yet; return where in it the model lies."""
    client.download(
        version.job,
        folder,
        only=(GRAPH,) if version.checkpoint else (MODEL, DESCRIPTION),
        progress=lambda done, total: progress("downloading the model", done, total),
    )
    if not version.checkpoint:
        return folder
    client.download(
        version.job,
        folder / GRAPH / CHECKPOINT,
        checkpoint=version.checkpoint,
        progress=lambda done, total: progress("downloading the checkpoint", done, total),
    )
    return folder / GRAPH


def _forget(cache: Path, uid: str) -> None:
    """Remove all but the newest few models of a job."""
    found = sorted(cache.glob(f"{uid}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in found[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
