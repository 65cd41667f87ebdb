"""What a program can do with Keras' fit, each as a small program that runs alone and in a group.

Each feature builds under a scope, trains, and returns what it found: history, weights,
predictions and the like. Whatever the number of workers, the findings must be the same. Nothing
here knows of workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Scope = Callable[[], contextlib.AbstractContextManager[Any]]
Feature = Callable[[Scope, Path], dict[str, Any]]

BATCH = 8
FEATURES: dict[str, Feature] = {}


def feature(function: Feature) -> Feature:
    """Let a function be run by the tests."""
    FEATURES[function.__name__] = function
    return function


def rows(count: int = 40) -> tuple[Any, Any]:
    """Return features float32[count, 6] and classes int64[count] that can be learned."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, count)
    x = rng.normal(size=(count, 6)) + labels[:, None]
    return x.astype("float32"), labels


def network(*layers: Any) -> Any:
    """Return a small classifier with these layers in its middle."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            *layers,
            keras.layers.Dense(3),
        ]
    )


def compiled(model: Any, **options: Any) -> Any:
    """Compile with a loss, a metric and an optimizer, made here and now; return the model."""
    make: Callable[[], Any] = options.pop("optimizer", lambda: keras.optimizers.Adam(0.01))
    settings: dict[str, Any] = {
        "optimizer": make(),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }
    model.compile(**{**settings, **options})
    return model


def found(model: Any, history: Any, x: Any = None, **more: Any) -> dict[str, Any]:
    """Return what is to be the same: history, weights, and predictions for x if it is given."""
    if x is not None:
        more["prediction"] = model.predict(x, batch_size=BATCH, verbose=0)
    return {
        **{f"history {name}": values for name, values in history.history.items()},
        **{f"weight {i}": w for i, w in enumerate(model.get_weights())},
        **more,
    }


def trained(scope: Scope, *layers: Any, x: Any = None, y: Any = None, **options: Any) -> Any:
    """Build, compile, fit and return the findings; `fit_` options go to fit, `ask` to predict."""
    fit = {name[4:]: options.pop(name) for name in list(options) if name.startswith("fit_")}
    ask = options.pop("ask", None)
    if x is None:
        x, y = rows()
    with scope():
        model = compiled(network(*[layer() for layer in layers]), **options)
    fit = {"batch_size": BATCH, "epochs": 2, "verbose": 0, **fit}
    return found(model, model.fit(x, y, **fit), ask)


@feature
def arrays(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, ask=rows()[0])


@feature
def arrays_in_order(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, fit_shuffle=False)


@feature
def a_last_batch_that_does_not_divide(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(scope, x=x, y=y)


@feature
def a_last_batch_of_one_row(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(33)
    return trained(scope, x=x, y=y, ask=x)


def stream(count: int = 40, **weights: Any) -> Any:
    """Return an unbatched tf.data set of rows."""
    return tf.data.Dataset.from_tensor_slices((*rows(count), *weights.values()))


@feature
def tf_data(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, x=stream().shuffle(40, seed=1).batch(BATCH), fit_batch_size=None)


@feature
def tf_data_of_unknown_length(scope: Scope, _: Path) -> dict[str, Any]:
    data = stream(37).filter(lambda x, y: y < 3).repeat().batch(BATCH)
    return trained(scope, x=data, fit_batch_size=None, fit_steps_per_epoch=4, fit_epochs=3)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Global batches, one by one."""

    def __init__(self, count: int = 40, **options: Any) -> None:
        super().__init__(**options)
        self.x, self.y = rows(count)

    def __len__(self) -> int:
        return -(-len(self.x) // BATCH)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        part = slice(number * BATCH, (number + 1) * BATCH)
        return self.x[part], self.y[part]


@feature
def py_dataset(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, x=Batches(37), fit_batch_size=None, fit_shuffle=True)


@feature
def py_dataset_with_threads(scope: Scope, _: Path) -> dict[str, Any]:
    data = Batches(workers=2, max_queue_size=4)
    return trained(scope, x=data, fit_batch_size=None, fit_shuffle=False)


@feature
def generator(scope: Scope, _: Path) -> dict[str, Any]:
    def batches() -> Iterator[tuple[Any, Any]]:
        data = Batches()
        while True:
            for number in range(len(data)):
                yield data[number]

    return trained(scope, x=batches(), fit_batch_size=None, fit_steps_per_epoch=4)


@feature
def validation_data(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, fit_validation_data=rows(21), fit_validation_batch_size=4)


@feature
def validation_split(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, fit_validation_split=0.3)


@feature
def evaluation(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    with scope():
        metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]
        model = compiled(network(), metrics=metrics)
    before = model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    after = model.evaluate(stream(29).batch(BATCH), verbose=0, return_dict=True)
    return {"before": list(before.values()), "after": list(after.values())}


@feature
def sample_weights(scope: Scope, _: Path) -> dict[str, Any]:
    weights = np.linspace(0, 2, 40).astype("float32")
    return trained(
        scope,
        fit_sample_weight=weights,
        metrics=[],
        weighted_metrics=["accuracy"],
    )


@feature
def sample_weights_normalized(scope: Scope, _: Path) -> dict[str, Any]:
    weights = np.linspace(0, 2, 37).astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    x, y = rows(37)
    return trained(scope, x=x, y=y, loss=loss, fit_sample_weight=weights)


@feature
def class_weights(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, fit_class_weight={0: 1.0, 1: 3.0, 2: 0.5})


@feature
def a_loss_that_is_a_sum(scope: Scope, _: Path) -> dict[str, Any]:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    x, y = rows(37)
    return trained(scope, x=x, y=y, loss=loss)


@feature
def masked_sequences(scope: Scope, _: Path) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    words = rng.integers(1, 9, (37, 5)) * (rng.random((37, 5)) < np.linspace(0.2, 1, 37)[:, None])
    with scope():
        model = keras.Sequential(
            [
                keras.Input((5,), dtype="int32"),
                keras.layers.Embedding(9, 4, mask_zero=True),
                keras.layers.Dense(2),
            ]
        )
        model = compiled(model, metrics=["accuracy"])
    history = model.fit(words, words % 2, batch_size=BATCH, epochs=2, verbose=0)
    return found(model, history)


@feature
def several_inputs_and_outputs(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(33)
    with scope():
        left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
        both = keras.layers.Concatenate()([left, right])
        kind = keras.layers.Dense(3, name="kind")(both)
        size = keras.layers.Dense(1, name="size")(both)
        model = keras.Model({"left": left, "right": right}, {"kind": kind, "size": size})
        model.compile(
            keras.optimizers.Adam(0.01),
            loss={
                "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                "size": "mse",
            },
            loss_weights={"kind": 1.0, "size": 0.3},
            metrics={"kind": ["accuracy"], "size": ["mae"]},
        )
    inputs = {"left": x[:, :3], "right": x[:, 3:]}
    targets = {"kind": y, "size": x.sum(axis=1)}
    history = model.fit(inputs, targets, batch_size=BATCH, epochs=2, verbose=0)
    predictions = model.predict(inputs, batch_size=BATCH, verbose=0)
    return {
        **{f"history {name}": values for name, values in history.history.items()},
        **{f"prediction {name}": values for name, values in predictions.items()},
        **{f"weight {i}": w for i, w in enumerate(model.get_weights())},
    }


@feature
def several_steps_an_execution(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, steps_per_execution=2, fit_validation_data=rows(21), ask=rows()[0])


@feature
def more_steps_an_execution_than_there_are(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(scope, x=x, y=y, steps_per_execution=20)


@feature
def jit_compile(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, jit_compile=True)


@feature
def run_eagerly(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, run_eagerly=True, fit_epochs=1, ask=rows(9)[0])


@feature
def synchronized_batch_normalization(scope: Scope, _: Path) -> dict[str, Any]:
    layer = keras.layers.BatchNormalization
    return trained(scope, lambda: layer(synchronized=True), fit_validation_data=rows(21))


@feature
def dropout(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(scope, lambda: keras.layers.Dropout(0.5, seed=3), x=x, y=y)


@feature
def spatial_dropout(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope,
        lambda: keras.layers.Reshape((2, 4)),
        lambda: keras.layers.SpatialDropout1D(0.3, seed=3),
        keras.layers.Flatten,
    )


@feature
def moving_average_of_weights(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope, optimizer=lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8)
    )


@feature
def moving_average_that_overwrites(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope,
        optimizer=lambda: keras.optimizers.SGD(
            0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=2
        ),
    )


@feature
def clipped_gradients(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(scope, x=x, y=y, optimizer=lambda: keras.optimizers.SGD(0.1, clipnorm=0.05))


@feature
def accumulated_gradients(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope, optimizer=lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)
    )


@feature
def weight_decay(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(scope, optimizer=lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1))


@feature
def learning_rate_schedule(scope: Scope, _: Path) -> dict[str, Any]:
    return trained(
        scope,
        optimizer=lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9
        ),
    )


@feature
def mixed_precision(scope: Scope, _: Path) -> dict[str, Any]:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return trained(scope, ask=rows()[0])
    finally:
        keras.mixed_precision.set_global_policy("float32")


@feature
def an_overflow_on_one_worker(scope: Scope, _: Path) -> dict[str, Any]:
    """A row whose gradients overflow: all skip the step and halve the scale, or all wait."""
    x, y = rows()
    x[3] = 1e38
    with scope():
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01))
        model = compiled(network(), optimizer=lambda: optimizer)
    model.fit(x, y, batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    return {
        "scale": optimizer.dynamic_scale.numpy(),
        **{f"weight {i}": w for i, w in enumerate(model.get_weights())},
    }


@feature
def regularizers_and_added_losses(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    return trained(
        scope,
        lambda: keras.layers.Dense(8, kernel_regularizer="l2"),
        lambda: keras.layers.ActivityRegularization(l1=0.01),
        x=x[:32],
        y=y[:32],
    )


@feature
def metrics_with_a_large_state(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    with scope():
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, activation="sigmoid")])
        metrics = [keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="precision")]
        model = compiled(model, loss="binary_crossentropy", metrics=metrics)
    history = model.fit(x, (y > 0).astype("float32")[:, None], batch_size=BATCH, verbose=0)
    return found(model, history)


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model that is built by its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.last = keras.layers.Dense(3)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.last(self.hidden(inputs))


