"""The training in plain Keras: nothing in here knows of workers or of a service.

python -m benchmarks.training.script --data examples/mnist_lenet5/data [--network dense]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.training import networks


def train(keras: Any, options: argparse.Namespace, callbacks: Sequence[Any] = ()) -> None:
    """Train with `fit`, on arrays, in whole batches."""
    keras.utils.set_random_seed(1)
    pictures, labels = networks.digits(options.data)
    whole = len(pictures) - len(pictures) % options.batch_size
    model = networks.build(keras, options.network)
    model.compile(
        optimizer=networks.optimizer(keras),
        loss=networks.loss(keras),
        metrics=["accuracy"],
        steps_per_execution=options.steps_per_execution,
    )
    model.fit(
        pictures[:whole],
        labels[:whole],
        batch_size=options.batch_size,
        epochs=options.epochs,
        callbacks=list(callbacks),
        verbose=2,
    )


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder of MNIST in IDX form")
    parser.add_argument("--network", choices=networks.NAMES, default=networks.NAMES[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps-per-execution", type=int, default=1)
    return parser


if __name__ == "__main__":
    import keras

    train(keras, parser().parse_args())
