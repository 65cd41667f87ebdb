"""What the service adds to Keras' fit in a script: progress, checkpoints, resumption, a good end.

`Fits` is told of every fit by a wrapper around it, and of every step by a callback; the script
sees neither.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from trainer import origins, progress, script_state
from trainer.agreement import Agreement
from trainer.checkpoints import LAST_SAVE_S
from trainer.chief import Chief, checkpoints_of
from trainer.contract import Assignment, Stage
from trainer.script_callbacks import Replay, Saver, Watcher, numbers
from trainer.script_group import Group
from trainer.script_state import State
from trainer.stopping import Stop
from trainer.together import agree

# An epoch ends with a checkpoint, unless one was begun this recently: what is lost then is soon
# made again.
_EPOCHS_APART_S = 10.0


class Fits:
    """All fits of a script, in the order in which it makes them."""

    def __init__(
        self,
        assignment: Assignment,
        group: Group,
        *,
        chief: Chief | None,
        stop: Stop,
        reports: progress.Reports,
    ) -> None:
        """Touch nothing yet."""
        assert assignment.script is not None
        self.assignment, self.group = assignment, group
        self.chief, self.stop, self.reports = chief, stop, reports
        self.checkpoints = checkpoints_of(assignment, chief)
        self.saves = not assignment.script.own_checkpoints
        # Steps of all fits so far.
        self.step = 0
        # Fits begun that count for the state, and the models they trained, each once.
        self.begun = 0
        self.models: list[Any] = []
        self.histories: list[dict[str, Any]] = []
        # What this generation took up; None before the first fit that could.
        self.restored: State | None = None
        self.agreement: Agreement | None = None
        self._place = (0, 0)
        self._inside = False
        self._saved_at = -math.inf
        # What is complete and not saved yet.
        self._unsaved: Callable[[], Mapping[str, Any]] | None = None

    def install(self) -> None:
        """Wrap fit and evaluate of every model, in this process for good."""
        owner = next(c for c in keras.Model.__mro__ if "fit" in vars(c))
        fit, evaluate = owner.fit, owner.evaluate
        signature = inspect.signature(fit)

        def watched_fit(model: Any, *args: Any, **options: Any) -> Any:
            bound = signature.bind(model, *args, **options)
            bound.apply_defaults()
            given = dict(bound.arguments)
            given.pop("self")
            return self._fit(model, lambda **changes: fit(model, **(given | changes)), given)

        def watched_evaluate(model: Any, *args: Any, callbacks: Any = None, **more: Any) -> Any:
            return self._evaluate(
                lambda chosen: evaluate(model, *args, callbacks=chosen, **more), callbacks
            )

        owner.fit, owner.evaluate = watched_fit, watched_evaluate

    def close(self, patience_s: float = LAST_SAVE_S) -> None:
        """Save what is complete and not saved, and wait for it, see Checkpoints.finish. Raises
        CheckpointError."""
        if self.chief:
            if self._unsaved is not None:
                self.save(self._unsaved, {})
            self.checkpoints.finish(patience_s)

    def save(self, variables: Callable[[], Mapping[str, Any]], metrics: dict[str, float]) -> None:
        """Save the present step; on the chief only."""
        self.checkpoints.save(self.step, variables(), metrics)
        self._saved_at, self._unsaved = time.monotonic(), None

    def save_soon(
        self,
        variables: Callable[[], Mapping[str, Any]],
        metrics: dict[str, float],
        *,
        complete: bool = False,
    ) -> None:
        """Save now, unless a checkpoint was begun a moment ago; on the chief only. A fit that is
        complete is saved at the latest when the script ends."""
        now = time.monotonic()
        if self.checkpoints.due(self.step, now) or now - self._saved_at >= _EPOCHS_APART_S:
            self.save(variables, metrics)
        elif complete:
            self._unsaved = variables

    # Around fit.

    def _fit(self, model: Any, call: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        if self._inside or isinstance(given["callbacks"], keras.callbacks.CallbackList):
            return call()
        self.group.check_fit(model)
        callbacks = _listed(given["callbacks"])
        saves = self.saves and not any(
            isinstance(c, keras.callbacks.BackupAndRestore) for c in callbacks
        )
        changes = {"verbose": 2} if given["verbose"] == "auto" else {}
        self._inside = True
        try:
            if not saves:
                return call(callbacks=[*callbacks, Watcher(self, given, None)], **changes)
            return self._saved_fit(model, call, given, callbacks, changes)
        finally:
            self._inside = False

    def _saved_fit(
        self,
        model: Any,
        call: Callable[..., Any],
        given: Mapping[str, Any],
        callbacks: list[Any],
        changes: dict[str, Any],
    ) -> Any:
        if self.restored is None:
            self._restore(model)
        restored = self.restored
        assert restored is not None
        number, self.begun = self.begun, self.begun + 1
        self._unsaved = None  # This fit is about to change what that would have saved.
        if not any(model is known for known in self.models):
            self.models.append(model)
        if not any(isinstance(c, keras.callbacks.History) for c in callbacks):
            # Made here, so that it comes before the saver, which saves what is in it.
            callbacks = [*callbacks, keras.callbacks.History()]
        if number < restored.fit:
            self.histories.append(restored.histories[number])
            return call(callbacks=[Replay(self, number)], initial_epoch=given["epochs"], verbose=0)
        resumes = (
            restored if number == restored.fit and (restored.epoch or restored.batch) else None
        )
        if resumes:
            changes["initial_epoch"] = max(resumes.epoch, given["initial_epoch"])
        watcher = Watcher(self, given, resumes)
        saver = Saver(self, watcher, callbacks, resumes)
        self.stop.guard()
        try:
            return call(callbacks=[*callbacks, watcher, saver], **changes)
        finally:
            self.stop.unguard()

    def _restore(self, model: Any) -> None:
        """Choose, as one group, what this generation begins from, and read where it was."""
        self.reports.stage(Stage.RESTORING, self.step)
        at_step = origins.step_to_return_to(self.assignment) if self.chief else None
        chosen = self.checkpoints.choose(at_step) if self.chief else None
        own = [chosen.step, chosen.generation, 1] if chosen else [0, 0, 0]
        if self.group.members > 1:
            own = agree(model.distribute_strategy, own)
        step, generation, exists = own
        self._place = (step, generation)
        text = State().to_text()
        if exists:
            self.load({script_state.TEXT: text})
        self.restored = State.from_text(text)
        self.step = self.restored.step
        self.agreement = Agreement(
            model.distribute_strategy,
            members=self.group.members,
            is_chief=self.assignment.is_chief,
        )
        if self.chief:
            self.checkpoints.fence(step)
            self.chief.began(step, chosen, self.checkpoints.skipped)

    def load(self, variables: Mapping[str, Any]) -> None:
        """Assign a part of the checkpoint that this generation began from."""
        self.checkpoints.load(*self._place, variables, whole=False)

    # Around evaluate.

    def _evaluate(self, call: Callable[[Any], Any], callbacks: Any) -> Any:
        """Record what the script's own evaluate finds; that of fit is recorded with the epoch."""
        of_fit = self._inside or isinstance(callbacks, keras.callbacks.CallbackList)
        if of_fit or not self.chief:
            return call(callbacks)
        listener = keras.callbacks.LambdaCallback()
        found: dict[str, float] = {}
        listener.on_test_end = lambda logs=None: found.update(numbers(logs))
        result = call([*_listed(callbacks), listener])
        if found:
            self.chief.records.evaluation("test", self.step, 0, found)
            self.chief.curves.point("test", self.step, found)
            self.chief.curves.flush()
        return result


def _listed(callbacks: Any) -> list[Any]:
    return list(keras.tree.flatten(callbacks)) if callbacks else []
