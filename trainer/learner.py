"""The model as the group trains it: what one replica does in one step, and which variables count.

Everything here runs per replica unless said otherwise. The loss of a step is the sum over the
global batch divided by its size; Keras optimizers add up the gradients of all replicas, so the
result is that of one replica with the whole batch.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from trainer import layers, metrics
from trainer.frozen import Front
from trainer.inputs import prepare
from trainer.task import ImageInput, Task, TaskError

# Examples looked at while the model is built, to check shapes and metrics.
_SAMPLE = 8


class Learner:
    """Model, optimizer, loss and metrics of a task, built under a strategy."""

    def __init__(self, task: Task, strategy: Any, front: Front | None = None) -> None:
        """Build everything, in cross-replica context. Raises TaskError, or what the task raises.

        `front` is what stands before the model in the export, see trainer.frozen.
        """
        self.task = task
        self.front = front
        self.strategy = strategy
        features, labels = task.train.fetch(tf.range(min(_SAMPLE, task.train.size), dtype=tf.int64))
        with strategy.scope():
            self.model = _build_model(task, features)
            self.optimizer, decay = _build_optimizer(task)
            self.optimizer.build(self.model.trainable_variables)
            self.decay = decay
            self._trained = [v.value for v in self.model.trainable_variables]
            self.averages = (
                [_twin(v, f"average_{i}") for i, v in enumerate(self._trained)]
                if decay is not None
                else []
            )
            # Keras updates these on each replica from its own part of the batch (the moving
            # statistics of BatchNormalization); their mean over the replicas is what counts.
            self._local = [
                v.value
                for v in self.model.non_trainable_variables
                if tf.as_dtype(v.dtype).is_floating
            ]
            self._means = [_twin(v, f"mean_{i}") for i, v in enumerate(self._local)]
        layers.bind(self.model)
        self._loss = metrics.per_example(task.loss)
        self.measures = self._measure(features, labels)

    def _measure(self, features: Any, labels: Any) -> metrics.Measures:
        """Run model, loss and metrics once on a sample, where errors are still easy to read."""
        self.sample = tf.nest.map_structure(lambda t: t[:_SAMPLE], features)
        outputs = self.model(self.prepare(features), training=False)
        metrics.check_loss(self.task.loss, labels, outputs)
        from_logits = bool(getattr(self.task.loss, "from_logits", False))
        chosen = [
            metrics.resolve(m, labels=labels, outputs=outputs, from_logits=from_logits)
            for m in self.task.metrics
        ]
        if self.task.train.size == 1:
            labels, outputs = tf.nest.map_structure(
                lambda t: tf.repeat(t, 2, axis=0), (labels, outputs)
            )
        return metrics.Measures(chosen, labels=labels, outputs=outputs)

    def prepare(self, features: Any) -> Any:
        """Return what the model gets for these features."""
        return prepare(self.task.inputs, features)

    def train_step(self, batch: Any, step: Any) -> Any:
        """Make one step (0-based, int64) and return this replica's part of the measures."""
        (features, labels), weights, rows = batch
        with layers.step_of(self.task.seed, step, rows), tf.GradientTape() as tape:
            outputs = self.model(self.prepare(features), training=True)
            loss_sum = self._loss_sum(labels, outputs, weights)
            objective = self.optimizer.scale_loss(loss_sum / self.task.global_batch)
        trained = self.model.trainable_variables
        gradients = tape.gradient(objective, [v.value for v in trained])
        self.optimizer.apply(gradients, trained)
        self._average(step)
        return self.measures.of_step(labels, outputs, loss_sum, weights)

    def evaluation_step(self, batch: Any) -> Any:
        """Return this replica's part of the measures, without learning anything."""
        (features, labels), weights, _ = batch
        outputs = self.model(self.prepare(features), training=False)
        return self.measures.of_step(
            labels, outputs, self._loss_sum(labels, outputs, weights), weights
        )

    def _loss_sum(self, labels: Any, outputs: Any, weights: Any) -> Any:
        """Return the loss summed over this replica's examples, padding excepted.

        Regularization goes in once per example, so that over all replicas it counts as one copy.
        """
        total = tf.reduce_sum(self._loss(labels, outputs) * weights)
        regularization = self.model.losses
        if regularization:
            total += tf.add_n(regularization) * tf.reduce_sum(weights)
        return total

    def _average(self, step: Any) -> None:
        if self.decay is None:
            return
        count = tf.cast(step, tf.float32)
        # Young averages follow faster, as in tf.train.ExponentialMovingAverage.
        decay = tf.minimum(self.decay, (1.0 + count) / (10.0 + count))
        for variable, average in zip(self._trained, self.averages, strict=True):
            old, new = tf.convert_to_tensor(average), tf.convert_to_tensor(variable)
            average.assign(new + tf.cast(decay, new.dtype) * (old - new))

    def on_replicas(self, function: Any) -> Any:
        """Return a function that runs one without arguments on each replica of this process."""
        return tf.function(lambda: self.strategy.run(function), autograph=False)

    def settle(self) -> None:
        """Refresh the means over all replicas of the variables that each updates for itself.

        A collective, if the model has any such variable. They are kept beside the variables, not
        put into them, so that it does not matter when this is called.
        """
        if not self._local:
            return
        context = tf.distribute.get_replica_context()
        # A plain read has no device, which the strategy needs to know where to reduce.
        own = [tf.identity(tf.convert_to_tensor(v)) for v in self._local]
        reduced = context.all_reduce(tf.distribute.ReduceOp.MEAN, own)
        for mean, value in zip(self._means, reduced, strict=True):
            mean.assign(value)

    def swap(self) -> None:
        """Exchange the trained state with the one that evaluation and export use, and back."""
        pairs = [*zip(self._local, self._means, strict=True)]
        if self.averages:
            pairs += zip(self._trained, self.averages, strict=True)
        for variable, other in pairs:
            a, b = tf.identity(variable), tf.identity(other)
            with tf.control_dependencies([a, b]):
                variable.assign(b)
                other.assign(a)

    @property
    def drifts(self) -> bool:
        """Whether there are variables that each replica updates for itself."""
        return bool(self._local)

    def adopt(self) -> None:
        """After a restore, begin from the means."""
        for variable, mean in zip(self._local, self._means, strict=True):
            variable.assign(tf.convert_to_tensor(mean))

    def variables(self) -> dict[str, tf.Variable]:
        """Return what a checkpoint holds, by names that do not change between runs."""
        means = {id(v): m for v, m in zip(self._local, self._means, strict=True)}
        found: dict[str, tf.Variable] = {}
        for kind, group in (("model", self.model), ("optimizer", self.optimizer)):
            for i, variable in enumerate(group.variables):
                found[_entry(kind, i, variable)] = means.get(id(variable.value), variable.value)
        found.update((_average(i), v) for i, v in enumerate(self.averages))
        return found

    def state(self) -> list[tf.Variable]:
        """Return all that training changes, in an order that does not change between runs."""
        return [*self.variables().values(), *self._local]

    def lent(self) -> tuple[dict[str, tf.Variable], ...]:
        """Return what the weights of another training are assigned to: the model's variables by
        their entries in its checkpoint, and in a second part the averages, which begin there."""
        model = {n: v for n, v in self.variables().items() if n.startswith("model/")}
        if not self.averages:
            return (model,)
        entries = {id(v.value): _entry("model", i, v) for i, v in enumerate(self.model.variables)}
        pairs = zip(self._trained, self.averages, strict=True)
        return model, {entries[id(trained)]: average for trained, average in pairs}

    def served_names(self) -> list[str]:
        """Return the entry of a checkpoint for each variable of the model, in its order.

        They are what evaluation and export use: averages, where there are any.
        """
        averaged = {id(v): _average(i) for i, v in enumerate(self._trained) if self.averages}
        return [
            averaged.get(id(variable.value), _entry("model", i, variable))
            for i, variable in enumerate(self.model.variables)
        ]