@feature
def subclassed_model(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    with scope():
        model = compiled(Subclassed())
    return found(model, model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0), x)


class WithOwnStep(Subclassed):
    """A step as Keras' guide writes it, for one process."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=(y_pred := self(x, training=True)))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(y)[0])
            else:
                metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


@feature
def own_train_step(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    with scope():
        model = compiled(WithOwnStep())
    return found(model, model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0))


class WithOwnLoss(Subclassed):
    """A loss that Keras knows nothing of, and a log that no metric keeps."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            error = self(x, training=True)[:, 0] - tf.cast(y, tf.float32)
            loss = tf.reduce_mean(error**2)
        gradients = tape.gradient(loss, self.trainable_variables)
        pairs = zip(gradients, self.trainable_variables, strict=True)
        self.optimizer.apply_gradients((g, v) for g, v in pairs if g is not None)
        return {"squared": loss, "worst": tf.reduce_mean(tf.abs(error))}


@feature
def own_loss(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(33)
    with scope():
        model = compiled(WithOwnLoss(), metrics=None)
    return found(model, model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0))


@feature
def a_loss_for_a_strategy(scope: Scope, _: Path) -> dict[str, Any]:
    """What the guides to tf.distribute tell to write: the sum over the global batch's size."""

    class Averaged(WithOwnLoss):
        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                error = self(x, training=True)[:, 0] - tf.cast(y, tf.float32)
                loss = tf.nn.compute_average_loss(error**2, global_batch_size=BATCH)
            gradients = tape.gradient(loss, self.trainable_variables)
            pairs = zip(gradients, self.trainable_variables, strict=True)
            self.optimizer.apply_gradients((g, v) for g, v in pairs if g is not None)
            return {"average": loss}

    x, y = rows()
    with scope():
        model = compiled(Averaged(), metrics=None)
    return found(model, model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0))


