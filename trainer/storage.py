"""Layout of the shared storage, and which checkpoints in it count. Stdlib only.

<root>/sources/<digest>.tar.gz
<root>/jobs/<namespace>/<job>/<uid>/
    records/g000001.jsonl            one Record a line; written by that generation's chief only
    fences/g000002.json              what generation 2 began from; voids late commits of older ones
    checkpoints/step-0000001000.g000001/
        manifest.json                its atomic rename from manifest.json.tmp is the commit
        variables.*
    logs/worker-0.log                what worker 0 printed, all generations; of more than 32 MiB
    logs/worker-0.log.33554432       the newest goes on here, see trainer.logparts
    evaluations/new/step-0000001000.g000001.json
                                     what the evaluator found, and the chief has not told yet
    evaluations/step-0000001000.g000001.json
                                     the same, told; both count with the checkpoint's metrics
    evaluations/looking              the checkpoint that the evaluator has not done with
    frozen/                          outputs of a part of the model that is not trained
    output/                          what the user gets: model/, model.keras, tensorboard/, ...
    work/                            where the chief's script or command runs: the source, and
                                     what it wrote beside it; work.json says which is which
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from io import BufferedReader
from pathlib import Path

MANIFEST = "manifest.json"
# In JobPaths.evaluations: a folder, and a file.
NEW, LOOKING = "new", "looking"
# A manifest has a hundred bytes for each of its files; a model of a hundred thousand shards fits.
MOST_METADATA_BYTES = 16 * 1024 * 1024
_CHECKPOINT_ID = re.compile(r"step-(\d{10})\.g(\d{6})")


@dataclass(frozen=True, slots=True)
class JobPaths:
    """Folders of one job below a storage root."""

    root: Path
    namespace: str
    job: str
    uid: str

    @property
    def folder(self) -> Path:
        """Everything the job has in storage, its source archive excepted."""
        return self.root / "jobs" / self.namespace / self.job / self.uid

    @property
    def records(self) -> Path:
        """Record files, one a generation."""
        return self.folder / "records"

    @property
    def fences(self) -> Path:
        """What each generation began from."""
        return self.folder / "fences"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.folder / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """What the evaluator found, one file a checkpoint; see trainer.beside."""
        return self.folder / "evaluations"

    @property
    def logs(self) -> Path:
        """One file a worker."""
        return self.folder / "logs"

    @property
    def output(self) -> Path:
        """What the user gets."""
        return self.folder / "output"

    @property
    def frozen(self) -> Path:
        """Outputs of the part of the model that is not trained, see trainer.frozen."""
        return self.folder / "frozen"

    @property
    def work(self) -> Path:
        """Where the chief's script or command runs."""
        return self.folder / "work"

    @property
    def work_index(self) -> Path:
        """What was in `work` before the program ran, and what of it is in `output`."""
        return self.folder / "work.json"

    def record_file(self, generation: int) -> Path:
        """Record file of a generation."""
        return self.records / f"g{generation:06d}.jsonl"

    def log_file(self, worker: int) -> Path:
        """First part of a worker's log."""
        return self.logs / f"worker-{worker}.log"


def open_regular(path: Path) -> BufferedReader:
    """Open a file that programs of users may have put there: a link or a pipe in its place is
    refused. Raises OSError or ValueError."""
    # NONBLOCK: opening a pipe must not wait for its other end.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    # Asked before Python has it: what turns out to be a folder it would leave open.
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError(f"{path} is no regular file")
    return os.fdopen(fd, "rb")


def read_small(path: Path, most_bytes: int = MOST_METADATA_BYTES) -> str:
    """Return the text of a small file that programs of users may have put there: a link, a pipe or
    something large in its place is refused. Raises OSError or ValueError."""
    with open_regular(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"{path} is larger than {most_bytes} bytes")
    return data.decode()


def source_archive(root: Path, digest: str) -> Path:
    """Return where the packed source folder of that digest lies."""
    return root / "sources" / f"{digest}.tar.gz"


def checkpoint_id(step: int, generation: int) -> str:
    """Return the folder name of a checkpoint; sorts by step, then generation."""
    return f"step-{step:010d}.g{generation:06d}"


def parse_checkpoint_id(text: str) -> tuple[int, int] | None:
    """Return (step, generation) of a checkpoint's folder name, or None if it is none."""
    match = _CHECKPOINT_ID.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


