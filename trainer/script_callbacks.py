"""The callbacks that the service puts behind a script's own: progress, saving, taking up again."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from trainer import progress, script_state, strategy
from trainer.contract import Stage
from trainer.script_state import State

if TYPE_CHECKING:
    from trainer.script_fit import Fits


def numbers(logs: Any) -> dict[str, float]:
    """Return the logs of Keras that are plain numbers."""
    found = {name: script_state.plain(value) for name, value in (logs or {}).items()}
    return {name: float(value) for name, value in found.items() if value is not None}


class Watcher(keras.callbacks.Callback):
    """Counts the steps of one fit and tells how far it is."""

    def __init__(self, fits: Fits, given: Mapping[str, Any], resumes: State | None) -> None:
        """Watch a fit with the given arguments that begins anew, or goes on at a state."""
        super().__init__()
        self._fits, self._chief, self._reports = fits, fits.chief, fits.reports
        self._furthest = fits.assignment.furthest_step
        self._batch = _global_batch(given)
        self.epoch = resumes.epoch if resumes else int(given["initial_epoch"])
        # Steps of this epoch that are complete, and how many of them another generation made.
        self.done = 0
        self.skipped = resumes.batch if resumes else 0
        self.step_s = 1.0
        self._began = 0.0
        self._base = 0
        self._pace = progress.Pace(total_steps=0, global_batch=self._batch)

    @property
    def skipping(self) -> bool:
        """True while the steps go by that were made before."""
        return self.done < self.skipped

    def on_train_begin(self, logs: Any = None) -> None:
        steps, epochs = self.params.get("steps") or 0, self.params["epochs"]
        before = self._fits.step - self.skipped
        total = before + (epochs - self.epoch) * steps if steps else 0
        self._pace = progress.Pace(total_steps=total, global_batch=self._batch)
        self._say_training()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch != self.epoch:
            self.skipped = 0
        self.epoch, self.done = epoch, 0
        self._base = self._fits.step - self.skipped

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # With several steps in an execution, Keras counts the last one as full.
        done = min(batch + 1, self.params.get("steps") or batch + 1)
        steps, was_skipping = done - self.done, self.skipping
        self.done = done
        if was_skipping:
            return
        self._fits.group.proven = True
        before, self._fits.step = self._fits.step, self._base + done
        if before < self._furthest <= self._fits.step:
            self._say_training()
        seconds = time.monotonic() - self._began
        self.step_s = max(seconds / max(steps, 1), 1e-6)
        self._pace.called(steps, seconds)
        self._reports.step(self._fits.step)
        if self._chief and self._pace.due():
            self._record(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        found = numbers(logs)
        held_out = {n.removeprefix("val_"): v for n, v in found.items() if n.startswith("val_")}
        if self._chief and held_out:
            self._chief.records.evaluation("validation", self._fits.step, 0, held_out)
            self._chief.curves.point("validation", self._fits.step, held_out)
        ends = self.model.stop_training or epoch + 1 >= self.params["epochs"]
        if self._chief and ends:
            self._record({n: v for n, v in found.items() if not n.startswith("val_")})

    def on_test_begin(self, logs: Any = None) -> None:
        self._reports.stage(Stage.EVALUATING, self._fits.step)

    def on_test_end(self, logs: Any = None) -> None:
        self._say_training()

    def on_train_end(self, logs: Any = None) -> None:
        # What a script does between and after its fits takes as long as it takes.
        self._reports.stage(Stage.FINISHING, self._fits.step)

    def _say_training(self) -> None:
        again = self._fits.step < self._furthest
        self._reports.stage(Stage.RECOMPUTING if again else Stage.TRAINING, self._fits.step)

    def _record(self, logs: Any) -> None:
        assert self._chief is not None
        step, steps = self._fits.step, self.params.get("steps") or 0
        epoch = self.epoch + (self.done / steps if steps else 0.0)
        values = {"loss": math.nan, **numbers(logs)}
        self._chief.records.progress(self._pace.progress(step, epoch, values))
        self._chief.curves.point("train", step, values)
        self._chief.curves.flush()


class Saver(keras.callbacks.Callback):
    """Saves one fit and takes it up again. Comes behind the watcher, which counts."""

    def __init__(
        self, fits: Fits, watcher: Watcher, callbacks: list[Any], resumes: State | None
    ) -> None:
        """Save the state of these callbacks too; a History is among them."""
        super().__init__()
        self._fits, self._watcher = fits, watcher
        self._callbacks, self._resumes = callbacks, resumes
        self._history = next(c for c in callbacks if isinstance(c, keras.callbacks.History))
        self._logs: dict[str, float] = {}
        self._first_step = fits.step

    @property
    def _place(self) -> int:
        return next(i for i, known in enumerate(self._fits.models) if known is self.model)

    def on_train_begin(self, logs: Any = None) -> None:
        state = self._resumes
        assert self._fits.agreement is not None
        self._fits.agreement.begin(self._fits.step)
        if state is None:
            return
        place = self._place
        self._fits.load(
            {
                **script_state.weights_of(self.model, place),
                **script_state.optimizer_of(self.model, place),
            }
        )
        _take_up(self._history, state.histories[-1])
        for callback, counters in zip(self._callbacks, state.callbacks, strict=False):
            for name, value in counters.items():
                setattr(callback, name, value)
        if state.batch:
            self._skip(state)

    def _skip(self, state: State) -> None:
        """Let the steps of the epoch go by that were made before: their data is read, and that
        is all. Keras keeps counting, and so do the script's callbacks."""
        train, steps = self.model.train_function, self.model.steps_per_execution

        def passing(data: Any) -> Any:
            if self._watcher.skipping:
                # Some versions of Keras hand over an iterator, others the batches.
                for _ in range(steps if hasattr(data, "__next__") else 0):
                    next(data)
                return dict(state.logs)
            self.model.train_function = train
            return train(data)

        self.model.train_function = passing

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        watcher, fits = self._watcher, self._fits
        if watcher.skipped and watcher.done <= watcher.skipped:
            return
        if watcher.done == self.params.get("steps"):
            return  # The end of the epoch comes next; only then are its metrics complete.
        self._logs = numbers(logs)
        if self._agreed():
            self._leave(watcher.epoch, watcher.done)
        if fits.chief and fits.checkpoints.due(fits.step, time.monotonic()):
            fits.save(lambda: self._variables(watcher.epoch, watcher.done), self._logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._logs = numbers(logs)
        if self.model.stop_training or epoch + 1 >= self.params["epochs"]:
            return  # What callbacks do at the end belongs to the state.
        if self._agreed(now=True):
            self._leave(epoch + 1, 0)
        if self._fits.chief:
            self._fits.save_soon(lambda: self._variables(epoch + 1, 0), self._logs)

    def on_train_end(self, logs: Any = None) -> None:
        fits = self._fits
        fits.histories.append(script_state.history_of(self._history))
        if fits.chief and fits.step > self._first_step:
            fits.save_soon(self._complete, self._logs, complete=True)

    def _agreed(self, *, now: bool = False) -> bool:
        fits = self._fits
        assert fits.agreement is not None
        return fits.agreement.reached(
            fits.step, wish=fits.stop.requested, step_s=self._watcher.step_s, now=now
        )

    def _leave(self, epoch: int, batch: int) -> None:
        """Save and end the process, as all members do after this very step."""
        fits = self._fits
        if fits.chief:
            fits.save(lambda: self._variables(epoch, batch), self._logs)
        strategy.part(fits.group.members)
        if fits.chief:
            fits.checkpoints.finish()
            fits.chief.curves.flush()
        fits.stop.leave()

    def _variables(self, epoch: int, batch: int) -> dict[str, Any]:
        state = State(
            fit=self._fits.begun - 1,
            epoch=epoch,
            batch=batch,
            step=self._fits.step,
            logs=self._logs,
            histories=[*self._fits.histories, script_state.history_of(self._history)],
            callbacks=[script_state.counters_of(c) for c in self._callbacks],
        )
        optimizer = script_state.optimizer_of(self.model, self._place)
        return {**self._models(), **optimizer, script_state.TEXT: state.to_text()}

    def _complete(self) -> dict[str, Any]:
        fits = self._fits
        state = State(fit=fits.begun, step=fits.step, histories=list(fits.histories))
        return {**self._models(), script_state.TEXT: state.to_text()}

    def _models(self) -> dict[str, Any]:
        variables: dict[str, Any] = {}
        for number, model in enumerate(self._fits.models):
            variables |= script_state.weights_of(model, number)
        return variables


class Replay(keras.callbacks.Callback):
    """Stands in for a fit that an earlier generation has completed."""

    def __init__(self, fits: Fits, number: int) -> None:
        """Stand in for this fit; the fit itself makes no step."""
        super().__init__()
        self._fits, self._number = fits, number

    def on_train_end(self, logs: Any = None) -> None:
        # The very last, because the end of fit may change weights.
        place = next(i for i, known in enumerate(self._fits.models) if known is self.model)
        self._fits.load(script_state.weights_of(self.model, place))
        _take_up(self.model.history, self._fits.histories[self._number])


def _take_up(history: Any, saved: Mapping[str, Any]) -> None:
    history.epoch = list(saved["epoch"])
    history.history = {name: list(values) for name, values in saved["history"].items()}


def _global_batch(given: Mapping[str, Any]) -> int:
    """Return how many examples a step of the whole group takes, 0 where only the data knows."""
    specification = getattr(given["x"], "element_spec", None)
    if specification is not None:
        shapes = [getattr(s, "shape", None) for s in keras.tree.flatten(specification)]
        first = shapes[0] if shapes else None
        return int(first[0] or 0) if first is not None and first.rank else 0
    if given["batch_size"]:
        return int(given["batch_size"])
    return 32 if hasattr(given["x"], "shape") else 0
