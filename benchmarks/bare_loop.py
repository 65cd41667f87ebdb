"""One worker of a training as one would write it by hand: MultiWorkerMirroredStrategy, no service.

    python -m benchmarks.bare_loop SOURCE POSITION ADDRESS,ADDRESS
        [-p KEY=VALUE ...] [--steps-a-call N] [--mended]

Model, loss, optimizer, batch and number of steps are those of the task in SOURCE. Data pipeline
and loop are the fastest plain ones: indices are shuffled and batches gathered from memory, many
steps run in one call of a tf.function, and nothing is saved. With --mended it has from the trainer
what makes TensorFlow quicker than it is: memory that is kept between steps, and the ring. The chief
(position 0) prints a JSON line {"step": ..., "time": ...} after every call.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sides.pinning import pin
from benchmarks.sides.stamps import Teller

# About a quarter of a second of the demo's steps on one core, as the service's own calls are.
STEPS_A_CALL = 8
_SHUFFLE_BUFFER = 10_000


def main(argv: Sequence[str]) -> int:
    """Train this worker's part and leave."""
    parser = argparse.ArgumentParser(prog="benchmarks.bare_loop")
    parser.add_argument("source", type=Path)
    parser.add_argument("position", type=int)
    parser.add_argument("cluster", type=lambda text: text.split(","))
    parser.add_argument("-p", action="append", default=[], dest="parameters")
    parser.add_argument("--steps-a-call", type=int, default=STEPS_A_CALL)
    parser.add_argument("--mended", action="store_true")
    arguments = parser.parse_args(argv)
    # Before the import: TensorFlow makes as many threads as it may use cores.
    pin(arguments.position)
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": arguments.cluster},
            "task": {"type": "worker", "index": arguments.position},
        }
    )
    parameters = dict(text.split("=", 1) for text in arguments.parameters)
    teller = Teller.on_standard_output()
    train(
        arguments.source,
        parameters,
        arguments.position,
        workers=len(arguments.cluster),
        steps_a_call=arguments.steps_a_call,
        tell=teller.step,
        mended_for=tuple(arguments.cluster) if arguments.mended else (),
    )
    # An orderly end of the interpreter takes long with TensorFlow in it.
    os._exit(0)


def train(
    source: Path,
    parameters: Mapping[str, str],
    position: int,
    *,
    workers: int,
    steps_a_call: int,
    tell: Callable[[int], None],
    mended_for: tuple[str, ...] = (),
) -> None:
    """Train this worker's part, in the group that TF_CONFIG has; the chief tells its steps.

    mended_for: the addresses of all members, to have what the trainer does about TensorFlow.
    """
    import keras
    import tensorflow as tf

    from trainer import allocator, task
    from trainer import strategy as group
    from trainer.contract import Assignment

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    if mended_for:
        member = Assignment("", "", "", 1, "", "", cluster=mended_for, position=position)
        group.quicken(strategy, member)
    made = task.load(source, "task.py", parameters)
    keras.utils.set_random_seed(made.seed)
    with strategy.scope():
        model = made.model()
        optimizer = made.optimizer()
        optimizer.build(model.trainable_variables)
    share = made.global_batch // workers
    batches = iter(
        strategy.distribute_datasets_from_function(
            lambda context: _batches(source, workers, position, share)
        )
    )
    many = _compiled(strategy, made, model, optimizer, batches)
    step = 0
    while step < made.total_steps:
        # The first call compiles.
        count = min(steps_a_call if step else 1, made.total_steps - step)
        many(tf.constant(count)).numpy()
        if mended_for and not step:
            allocator.keep_blocks()
        step += count
        if position == 0:
            tell(step)
    group.part(workers)


def _batches(source: Path, workers: int, position: int, share: int) -> Any:
    """Return an endless data set of this worker's (digits, labels), `share` at a time."""
    import tensorflow as tf

    from trainer.data.idx import read_idx

    with tf.device("CPU:0"):
        digits = tf.constant(read_idx(source / "data/train-images-idx3-ubyte.gz")[..., None])
        labels = tf.constant(read_idx(source / "data/train-labels-idx1-ubyte.gz").astype("int64"))
    indices = tf.data.Dataset.range(55_000).shard(workers, position)
    indices = indices.shuffle(_SHUFFLE_BUFFER, seed=1).repeat().batch(share, drop_remainder=True)
    gathered = indices.map(
        lambda chosen: (tf.gather(digits, chosen), tf.gather(labels, chosen)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return gathered.prefetch(tf.data.AUTOTUNE).with_options(options)


def _compiled(strategy: Any, made: Any, model: Any, optimizer: Any, batches: Any) -> Any:
    """Return the function that makes so many steps and gives [loss, correct], all replicas'."""
    import keras
    import tensorflow as tf

    losses = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    inputs, replicas = made.inputs, strategy.num_replicas_in_sync

    def step(batch: Any) -> Any:
        digits, labels = batch
        with tf.GradientTape() as tape:
            outputs = model(tf.cast(digits, tf.float32) * inputs.scale, training=True)
            loss = tf.reduce_sum(losses(labels, outputs)) / made.global_batch
            # Keras optimizers add up the gradients of all replicas.
            loss += sum(model.losses) / replicas
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        correct = tf.reduce_sum(tf.cast(tf.argmax(outputs, -1) == labels, tf.float32))
        return tf.stack([loss, correct])

    @tf.function(autograph=False)
    def many(count: Any) -> Any:
        def body(done: Any, total: Any) -> Any:
            return done + 1, total + strategy.run(step, args=(next(batches),))

        _, total = tf.while_loop(lambda done, _: done < count, body, [0, tf.zeros(2)])
        return strategy.reduce("SUM", total, axis=None)

    return many


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
