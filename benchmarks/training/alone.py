"""One process that trains with Keras' `fit` and without the service, on its own cores.

    python -m benchmarks.training.alone --position 0 --cores 1 [--keras tf_keras]
        [--cluster ADDRESS,ADDRESS] ... and what `script` takes

With a cluster it is one worker of a MultiWorkerMirroredStrategy. The chief tells its steps as
JSON lines, at most ten times a second.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.sides.pinning import pin
from benchmarks.sides.stamps import Teller
from benchmarks.training import script

_TELL_EVERY_S = 0.1


def main(argv: Sequence[str]) -> None:
    """Train until somebody ends it."""
    parser = script.parser()
    parser.add_argument("--position", type=int, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    parser.add_argument("--cluster", type=lambda text: text.split(","), default=[])
    options = parser.parse_args(argv)
    # Before the import: TensorFlow makes as many threads as it may use cores.
    pin(options.position, options.cores)
    if options.cluster:
        os.environ["TF_CONFIG"] = json.dumps(
            {
                "cluster": {"worker": options.cluster},
                "task": {"type": "worker", "index": options.position},
            }
        )
    teller = Teller.on_standard_output()
    scope: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    keras = importlib.import_module(options.keras)
    if options.cluster:
        import tensorflow as tf

        scope = tf.distribute.MultiWorkerMirroredStrategy().scope()
    with scope:
        script.train(keras, options, [_telling(keras, teller)] if options.position == 0 else [])


def _telling(keras: Any, teller: Teller) -> Any:
    """Return a callback of this Keras that tells of the steps."""

    class Telling(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            # Of tf_keras: the metrics need not be brought to Python for it after each batch.
            self._supports_tf_logs = True
            self._epochs_before = 0
            self._told = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._epochs_before = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if time.monotonic() - self._told >= _TELL_EVERY_S:
                teller.step(self._epochs_before * self.params["steps"] + batch + 1)
                self._told = time.monotonic()

    return Telling()


if __name__ == "__main__":
    main(sys.argv[1:])
