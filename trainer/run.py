"""Entry of one trainer process: joins the group, runs the user's task, and says how it ended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from trainer import (
    beside,
    export,
    frozen,
    import_path,
    insights,
    keras_compat,
    progress,
    script,
    strategy,
    task,
    tracebacks,
)
from trainer.checkpoints import CheckpointError, StorageError
from trainer.chief import Chief, checkpoints_of, chief_of
from trainer.contract import ENV_REPORT_FD, Assignment, ExitCode, Stage
from trainer.data import DataError
from trainer.learner import Learner
from trainer.loop import Loop, LossNotFinite
from trainer.origins import OriginError
from trainer.preparation import paths_of
from trainer.stopping import Stop
from trainer.storage import Manifest

# Errors whose text is for the user and says all; a class name before it would only confuse.
_PLAIN = (task.TaskError, DataError, CheckpointError, LossNotFinite)


class _Invalid(Exception):
    """The program cannot work as it is; the cause is the program's own error."""


def main(assignment: Assignment) -> int:
    """Run this member's part of a generation and return its exit code.

    Call once in a process, which ends afterwards. Everything that can be known about a failure
    has been reported when this returns.
    """
    descriptor = os.environ.get(ENV_REPORT_FD)
    reports = progress.Reports(int(descriptor) if descriptor else None)
    stop = Stop(reports.leaving, yields=assignment.script is not None)
    reports.stage(Stage.STARTING, 0)
    # Before anything wraps Keras. A task's loop needs only what it does for optimizers.
    keras_compat.install()
    if assignment.script:
        return script.main(assignment, stop, reports)
    try:
        return _Run(assignment, stop, reports).run()
    except _Invalid as invalid:
        cause = invalid.__cause__ or invalid
        return _fail(cause, ExitCode.INVALID, assignment, reports)
    except StorageError as error:
        return _fail(error, ExitCode.STORAGE, assignment, reports)
    except OriginError as error:
        return _fail(error, ExitCode.INVALID, assignment, reports)
    except Exception as error:
        if strategy.peer_lost(error, len(assignment.cluster)):
            sys.stderr.write(f"another worker went away: {tracebacks.headline(error)}\n")
            return ExitCode.PEER_LOST
        return _fail(error, ExitCode.CRASHED, assignment, reports)


def _fail(
    error: BaseException, code: ExitCode, assignment: Assignment, reports: progress.Reports
) -> ExitCode:
    plain = isinstance(error, _PLAIN)
    details = tracebacks.of_program(error, assignment.source_dir, plain=plain)
    sys.stderr.write(details)
    reports.failure(str(error) if plain else tracebacks.headline(error), details)
    return code


@contextmanager
def _program(members: int) -> Iterator[None]:
    """Within, an error is the program's fault, unless it is a peer's."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if strategy.peer_lost(error, members):
            raise
        raise _Invalid from error


@contextmanager
def _harmless(chief: Chief, what: str) -> Iterator[None]:
    """Within, an error is told and that is all: the program's own code runs in there, but what
    it does there is not the training."""
    try:
        yield
    except Exception as error:
        chief.records.notice("GraphFailed", f"{what}: {tracebacks.headline(error)}")


class _Run:
    """The steps of one member's run, in order."""

    def __init__(self, assignment: Assignment, stop: Stop, reports: progress.Reports) -> None:
        self._assignment = assignment
        self._stop = stop
        self._reports = reports
        self._members = len(assignment.cluster)
        self._paths = paths_of(assignment)
        self._graph_tried = False

    def run(self) -> ExitCode:
        """Join, build, train, evaluate, export."""
        if self._assignment.is_evaluator:
            return self._watch()
        learner = self._build(strategy.join(self._assignment))
        chief = chief_of(self._assignment, self._reports)
        # What is lost of a curve is told in a record.
        closing = (chief.insights, chief.curves, chief.records) if chief else ()
        with progress.closing_all(*closing):
            return self._train(learner, chief)

    def _watch(self) -> ExitCode:
        """Look at checkpoints beside the others until asked to stop."""
        beside.yield_processor()
        learner = self._build(strategy.alone())
        with _program(1):
            watcher = beside.Watcher(self._paths, learner, self._reports)
        self._stop.guard()
        watcher.run(self._stop)
        return ExitCode.SAVED

    def _build(self, group: Any) -> Learner:
        """Load the program and build its model under a strategy."""
        with _program(self._members):
            # Data that a task draws at random must be the same on every worker.
            keras.utils.set_random_seed(0)
            import_path.make_way([self._assignment.program_dir])
            made = task.load(
                Path(self._assignment.source_dir),
                self._assignment.module,
                self._assignment.parameters,
            )
            keras.utils.set_random_seed(made.seed)
            made, front = frozen.separate(made, self._sharing())
            keras.utils.set_random_seed(made.seed)
            return Learner(made, group, front)

    def _sharing(self) -> frozen.Sharing:
        return frozen.Sharing(
            self._paths.frozen,
            max(self._assignment.position, 0),
            max(self._members, 1),
            # Chunks are no steps, but that they go on shows that nothing hangs.
            on_chunk=lambda done: self._reports.stage(Stage.STARTING, done),
        )

    def _train(self, learner: Learner, chief: Chief | None) -> ExitCode:
        checkpoints = checkpoints_of(
            self._assignment, chief, then=lambda manifest: self._saved(manifest, learner, chief)
        )
        loop = Loop(
            task=learner.task,
            learner=learner,
            checkpoints=checkpoints,
            reports=self._reports,
            stop=self._stop,
            chief=chief,
            assignment=self._assignment,
        )
        loop.restore()
        if chief and not loop.step:
            insights.examples(chief.insights, learner)
        self._stop.guard()
        finished = self._steps(loop) and loop.conclude()
        strategy.part(self._members)
        self._reports.stage(Stage.FINISHING, loop.step)
        checkpoints.finish()
        if not finished:
            return ExitCode.SAVED
        if chief and chief.relay:
            chief.relay.look()
        if chief:
            self._export(learner, loop, chief)
        return ExitCode.DONE

    def _steps(self, loop: Loop) -> bool:
        try:
            return loop.train()
        except Exception as error:
            # An error before the first call has come back would come again every time.
            if loop.proven or isinstance(error, LossNotFinite):
                raise
            with _program(self._members):
                raise

    def _saved(self, manifest: Manifest, learner: Learner, chief: Chief | None) -> None:
        """Show the weights of a checkpoint; with the first, write what it takes to ask one.

        Beside the training, on the thread that writes checkpoints.
        """
        if chief is None:
            return
        insights.weights(chief.insights, self._paths.checkpoints / manifest.id, manifest.step)
        leaving = self._stop.requested or manifest.step >= learner.task.total_steps
        if leaving or self._graph_tried:
            return
        self._graph_tried = True
        with _harmless(chief, "checkpoints cannot be asked while training goes on"):
            graph = export.export_graph(learner, self._paths.output)
            if graph is not None:
                insights.graph(chief.insights, graph)

    def _export(self, learner: Learner, loop: Loop, chief: Chief) -> None:
        began = time.monotonic()
        written = export.export(learner, self._paths.output, step=loop.step, metrics=loop.known)
        chief.records.exported(loop.step, written.paths, written.size)
        if not self._graph_tried:
            insights.graph(chief.insights, written.graph)
        sys.stdout.write(f"exported the model in {time.monotonic() - began:.1f} s\n")
