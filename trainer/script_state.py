"""What is saved of a script between two steps of Keras' fit, and how a new process takes it up.

After a restart the script runs again from its first line. The fits that were complete are not
made again: their models get the weights they had when the state was saved, and the calls return
the histories of then. The one that was in the middle goes on where it was.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.snapshot import Text

# Name of the state among the variables of a checkpoint.
TEXT = "fit/state"
# What EarlyStopping, ReduceLROnPlateau and ModelCheckpoint count with. Not all their numbers: some
# are settings that they change themselves when they first look at a metric.
_COUNTERS = (
    "best",
    "best_epoch",
    "cooldown_counter",
    "epochs_since_last_save",
    "stopped_epoch",
    "wait",
)


@dataclass(frozen=True, slots=True)
class State:
    """Where the script is.

    fit: how many fits are complete, and so the number of the one that is not. epoch, batch: what
    of that one is complete; `logs` are those of its last step. step: steps of all fits together.
    histories: of the complete fits, and last of the present one, as Keras' History has them.
    callbacks: the counters of Keras' own callbacks, by their position.
    """

    fit: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    logs: dict[str, float] = field(default_factory=dict)
    histories: list[dict[str, Any]] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)

    def to_text(self) -> Text:
        """Return it as a checkpoint holds it."""
        return Text(json.dumps(asdict(self)))

    @staticmethod
    def from_text(text: Text) -> State:
        """Parse what `to_text` made."""
        return State(**json.loads(text.value))


def weights_of(model: Any, number: int) -> dict[str, Any]:
    """Return the variables of a model that calls use, by name in a checkpoint."""
    return {f"model-{number}/{i}": v.value for i, v in enumerate(model.variables)}


def optimizer_of(model: Any, number: int) -> dict[str, Any]:
    """Return the variables of a model's optimizer, by name in a checkpoint."""
    optimizer = model.optimizer
    if optimizer is None:
        return {}
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    return {f"optimizer-{number}/{i}": v.value for i, v in enumerate(optimizer.variables)}


def counters_of(callback: Any) -> dict[str, Any]:
    """Return what one of Keras' own callbacks counts with; of any other callback nothing."""
    if not type(callback).__module__.startswith("keras."):
        return {}
    found = {name: plain(vars(callback).get(name)) for name in _COUNTERS}
    return {name: value for name, value in found.items() if value is not None}


def plain(value: Any) -> float | int | bool | None:
    """Return a number as JSON has it, None for what is no number."""
    if isinstance(value, (bool, int, float)):
        return value
    try:
        # NumPy's scalars, and those of TensorFlow.
        return float(value) if getattr(value, "shape", None) == () else None
    except (TypeError, ValueError):
        return None


def history_of(history: Any) -> dict[str, Any]:
    """Return a History callback's content, with numbers only."""
    values = {name: [plain(v) for v in each] for name, each in history.history.items()}
    return {"epoch": list(getattr(history, "epoch", [])), "history": values}
