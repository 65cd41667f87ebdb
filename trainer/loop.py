"""The training loop: restore, make steps, look at the validation set, save, stop in time.

All members run the same loop and decide the same after each call, because each decision is a
function of the task, the step and what the call's all-reduce brought. What the chief alone does
(checkpoints, records) needs no other member.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from trainer import origins, progress, snapshot
from trainer.calls import Calls, elements
from trainer.checkpoints import Checkpoints
from trainer.chief import Chief
from trainer.contract import Assignment, Stage
from trainer.data import order
from trainer.evaluate import Evaluator
from trainer.learner import Learner
from trainer.metrics import Vector
from trainer.stopping import Stop
from trainer.strategy import word_of_chief
from trainer.task import Task
from trainer.together import agree, share

# Curve points that one call may cover; bounds the size of what it brings back.
_BLOCKS = 16
# Name of the sums of an unfinished curve point in a checkpoint.
_WINDOW = "progress/window"


class LossNotFinite(Exception):
    """The training has diverged."""


@dataclass
class Loop:
    """One member's run through the training."""

    task: Task
    learner: Learner
    checkpoints: Checkpoints
    reports: progress.Reports
    stop: Stop
    # None on every member but the chief.
    chief: Chief | None
    assignment: Assignment
    step: int = 0
    # True once a call has come back: from then on the program has shown that it works.
    proven: bool = False
    # What this generation began from needs no saving.
    _base_step: int = -1
    # Metrics of data sets that were looked at after this very step.
    _held_out: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Prepare what does not depend on the step."""
        task, learner = self.task, self.learner
        self._window: Vector = np.zeros(learner.measures.size)
        self._window_variable = tf.Variable(self._window, trainable=False)
        self._pace = progress.Pace(total_steps=task.total_steps, global_batch=task.global_batch)
        self._swap = self.learner.on_replicas(learner.swap)
        self._validation = self._evaluator(task.validation)

    def _evaluator(self, examples: Any) -> Evaluator | None:
        if examples is None:
            return None
        return Evaluator(self.learner, examples, is_chief=self.chief is not None)

    def restore(self) -> None:
        """Begin from the checkpoint that the chief chooses for all: mostly the newest sound one;
        or with another job's weights, or with none."""
        self.reports.stage(Stage.RESTORING, 0)
        at_step = origins.step_to_return_to(self.assignment) if self.chief else None
        chosen = self.checkpoints.choose(at_step) if self.chief else None
        lent = origins.lent(self.assignment) if self.chief and not chosen else None
        source = chosen or lent
        own = [source.step, source.generation, 1] if source else [0, 0, 0]
        step, generation, exists, borrows = word_of_chief(
            len(self.assignment.cluster), self.chief is not None, [*own, int(bool(lent))]
        )
        if borrows or not exists:
            share(self.learner.strategy, self.learner.state(), is_chief=self.chief is not None)
        if borrows:
            self._borrow(step, generation)
        elif exists:
            self.checkpoints.load(step, generation, self._variables())
            self._window = self._window_variable.numpy()
            self.step = self._base_step = step
        if exists and self.learner.drifts:
            self.learner.on_replicas(self.learner.adopt)()
        if self.chief:
            self.checkpoints.fence(self.step)
            self.chief.began(step, chosen, self.checkpoints.skipped)
        if self.chief and lent:
            self.chief.records.restored(0, f"{self.assignment.init_job}/{lent.id}", ())
            # From here on the other job is not needed any more.
            self._save()

    def _borrow(self, step: int, generation: int) -> None:
        """Take the weights of another job's checkpoint."""
        folder = origins.folder_of(self.assignment, step, generation)
        for variables in self.learner.lent():
            snapshot.restore(folder, variables, whole=False)

    def _variables(self) -> dict[str, tf.Variable]:
        return {**self.learner.variables(), _WINDOW: self._window_variable}

    def train(self) -> bool:
        """Make all steps that are left. Returns False if a member was asked to stop.

        Then the state is saved. Raises LossNotFinite.
        """
        task = self.task
        # The first call compiles.
        self.reports.stage(Stage.STARTING, self.step)
        if self.step < task.total_steps:
            calls = self._calls()
            while self.step < task.total_steps:
                if not self._advance(calls):
                    self._save()
                    return False
        self._save()
        return True

    def _calls(self) -> Calls:
        task, learner = self.task, self.learner
        strategy = learner.strategy

        def batches(first_replica: int, local_replicas: int) -> Any:
            return order.replica_dataset(
                task.train,
                seed=task.seed,
                global_batch=task.global_batch,
                replicas_total=strategy.num_replicas_in_sync,
                first_replica=first_replica,
                local_replicas=local_replicas,
                start_step=self.step,
            )

        return Calls(
            strategy,
            elements(strategy, batches),
            learner.train_step,
            size=learner.measures.size,
            blocks=_BLOCKS,
            block_steps=task.summary_interval,
            is_chief=self.chief is not None,
            finish=learner.settle,
        )

    def _advance(self, calls: Calls) -> bool:
        """Make one call and what is due after it. Returns False if the group is to stop."""
        first, count = self.step, self._count(calls.steps)
        called = calls(first, count, stop=self.stop.requested)
        self.step = first + count
        self._pace.called(count, called.seconds, called.starved_s)
        if not self.proven or first < self.assignment.furthest_step <= self.step:
            self._say_training()
        self.proven = True
        self.reports.step(self.step)
        self._account(first, called.sums)
        if called.stop:
            return False
        if self._validation and self._looks():
            if not self.evaluate("validation", self._validation):
                return False
            self._say_training()
        if self.chief and self._due():
            self._save()
        return True

    def _say_training(self) -> None:
        again = self.step < self.assignment.furthest_step
        self.reports.stage(Stage.RECOMPUTING if again else Stage.TRAINING, self.step)

    def _count(self, wanted: int) -> int:
        """Return how many steps the next call makes: no further than what is due next."""
        block = self.task.summary_interval
        into = self.step % block
        # Whole blocks where the call is long enough, else no further than the block's end.
        blocks = min(_BLOCKS, (into + wanted) // block)
        count = max(blocks * block - into, 0) or min(wanted, block - into)
        ends = [self.task.total_steps - self.step]
        intervals = [self.assignment.checkpointing.every_steps]
        if self._validation and not self.assignment.evaluator:
            intervals.append(self.task.evaluation_interval)
        ends += [n - self.step % n for n in intervals if n > 0]
        furthest = self.assignment.furthest_step
        ends += [furthest - self.step] if self.step < furthest else []
        return min(count, *ends)

    def _account(self, first: int, sums: Vector) -> None:
        """Take in the sums of a call that began at step `first`."""
        block = self.task.summary_interval
        start = first // block
        final = self.step >= self.task.total_steps
        measures = self.learner.measures
        point: dict[str, float] = {}
        for number in range(start, (self.step - 1) // block + 1):
            if number > start or first % block == 0:
                self._window = np.zeros_like(self._window)
            self._window = self._window + sums[number - start]
            if not math.isfinite(loss := measures.loss(self._window)):
                raise LossNotFinite(
                    f"loss became {loss} between step {first} and step {self.step}; "
                    "lower the learning rate, or look for bad values in the data"
                )
            end = (number + 1) * block
            point = {}
            if self.chief and (end <= self.step or final):
                point = measures.results(self._window)
                self.chief.curves.point("train", min(end, self.step), point)
        # What was seen on a held-out set at an earlier step says nothing about this one.
        self._held_out = {}
        if self.chief and (self._pace.due() or final):
            epoch = self.step * self.task.global_batch / self.task.train.size
            self.chief.records.progress(self._pace.progress(self.step, epoch, point or self.known))
            if self.chief.relay:
                self.chief.relay.look()
            self.chief.curves.flush()

    def _looks(self) -> bool:
        """Tell whether the group looks at the validation set after this step."""
        final = self.step >= self.task.total_steps
        return self._validation is not None and (
            final
            or (not self.assignment.evaluator and self.step % self.task.evaluation_interval == 0)
        )

    def _due(self) -> bool:
        # The best checkpoint can only be kept if there is one at the step that was looked at.
        looked = bool(self.assignment.checkpointing.best_metric) and self._looks()
        return looked or self.checkpoints.due(self.step, time.monotonic())

    def _save(self) -> None:
        """Save on the chief, unless it is done or being done; the others have nothing to do."""
        if not self.chief or self.step == self._base_step:
            return
        self._window_variable.assign(self._window)
        self.checkpoints.save(self.step, self._variables(), self.known)

    def evaluate(self, name: str, evaluator: Evaluator) -> bool:
        """Evaluate with the averaged state and record it. Returns False if the group is to stop."""
        self.reports.stage(Stage.EVALUATING, self.step)
        self._swap()
        found = evaluator.run(lambda: self.stop.requested)
        self._swap()
        if found is None:
            return False
        prefix = "val" if name == "validation" else name
        self._held_out.update({f"{prefix}_{metric}": value for metric, value in found.items()})
        if self.chief:
            self.chief.records.evaluation(name, self.step, evaluator.size, found)
            self.chief.curves.point(name, self.step, found)
            self.chief.curves.flush()
        return True

    def conclude(self) -> bool:
        """Look at the test set. Returns False if the group is to stop.

        Afterwards the model holds the averaged state, for the export.
        """
        test = self._evaluator(self.task.test)
        if test and not self.evaluate("test", test):
            return False
        self._swap()
        return not agree(self.learner.strategy, [int(self.stop.requested)])[0]

    @property
    def known(self) -> dict[str, float]:
        """Newest loss and metrics by name, computed anew."""
        trained = self.learner.measures.results(self._window) if self._window[1] else {}
        return {**trained, **self._held_out}
