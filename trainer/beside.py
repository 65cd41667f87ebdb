"""The evaluator: looks at the validation set with one checkpoint after the other, beside the
training. What it finds it leaves for the chief, see trainer.relay. Checkpoints that come faster
than it can look at them are passed over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from trainer import snapshot
from trainer.contract import Stage
from trainer.evaluate import Evaluator
from trainer.learner import Learner
from trainer.progress import Reports
from trainer.relay import claim, is_known, leave
from trainer.snapshot import CheckpointError
from trainer.stopping import Stop
from trainer.storage import Evaluated, JobPaths, Manifest, committed
from trainer.task import TaskError

_LOOK_EVERY_S = 0.5
# It may share a machine with workers, and must not be in their way.
_NICENESS = 10


class Watcher:
    """The evaluator: looks at one checkpoint after the other."""

    def __init__(self, paths: JobPaths, learner: Learner, reports: Reports) -> None:
        """Prepare the evaluation. Raises TaskError if there is nothing to look at."""
        examples = learner.task.validation
        if examples is None:
            raise TaskError(
                "Task.validation is not set, and the evaluator has nothing to look at; set it, or "
                "leave out spec.evaluator"
            )
        self._paths = paths
        self._learner = learner
        self._reports = reports
        self._evaluator = Evaluator(learner, examples, is_chief=True)
        self._swap = learner.on_replicas(learner.swap)
        self._variables = learner.variables()

    def run(self, stop: Stop) -> None:
        """Look at every new checkpoint until asked to stop."""
        while not stop.requested:
            manifest = self._next()
            if manifest is None:
                time.sleep(_LOOK_EVERY_S)
                continue
            self._look_at(manifest, lambda: stop.requested)

    def _next(self) -> Manifest | None:
        """Return the newest checkpoint if it has not been looked at yet."""
        newest = next(iter(committed(self._paths)), None)
        return None if newest is None or is_known(self._paths, newest.id) else newest

    def _look_at(self, manifest: Manifest, stop: Callable[[], bool]) -> None:
        self._reports.stage(Stage.EVALUATING, manifest.step)
        folder = self._paths.checkpoints / manifest.id
        if not claim(self._paths, manifest.id):
            return  # It was removed meanwhile, because there are newer ones.
        try:
            snapshot.restore(folder, self._variables, whole=False)
        except CheckpointError:
            if folder.is_dir():
                raise
            return
        self._swap()
        found = self._evaluator.run(stop)
        self._swap()
        if found is not None:
            result = Evaluated(manifest.step, manifest.generation, self._evaluator.size, found)
            leave(self._paths, result)


def yield_processor() -> None:
    """Let everybody else on this machine go first."""
    os.nice(_NICENESS)