# What the wrong kind of JSON document raises: too deep, infinite, or of other types.
NO_DOCUMENT = (KeyError, TypeError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was found about the validation set with a checkpoint."""

    step: int
    generation: int
    examples: int
    metrics: dict[str, float]

    @property
    def id(self) -> str:
        """Folder name of the checkpoint."""
        return checkpoint_id(self.step, self.generation)

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Evaluated:
        """Parse what `to_json` wrote. Raises ValueError if it is anything else."""
        try:
            raw = json.loads(text)
            metrics = {str(k): float(v) for k, v in raw["metrics"].items()}
            numbers = (int(raw["step"]), int(raw["generation"]), int(raw["examples"]))
        except (ValueError, *NO_DOCUMENT) as error:
            raise ValueError(f"not an evaluation: {error!r}") from error
        if not all(0 <= number < 2**31 for number in numbers):
            raise ValueError("not an evaluation: its numbers are out of range")
        return Evaluated(*numbers, metrics)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a checkpoint: path relative to its folder, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What makes a checkpoint committed. `time` is seconds since the epoch, UTC."""

    step: int
    generation: int
    time: float
    files: tuple[FileEntry, ...]
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Folder name of the checkpoint."""
        return checkpoint_id(self.step, self.generation)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Parse a manifest. Raises ValueError if it is none; paths that leave the folder are."""
        try:
            raw = json.loads(text)
            files = tuple(
                FileEntry(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in raw["files"]
            )
            metrics = {str(k): float(v) for k, v in raw["metrics"].items()}
            manifest = Manifest(
                int(raw["step"]), int(raw["generation"]), float(raw["time"]), files, metrics
            )
        except (ValueError, *NO_DOCUMENT) as error:
            raise ValueError(f"not a checkpoint manifest: {error!r}") from error
        numbers = (manifest.step, manifest.generation, *(entry.size for entry in files))
        if not all(0 <= number < 2**63 for number in numbers) or not math.isfinite(manifest.time):
            raise ValueError("not a checkpoint manifest: its numbers are out of range")
        for entry in manifest.files:
            outside = entry.path.startswith("/") or ".." in Path(entry.path).parts
            if outside or "\0" in entry.path:
                raise ValueError(f"manifest names a file outside its folder: {entry.path!r}")
        return manifest


@dataclass(frozen=True, slots=True)
class Fence:
    """Generation `generation` began from step `base_step` (0: from nothing).

    A checkpoint of an older generation beyond that step was committed too late, or was damaged:
    it is not part of the job's history any more.
    """

    generation: int
    base_step: int


def read_fences(paths: JobPaths) -> tuple[Fence, ...]:
    """Return all fences of a job, oldest generation first. A torn file is no fence."""
    fences = []
    for path in sorted(paths.fences.glob("g*.json")):
        try:
            raw = json.loads(read_small(path))
            fences.append(Fence(int(raw["generation"]), int(raw["base_step"])))
        except (ValueError, OSError, *NO_DOCUMENT):
            continue
    return tuple(fences)


def visible(manifests: Iterable[Manifest], fences: Iterable[Fence]) -> tuple[Manifest, ...]:
    """Return the checkpoints that count, newest step first; see Fence."""
    fences = tuple(fences)
    kept = [
        m
        for m in manifests
        if all(m.step <= f.base_step for f in fences if f.generation > m.generation)
    ]
    return tuple(sorted(kept, key=lambda m: (m.step, m.generation), reverse=True))


def committed(paths: JobPaths) -> tuple[Manifest, ...]:
    """Return the committed checkpoints of a job that count, newest step first.

    Reads manifests only; whether the files are sound is for the restore to check. A folder
    whose manifest is unreadable or names another checkpoint is passed over, and so is a link.
    """
    manifests = []
    for path in paths.checkpoints.glob(f"step-*/{MANIFEST}"):
        if path.parent.is_symlink():
            continue
        try:
            manifest = Manifest.from_json(read_small(path))
        except (ValueError, OSError):
            continue
        if manifest.id == path.parent.name:
            manifests.append(_evaluated(paths, manifest))
    return visible(manifests, read_fences(paths))


def _evaluated(paths: JobPaths, manifest: Manifest) -> Manifest:
    """Return a manifest with what the evaluator found besides what was known when it was saved."""
    for folder in (paths.evaluations, paths.evaluations / NEW):
        try:
            found = Evaluated.from_json(read_small(folder / f"{manifest.id}.json")).metrics
        except (ValueError, OSError):
            continue
        looked = {f"val_{name}": value for name, value in found.items()}
        return replace(manifest, metrics={**manifest.metrics, **looked})
    return manifest
