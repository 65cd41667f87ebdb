"""Runs a user's script as `python script.py` would, on one member of a group."""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import sys
import threading
import traceback
import types
import zlib
from pathlib import Path

import keras

from trainer import import_path, progress, strategy, tracebacks
from trainer.chief import chief_of
from trainer.contract import Assignment, ExitCode, Stage
from trainer.script_fit import Fits
from trainer.script_group import Group, ScriptError
from trainer.snapshot import CheckpointError, StorageError
from trainer.stopping import Stop


def main(assignment: Assignment, stop: Stop, reports: progress.Reports) -> ExitCode:
    """Run the script to its end and return this member's exit code.

    Everything that can be known about a failure has been reported when this returns.
    """
    return _Run(assignment, stop, reports).run()


class _Run:
    """One run of the script. The file may lie outside of the working folder, in the image."""

    def __init__(self, assignment: Assignment, stop: Stop, reports: progress.Reports) -> None:
        self._assignment = assignment
        self._stop = stop
        self._reports = reports
        self._file = Path(assignment.source_dir, assignment.module)
        self._group = Group(assignment)

    def run(self) -> ExitCode:
        chief = chief_of(self._assignment, self._reports)
        # What is lost of a curve is told in a record.
        closing = (chief.curves, chief.records) if chief else ()
        # Whatever happens when this process ends belongs to the service; from here on it is the
        # script's.
        atexit._clear()
        self._group.install()
        fits = Fits(
            self._assignment, self._group, chief=chief, stop=self._stop, reports=self._reports
        )
        fits.install()
        with progress.closing_all(*closing):
            code = self._judged(fits)
        if code is ExitCode.DONE and self._group.made:
            strategy.part(self._group.members)
        self._reports.stage(Stage.FINISHING, fits.step)
        if code is not ExitCode.PEER_LOST:
            _end_like_python()
        return code

    def _judged(self, fits: Fits) -> ExitCode:
        """Run the script and say what its end means."""
        # Of a loop of the script's own nothing is heard; where fit made steps before, it will.
        again = self._assignment.furthest_step > 0
        self._reports.stage(Stage.STARTING if again else Stage.TRAINING, 0)
        try:
            self._execute()
            self._group.check_end()
            fits.close()
        except SystemExit as leaving:
            code = self._left(leaving.code)
        except BaseException as error:
            code = self._failed(error)
        else:
            return ExitCode.DONE
        # The failure has been told, and this one would only hide it.
        with contextlib.suppress(CheckpointError):
            fits.close(patience_s=0)
        return code

    def _execute(self) -> None:
        module = types.ModuleType("__main__")
        module.__file__ = str(self._file)
        sys.modules["__main__"] = module
        with io.open_code(str(self._file)) as file:
            code = compile(file.read(), str(self._file), "exec")
        # Workers that shuffle by different numbers would not see the same global batches.
        keras.utils.set_random_seed(zlib.crc32(self._assignment.job_uid.encode()))
        import_path.make_way(sys.path)
        try:
            with self._group.around_script():
                exec(code, module.__dict__)
        except SystemExit as leaving:
            if leaving.code not in (None, 0):
                raise

    def _left(self, code: object) -> ExitCode:
        """Judge a sys.exit that is not the plain one."""
        if code == ExitCode.SAVED and self._stop.requested:
            return ExitCode.SAVED
        if code == ExitCode.SAVED and self._group.members > 1:
            # TensorFlow's preemption handler takes the group along when one worker must go.
            return ExitCode.PEER_LOST
        text = (
            f"the script left with exit code {code}"
            if isinstance(code, int)
            else f"the script left with: {code}"
        )
        sys.stderr.write(f"{text}\n")
        self._reports.failure(text, "")
        return self._of_program()

    def _failed(self, error: BaseException) -> ExitCode:
        error = self._group.explained(error)
        if self._group.peer_lost(error):
            sys.stderr.write(f"another worker went away: {tracebacks.headline(error)}\n")
            return ExitCode.PEER_LOST
        plain = isinstance(error, (ScriptError, CheckpointError))
        if isinstance(error, SyntaxError) and error.filename == str(self._file):
            # Nothing of it has run, so all frames are the service's.
            details = "".join(traceback.format_exception_only(error))
        else:
            details = tracebacks.of_program(error, str(self._file.parent), plain=plain)
        sys.stderr.write(details)
        self._reports.failure(str(error) if plain else tracebacks.headline(error), details)
        if isinstance(error, StorageError):
            return ExitCode.STORAGE
        return ExitCode.INVALID if isinstance(error, ScriptError) else self._of_program()

    def _of_program(self) -> ExitCode:
        """An error before the first update of the model would come back every time."""
        return ExitCode.CRASHED if self._group.proven else ExitCode.INVALID


def _end_like_python() -> None:
    """Wait for the script's threads and call what it registered, as an interpreter does that
    ends; this process leaves without that."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    logging.shutdown()
