"""Scripts of users that the tests run, in the shapes that people write."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.training.groups import NEVER, Group, Job
from trainer.contract import Checkpointing, Script

_DATA = """
import json, os, sys
import keras
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
x = rng.normal(size=(96, 4)).astype("float32")
y = (x @ np.array([[1.0], [-2.0], [0.5], [3.0]], "float32") + 0.1).astype("float32")

def tell(**facts):
    print("facts " + json.dumps(facts), flush=True)

def weigh(model):
    return [float(np.sum(np.abs(w))) for w in model.get_weights()]
"""

# A script for one machine, as the many tutorials of Keras have it.
PLAIN = (
    _DATA
    + """
keras.utils.set_random_seed(5)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="tanh"),
                          keras.layers.Dense(1)])
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
history = model.fit(x, y, batch_size=8, epochs=int(sys.argv[1]), shuffle=False,
                    validation_data=(x[:32], y[:32]))
found = model.evaluate(x, y, verbose=0, return_dict=True)
tell(epochs=len(history.history["loss"]), last=history.history["loss"][-1], weights=weigh(model),
     **found)
model.save(os.path.join(os.environ["TAAS_OUTPUT_DIR"], "model.keras"))
"""
)

# A script that draws at random, without a seed of its own.
UNSEEDED = (
    _DATA
    + """
strategy = tf.distribute.MultiWorkerMirroredStrategy()
order = [int(n) for n in tf.data.Dataset.range(20).shuffle(20)]
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
history = model.fit(x, y, batch_size=8, epochs=2)
tell(order=order, drawn=float(np.random.random()), weights=weigh(model), **history.history)
"""
)

# Two trainings one after the other, the second of the first's model and of a new one.
SEVERAL_FITS = (
    _DATA
    + """
keras.utils.set_random_seed(5)
def build(width):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(width), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    return model
first, second = build(3), build(5)
one = first.fit(x, y, batch_size=8, epochs=3, shuffle=False)
tell(fit=1, weights=weigh(first))
two = second.fit(x, y, batch_size=8, epochs=int(sys.argv[1]), shuffle=False)
first.compile(optimizer="sgd", loss="mse")
three = first.fit(x, y, batch_size=8, epochs=2, shuffle=False)
tell(fit=3, epochs=[len(h.history["loss"]) for h in (one, two, three)],
     loss=[h.history["loss"] for h in (one, two, three)], weights=weigh(first) + weigh(second))
"""
)

# The official tutorial of a custom training loop, in small.
CUSTOM_LOOP = (
    _DATA
    + """
strategy = tf.distribute.MultiWorkerMirroredStrategy()
batch = 8 * strategy.num_replicas_in_sync
with strategy.scope():
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.05)

def dataset_fn(context):
    data = tf.data.Dataset.from_tensor_slices((x, y)).repeat()
    data = data.shard(context.num_input_pipelines, context.input_pipeline_id)
    return data.batch(context.get_per_replica_batch_size(batch))

iterator = iter(strategy.distribute_datasets_from_function(dataset_fn))

@tf.function
def train_step(iterator):
    def step_fn(inputs):
        features, labels = inputs
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(features) - labels) ** 2) / batch
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss
    return strategy.reduce("SUM", strategy.run(step_fn, args=(next(iterator),)), axis=None)

losses = [float(train_step(iterator)) for _ in range(20)]
tell(losses=losses, replicas=strategy.num_replicas_in_sync)
"""
)

# The same without a strategy: several workers would each train alone.
LONELY_LOOP = (
    _DATA
    + """
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
optimizer = keras.optimizers.SGD(0.05)

@tf.function
def train_step(features, labels):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(features) - labels) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss

tell(losses=[float(train_step(x, y)) for _ in range(5)])
"""
)

# No optimizer either: only the end shows that nobody ever spoke with the others.
BARE_LOOP = (
    _DATA
    + """
weights = tf.Variable(tf.zeros([4, 1]))
for _ in range(5):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((x @ weights - y) ** 2)
    weights.assign_sub(0.1 * tape.gradient(loss, weights))
"""
)

LONELY_FIT = (
    _DATA
    + """
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(optimizer="sgd", loss="mse")
model.fit(x, y)
"""
)


@dataclass
class Scripts:
    """Makes jobs of scripts."""

    folder: Path
    made: int = field(default=0)

    def job(
        self,
        text: str,
        *arguments: str,
        distribute: bool = False,
        own_checkpoints: bool = False,
        checkpointing: Checkpointing = NEVER,
    ) -> Job:
        self.made += 1
        source = self.folder / f"source-{self.made}"
        source.mkdir()
        (source / "train.py").write_text(text)
        script = Script(arguments, distribute=distribute, own_checkpoints=own_checkpoints)
        return Job(
            self.folder / f"job-{self.made}",
            source,
            checkpointing,
            module="train.py",
            script=script,
        )


def facts(group: Group, position: int = 0) -> list[dict[str, Any]]:
    """Return what a member's script has told."""
    lines = group.log(position).read_text().splitlines()
    return [json.loads(line.removeprefix("facts ")) for line in lines if line.startswith("facts ")]
