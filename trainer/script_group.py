"""Watches what a script does with its group, so that N workers never train alone without a word.

A script may build its own strategy, or have one put around it; with several workers it must use
one of them. What cannot work is refused where it happens, with the remedy.
"""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf

from trainer import strategy
from trainer.contract import Assignment

# What TensorFlow says of a variable of a group that is used outside of strategy.run.
_OUTSIDE_OF_REPLICA = ("outside the replica context", "cross-replica context")


class ScriptError(Exception):
    """The script does what cannot work on several workers; the text says what to change."""


class Group:
    """The group as the script sees it. `install` once, before the script runs."""

    def __init__(self, assignment: Assignment) -> None:
        """Touch nothing yet."""
        assert assignment.script is not None
        self._assignment = assignment
        self._distribute = assignment.script.distribute
        self.members = len(assignment.cluster)
        # Whether a strategy over all workers exists, and whether the script ran something in it.
        self.made = False
        self.used = False
        # True once the script has shown that it can train: from then on errors may be bad luck.
        self.proven = False
        # What was refused. A script may swallow the exception, so it is looked at in the end.
        self.refused: ScriptError | None = None

    def install(self) -> None:
        """Begin to watch. Changes TensorFlow and Keras in this process for good."""
        kind = tf.distribute.MultiWorkerMirroredStrategy
        init, run, apply = kind.__init__, kind.run, keras.optimizers.Optimizer.apply

        def watched_init(self_: Any, *args: Any, **options: Any) -> None:
            self._before_strategy()
            init(self_, *args, **options)
            strategy.quicken(self_, self._assignment)
            self.made = True

        def watched_run(self_: Any, *args: Any, **options: Any) -> Any:
            self.used = True
            return run(self_, *args, **options)

        def watched_apply(self_: Any, *args: Any, **options: Any) -> Any:
            self._before_update()
            self.proven = True
            return apply(self_, *args, **options)

        kind.__init__ = watched_init
        kind.run = watched_run
        keras.optimizers.Optimizer.apply = watched_apply

    def around_script(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the script runs: that of a strategy, if it was asked for."""
        if not self._distribute:
            return contextlib.nullcontext()
        scope: contextlib.AbstractContextManager[Any] = (
            tf.distribute.MultiWorkerMirroredStrategy().scope()
        )
        return scope

    def check_fit(self, model: Any) -> None:
        """Refuse a fit that every worker would do alone. Raises ScriptError."""
        if self.members > 1 and not _is_of_group(model.distribute_strategy):
            self._refuse(
                f"fit was called on a model outside of a MultiWorkerMirroredStrategy, so each of "
                f"the {self.members} workers would train alone; build and compile the model in "
                "strategy.scope(), or submit the script with --distribute"
            )

    def check_end(self) -> None:
        """Refuse a script that has ended well without the workers ever working together."""
        if self.refused:
            raise self.refused
        if self.members == 1 or self.used:
            return
        if self._distribute:
            self._refuse(
                "the script ended without Keras' fit, evaluate or predict, so there was nothing "
                f"to distribute: each of the {self.members} workers did the same; submit it with "
                "one worker, or write its loop with tf.distribute (docs/scripts.md)"
            )
        self._refuse(
            f"the script ended without using a MultiWorkerMirroredStrategy: each of the "
            f"{self.members} workers did the same; submit it with --distribute if it trains with "
            "Keras' fit, or with one worker"
        )

    def explained(self, error: BaseException) -> BaseException:
        """Return what to say of an error: in the scope of a strategy that was put around it, a
        loop of the script's own meets variables that only a replica can read, and TensorFlow's
        words for that help nobody who has written no strategy."""
        if self.refused:
            return self.refused
        scoped = (
            self._distribute and not self.used and isinstance(error, (ValueError, RuntimeError))
        )
        if not (scoped and any(words in str(error) for words in _OUTSIDE_OF_REPLICA)):
            return error
        refusal = ScriptError(
            "the script computes with its model in a loop of its own, and --distribute spreads "
            "Keras' fit only; run the step with strategy.run of a "
            "tf.distribute.MultiWorkerMirroredStrategy, or use fit, or submit it without"
        )
        refusal.__cause__ = error
        return refusal

    def peer_lost(self, error: BaseException | None) -> bool:
        """Tell whether an error, or one that led to it, comes from a member that went away."""
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            if strategy.peer_lost(error, self.members):
                return True
            seen.add(id(error))
            error = error.__cause__ or error.__context__
        return False

    def _before_strategy(self) -> None:
        if not self.made:
            strategy.prepare(self._assignment)
        elif self._distribute:
            self._refuse(
                "the script builds a MultiWorkerMirroredStrategy itself; submit it without "
                "--distribute"
            )

    def _before_update(self) -> None:
        if self.members == 1:
            return
        current = tf.distribute.get_strategy()
        if _is_of_group(current) and not tf.distribute.in_cross_replica_context():
            return
        how = (
            "--distribute spreads Keras' fit only"
            if self._distribute
            else "no strategy is in force"
        )
        self._refuse(
            f"the script applies gradients in a loop of its own, and {how}: each of the "
            f"{self.members} workers would train alone; run the step with strategy.run of a "
            "tf.distribute.MultiWorkerMirroredStrategy, or use fit, or submit with one worker"
        )

    def _refuse(self, text: str) -> None:
        self.refused = ScriptError(text)
        raise self.refused


def _is_of_group(strategy: Any) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