@feature
def one_batch_at_a_time(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows()
    with scope():
        model = compiled(network())
    logs = [model.train_on_batch(x[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8)]
    return {
        "logs": [[float(v) for v in pair] for pair in logs],
        "test": [float(v) for v in model.test_on_batch(x, y)],
        "prediction": model.predict_on_batch(x),
        **{f"weight {i}": w for i, w in enumerate(model.get_weights())},
    }


@feature
def callbacks_that_decide(scope: Scope, _: Path) -> dict[str, Any]:
    x, y = rows(37)
    callbacks = [
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=0.5),
        keras.callbacks.EarlyStopping("val_loss", patience=2, min_delta=0.5, start_from_epoch=1),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.TerminateOnNaN(),
    ]
    return trained(
        scope, x=x, y=y, fit_epochs=8, fit_validation_data=rows(21), fit_callbacks=callbacks
    )


@feature
def callbacks_that_write(scope: Scope, folder: Path) -> dict[str, Any]:
    callbacks = [
        keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras", save_best_only=True),
        keras.callbacks.ModelCheckpoint(folder / "last.weights.h5", save_weights_only=True),
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.TensorBoard(folder / "curves", histogram_freq=1, update_freq=1),
    ]
    result = trained(scope, fit_validation_data=rows(21), fit_callbacks=callbacks)
    saved = keras.models.load_model(folder / "2.keras") if (folder / "2.keras").exists() else None
    table = np.genfromtxt(folder / "log.csv", delimiter=",", skip_header=1)
    return {
        **result,
        "table": table,
        **{f"saved {i}": w for i, w in enumerate(saved.get_weights() if saved else [])},
        "files": sorted(float(p.stat().st_size > 0) for p in folder.rglob("*") if p.is_file()),
    }


class Interrupted(Exception):
    """What ends a training in the middle."""


class _Interrupt(keras.callbacks.Callback):  # type: ignore[misc]
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 2:
            raise Interrupted


@feature
def a_backup_that_is_restored(scope: Scope, folder: Path) -> dict[str, Any]:
    x, y = rows(37)
    for callbacks in ([_Interrupt()], []):
        backup = keras.callbacks.BackupAndRestore(folder / "backup")
        keras.utils.set_random_seed(7)
        with scope():
            model = compiled(network())
        with contextlib.suppress(Interrupted):
            history = model.fit(
                x,
                y,
                batch_size=BATCH,
                epochs=4,
                shuffle=False,
                verbose=0,
                callbacks=[backup, *callbacks],
            )
    return found(model, history, epochs=history.epoch)
