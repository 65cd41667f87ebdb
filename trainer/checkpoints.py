"""Checkpoints of one generation: chosen and verified, written beside training, kept or removed.

A checkpoint is committed by the rename of its manifest, when all its files are on the disk. It
is removed by the rename of its folder, so at no moment does a part of one look whole.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer import snapshot
from trainer.contract import Checkpointing
from trainer.origins import OriginError, steps_there_are
from trainer.relay import claimed
from trainer.retention import kept
from trainer.saves import RETRY_S, Save, Saves
from trainer.snapshot import CheckpointError, StorageError, damage, describe, flush
from trainer.storage import (
    MANIFEST,
    Fence,
    JobPaths,
    Manifest,
    checkpoint_id,
    committed,
    parse_checkpoint_id,
    read_fences,
    read_small,
)

__all__ = ["CheckpointError", "Checkpoints", "Chosen", "StorageError"]

# Prefix of a folder on its way out; whoever finds one may finish the removal.
_REMOVED = ".removed-"
# How long the last save of a training is tried before the generation is given up, and with it
# the steps since the newest checkpoint.
LAST_SAVE_S = 60.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """The checkpoint to begin from, and why newer ones were passed over."""

    step: int
    generation: int
    id: str
    skipped: tuple[str, ...] = ()


class Checkpoints:
    """What one generation does with the checkpoints of its job.

    `choose` and `load` are for every worker, the rest is the chief's. `on_saved` and `on_failed`
    are called on the writer's thread, one call at a time.
    """

    def __init__(
        self,
        paths: JobPaths,
        *,
        generation: int,
        policy: Checkpointing,
        on_saved: Callable[[Manifest], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """Touch nothing yet."""
        self._paths = paths
        self._generation = generation
        self._policy = policy
        self._on_saved = on_saved
        self._on_failed = on_failed
        # Why checkpoints were passed over by the last `choose`, also when it found none.
        self.skipped: tuple[str, ...] = ()
        # Step and time (as given to `due`) of the last save, for `due`.
        self._last_step = 0
        self._last_time: float | None = None
        self._now = 0.0
        self._saves = Saves(self._write_one)

    # Beginning.

    def choose(self, at_step: int | None = None) -> Chosen | None:
        """Return the newest checkpoint whose every byte is as it was written, or None.

        Changes nothing. What was passed over is in `skipped` as well, one line each. With a step
        only those of that step are looked at; raises OriginError if none of them is sound.
        """
        newest_first = committed(self._paths)
        if at_step is not None:
            return self._chosen_at(at_step, newest_first)
        skipped = []
        for manifest in newest_first:
            reason = damage(self._paths.checkpoints / manifest.id, manifest)
            if reason is None:
                skipped += self._illegible(after=(manifest.step, manifest.generation))
                self.skipped = tuple(skipped)
                return Chosen(manifest.step, manifest.generation, manifest.id, self.skipped)
            skipped.append(f"{manifest.id}: {reason}")
        self.skipped = (*skipped, *self._illegible(after=(0, 0)))
        return None

    def _chosen_at(self, step: int, newest_first: tuple[Manifest, ...]) -> Chosen:
        found = [m for m in newest_first if m.step == step]
        reasons = {m.id: damage(self._paths.checkpoints / m.id, m) for m in found}
        for manifest in found:
            if reasons[manifest.id] is None:
                return Chosen(manifest.step, manifest.generation, manifest.id)
        damaged = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        steps = steps_there_are(sorted({m.step for m in newest_first}))
        raise OriginError(f"rewind: no sound checkpoint of step {step} ({damaged or steps})")

    def fence(self, base_step: int) -> None:
        """Declare that this generation goes on from `base_step` (0: from nothing).

        From here on older generations can commit nothing that counts. Durable when it returns;
        then removes what interrupted saves of older generations left behind. Raises
        CheckpointError if a newer generation has begun, StorageError if the storage does not
        take it.
        """
        self._refuse_if_superseded()
        path = self._paths.fences / f"g{self._generation:06d}.json"
        try:
            self._paths.checkpoints.mkdir(parents=True, exist_ok=True)
            self._paths.fences.mkdir(parents=True, exist_ok=True)
            fence = {"generation": self._generation, "base_step": base_step}
            _write_durably(path, json.dumps(fence))
            # Pairs with the second look in `_remove`: an older generation that is still alive
            # may be about to remove the very checkpoint this one begins from.
            if base_step and all(m.step != base_step for m in committed(self._paths)):
                path.unlink()
                raise CheckpointError(
                    f"{self._paths.checkpoints}: the checkpoint of step {base_step} was removed "
                    "while it was being chosen; choose again"
                )
        except OSError as error:
            raise StorageError(path, error) from error
        self._last_step = base_step
        for folder, (_, generation) in self._folders():
            if generation < self._generation and not (folder / MANIFEST).exists():
                self._remove(folder)
        for folder in self._paths.checkpoints.glob(f"{_REMOVED}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def load(
        self, step: int, generation: int, variables: Mapping[str, Any], *, whole: bool = True
    ) -> None:
        """Assign a checkpoint's values to `variables`, in every replica of this process.

        Unless they are the `whole` of it, what else it holds is passed over.

        Raises CheckpointError naming the variables that are missing, left over, or of another
        shape or type; nothing is assigned then.
        """
        folder = self._paths.checkpoints / checkpoint_id(step, generation)
        snapshot.restore(folder, variables, whole=whole)
        self._last_step = step

    # Saving.

    def due(self, step: int, now: float) -> bool:
        """Say whether the policy asks for a checkpoint after `step` steps, at time `now`.

        `now` is in seconds on any clock that only moves forward. By steps it is due when a
        multiple of every_steps was reached since the last save; by time, every_seconds after
        the last save, or after the first question. A save that has failed is tried again at the
        latest RETRY_S later.
        """
        self._now = now
        if self._last_time is None:
            self._last_time = now
        every_steps, every_seconds = self._policy.every_steps, self._policy.every_seconds
        if not every_steps and not every_seconds:
            every_seconds = Checkpointing().every_seconds
        by_steps = every_steps > 0 and step // every_steps > self._last_step // every_steps
        waited_s = now - self._last_time
        by_time = every_seconds > 0 and waited_s >= every_seconds
        return by_steps or by_time or (self._saves.failing and waited_s >= RETRY_S)

    def save(self, step: int, variables: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Take a snapshot now and have it written while training goes on.

        At most one snapshot is being written and one waits; a newer one takes its place. A
        failed write is told to `on_failed`; training goes on, and a later save tries again. A
        step that is saved, or is being saved, is not saved again.
        """
        if self._saves.has(step):
            return
        save = Save(step, snapshot.take(variables), {k: float(v) for k, v in metrics.items()})
        self._last_step, self._last_time = step, self._now
        self._saves.put(save)

    def finish(self, patience_s: float = LAST_SAVE_S) -> None:
        """Return when nothing is left to write. If the last save fails, it is tried again and
        again for that long. Raises StorageError if it cannot be saved, CheckpointError if a newer
        generation has begun."""
        failure = self._saves.finish(patience_s)
        if failure is not None:
            raise StorageError(self._paths.checkpoints, failure)

    # The writer's thread.

    def _write_one(self, save: Save) -> str | None:
        """Write and commit one checkpoint, then remove what it makes superfluous.

        Returns why it could not be committed, in one sentence that was told to `on_failed`.
        """
        folder = self._paths.checkpoints / checkpoint_id(save.step, self._generation)
        try:
            manifest = self._commit(folder, save)
        except (OSError, tf.errors.OpError, CheckpointError) as error:
            if not (folder / MANIFEST).exists():
                shutil.rmtree(folder, ignore_errors=True)
            self._refuse_if_superseded()
            failure = (
                f"the checkpoint of step {save.step} was not saved: {folder}: {describe(error)}; "
                "the ones before it are untouched"
            )
            self._on_failed(failure)
            return failure
        self._on_saved(manifest)
        # What cannot be removed now is tried again after the next commit.
        with suppress(OSError):
            self._remove_superfluous(manifest)
        return None

    def _commit(self, folder: Path, save: Save) -> Manifest:
        if folder.exists() and not (folder / MANIFEST).exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        files = snapshot.write(save.values, folder)
        manifest = Manifest(save.step, self._generation, time.time(), files, dict(save.metrics))
        _write_durably(folder / MANIFEST, manifest.to_json(), self._refuse_if_superseded)
        flush(folder.parent)
        return manifest

    def _remove_superfluous(self, newest: Manifest) -> None:
        """Remove what the policy does not keep, of this generation and of older ones.

        What was damaged or voided goes too, once training has come as far again: until then it
        may be all there is to look at.
        """
        keep = {manifest.id for manifest in kept(committed(self._paths), self._policy)}
        keep.add(claimed(self._paths))
        for folder, (step, generation) in self._folders():
            if (
                folder.name not in keep
                and step <= newest.step
                and generation <= self._generation
                and folder.name != newest.id
            ):
                self._remove(folder)

    def _remove(self, folder: Path) -> None:
        """Remove a checkpoint: one rename takes it out of sight, then its files go.

        Gives it back if a newer generation has begun meanwhile: it may begin from this one.
        """
        removed = folder.with_name(_REMOVED + folder.name)
        with suppress(OSError):
            shutil.rmtree(removed, ignore_errors=True)
            folder.rename(removed)
            if self._superseded() is not None:
                removed.rename(folder)
                return
            # The rename must not be undone by a crash after the files are gone.
            flush(folder.parent)
            shutil.rmtree(removed, ignore_errors=True)

    # Reading.

    def _folders(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Yield every checkpoint folder, committed or not, with its (step, generation)."""
        for folder in sorted(self._paths.checkpoints.glob("step-*")):
            parsed = parse_checkpoint_id(folder.name)
            if parsed is not None:
                yield folder, parsed

    def _illegible(self, after: tuple[int, int]) -> list[str]:
        """Return a line for each checkpoint past `after` that counts but has a rubbish manifest."""
        fences = read_fences(self._paths)
        lines = []
        for folder, (step, generation) in self._folders():
            void = any(f.generation > generation and step > f.base_step for f in fences)
            if (step, generation) <= after or void or not (folder / MANIFEST).exists():
                continue
            try:
                manifest = Manifest.from_json(read_small(folder / MANIFEST))
                reason = f"names {manifest.id}" if manifest.id != folder.name else None
            except (ValueError, OSError) as error:
                reason = f"cannot be read: {error}"
            if reason is not None:
                lines.append(f"{folder.name}: {MANIFEST} {reason}")
        return lines

    def _superseded(self) -> Fence | None:
        """Return the fence of a newer generation, if there is one."""
        fences = read_fences(self._paths)
        return next((f for f in fences if f.generation > self._generation), None)

    def _refuse_if_superseded(self) -> None:
        fence = self._superseded()
        if fence is not None:
            raise CheckpointError(
                f"generation {fence.generation} has begun; generation {self._generation} "
                "may commit nothing any more"
            )


def _write_durably(path: Path, text: str, before_rename: Callable[[], None] = lambda: None) -> None:
    """Put a file into place in one step, on the disk when this returns."""
    part = path.with_name(f"{path.name}.tmp")
    part.write_text(text)
    flush(part)
    before_rename()
    part.rename(path)
    flush(path.parent)