def _entry(kind: str, number: int, variable: Any) -> str:
    # Keras numbers layers by what the process built before; an index is stable.
    return f"{kind}/{number:04d}/{variable.name}"


def _average(number: int) -> str:
    return f"average/{number:04d}"


def _twin(variable: Any, name: str) -> tf.Variable:
    """Create a variable beside another, with its value; each replica updates its own copy."""
    return tf.Variable(variable.numpy(), trainable=False, name=name)


def _build_model(task: Task, features: Any) -> Any:
    model = task.model()
    if not isinstance(model, keras.Model):
        raise TaskError(
            f"Task.model must return a Keras model, not {type(model).__name__} of module "
            f"{type(model).__module__}"
        )
    if isinstance(task.inputs, ImageInput):
        _check_pictures(task.inputs, features)
    if not model.built:
        as_float = isinstance(task.inputs, ImageInput)
        model(
            tf.nest.map_structure(
                lambda t: keras.KerasTensor(
                    (None, *t.shape[1:]), "float32" if as_float else t.dtype.name
                ),
                features,
            )
        )
    if not model.trainable_variables:
        raise TaskError("the model has nothing to train: no trainable variable")
    if not all(hasattr(v.value, "values") for v in model.variables):
        raise TaskError(
            "the model's variables were made before Task.model was called; build the whole model "
            "inside the function"
        )
    return model


def _check_pictures(inputs: ImageInput, features: Any) -> None:
    shape = (inputs.height, inputs.width, inputs.channels)
    if not tf.is_tensor(features) or tuple(features.shape[1:]) != shape:
        found = tuple(features.shape[1:]) if tf.is_tensor(features) else type(features).__name__
        raise TaskError(f"Task.inputs says pictures of {shape}, but Task.train holds {found}")
    if features.dtype.is_floating and 0 < float(tf.reduce_max(features)) <= 1:
        raise TaskError(
            "Task.train holds pictures that are scaled already; give them with values 0..255 "
            "and let Task.inputs scale them, so that the exported model does the same"
        )


def _build_optimizer(task: Task) -> tuple[Any, float | None]:
    """Return the optimizer and the decay of the moving average, if there is to be one."""
    made = task.optimizer
    if isinstance(made, keras.optimizers.Optimizer):
        made = type(made).from_config(made.get_config())
    elif isinstance(made, (str, dict)):
        made = keras.optimizers.get(made)
    elif callable(made):
        made = made()
    if not isinstance(made, keras.optimizers.Optimizer):
        raise TaskError(
            "Task.optimizer must be a function that returns a Keras optimizer, "
            f"not {type(made).__name__}"
        )
    decay = task.ema
    if decay is None and made.use_ema and made.ema_overwrite_frequency is None:
        # Keras keeps the average but leaves it to the caller to use it; one kind is enough.
        decay, made.use_ema = made.ema_momentum, False
    return made, decay
