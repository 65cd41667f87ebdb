"""Hands over the model: a SavedModel that takes pictures or rows, and a Keras file.

    output/model/         SavedModel: "serving_default" (pictures as bytes, or rows) and "tensor"
    output/model.keras    the same for Keras
    output/model.json     what it takes, its classes in order, step and metrics

While training goes on there is, once the first checkpoint has been saved,

    output/graph/         the same SavedModel and description, without trained values; the
                          description names the entries of a checkpoint that take their place

so that a checkpoint can be asked by whoever has neither the program nor its data: see
trainer.exported. Done by the chief alone, without any collective; plain Keras and TensorFlow load
the model.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.exported import DESCRIPTION, GRAPH, MODEL
from trainer.inputs import prepare
from trainer.learner import Learner
from trainer.task import ImageInput, TableInput, Task

KERAS = "model.keras"
_TEMPORARY, _TEMPORARY_GRAPH = ".tmp-export", ".tmp-graph"


@dataclass(frozen=True, slots=True)
class Written:
    """Paths below the output folder, the bytes of all files together, and the graph in them."""

    paths: list[str]
    size: int
    graph: Any


def export(learner: Learner, output: Path, *, step: int, metrics: Mapping[str, float]) -> Written:
    """Write the model as its variables are now; replaces an earlier export."""
    temporary = output / _TEMPORARY
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    values = [v.value.numpy() for v in learner.model.variables]
    # Layers get the names that they would have in a program of their own.
    keras.backend.clear_session()
    model = _plain(learner)
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)
    _whole(learner, model).save(temporary / KERAS)
    graph = _write(learner, model, temporary, {"step": step, "metrics": dict(metrics)})
    for name in (MODEL, KERAS, DESCRIPTION):
        _replace(temporary / name, output / name)
    shutil.rmtree(temporary)
    shutil.rmtree(output / GRAPH, ignore_errors=True)
    paths = [MODEL, KERAS, DESCRIPTION]
    return Written(paths, sum(_size(output / name) for name in paths), graph)


def export_graph(learner: Learner, output: Path) -> Any:
    """Write output/graph, unless it is there: it is the same for every step of a job.

    Returns the graph, None if it was there.

    May run beside the training, in a thread of its own: of the learner it reads nothing that the
    training changes.
    """
    if (output / GRAPH).is_dir():
        return None
    temporary = output / _TEMPORARY_GRAPH
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    with tf.device("CPU:0"):
        named = {"variables": learner.served_names()}
        graph = _write(learner, _plain(learner), temporary, named)
    temporary.rename(output / GRAPH)
    return graph


def _write(learner: Learner, model: Any, folder: Path, more: Mapping[str, Any]) -> Any:
    """Write SavedModel and description into a folder, and return the graph."""
    task = learner.task
    kind = _kind(task, np.asarray(model(learner.prepare(learner.sample), training=False)))
    classes = _classes(task, model, kind)
    graph = _save(learner, model, kind=kind, classes=classes, folder=folder / MODEL)
    description = {
        "inputs": _describe(_inputs(learner)),
        "outputs": "probabilities" if classes else "values",
        "classes": classes,
        **more,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    return graph


def _inputs(learner: Learner) -> ImageInput | TableInput | None:
    """Return what the whole model takes."""
    return learner.front.inputs if learner.front else learner.task.inputs


def _whole(learner: Learner, model: Any) -> Any:
    """Return the Keras model from what it takes, scaled, to what it gives."""
    if learner.front is None:
        return model
    taken = keras.Input(learner.front.model.input_shape[1:])
    return keras.Model(taken, model(learner.front.model(taken)))


def _plain(learner: Learner) -> Any:
    """Return the model built anew, with ordinary variables of fresh values."""
    model = learner.task.model()
    if not model.built:
        shapes = tf.nest.map_structure(
            lambda t: keras.KerasTensor((None, *t.shape[1:]), t.dtype.name),
            learner.prepare(learner.sample),
        )
        model(shapes)
    return model


def _kind(task: Task, outputs: Any) -> str:
    """Return what the model's outputs are: "probabilities", "logits" or "values"."""
    if task.outputs != "auto":
        return task.outputs
    if getattr(task.loss, "from_logits", False):
        return "logits"
    named = str(getattr(task.loss, "name", None) or task.loss)
    if task.classes is None and "crossentropy" not in named:
        return "values"
    bounded = bool(np.all(outputs >= 0) and np.all(outputs <= 1 + 1e-4))
    summed = outputs.shape[-1] == 1 or np.allclose(outputs.sum(-1), 1, atol=1e-2)
    return "probabilities" if bounded and summed else "logits"


def _classes(task: Task, model: Any, kind: str) -> list[str] | None:
    """Return names for all classes, or None if the outputs are plain values."""
    if kind == "values":
        return None
    width = int(model.output_shape[-1]) if hasattr(model, "output_shape") else None
    number = 2 if width == 1 else width
    names = task.classes
    if names and (number is None or len(names) == number):
        return list(names)
    return [str(i) for i in range(number or 0)] or None


def _save(
    learner: Learner, model: Any, *, kind: str, classes: list[str] | None, folder: Path
) -> Any:
    """Write the SavedModel, and return the graph by which tensors are answered."""
    inputs = _inputs(learner)
    front = learner.front
    features = front.sample if front else learner.sample

    def answer(prepared: Any) -> dict[str, Any]:
        seen = front.model(prepared, training=False) if front else prepared
        outputs = model(seen, training=False)
        if classes is None:
            return {"values": tf.cast(outputs, tf.float32)}
        probabilities = _probabilities(tf.cast(outputs, tf.float32), kind)
        names = tf.tile(tf.constant([classes]), [tf.shape(probabilities)[0], 1])
        return {"probabilities": probabilities, "classes": names}

    module = tf.Module()
    # Plain variables, so that loading needs TensorFlow only; their order is that of the model,
    # by which a checkpoint's values find them.
    module.state = [v.value for v in model.variables]
    module.frozen = [v.value for v in front.model.variables] if front else []
    module.tensor = tf.function(
        lambda **named: answer(prepare(inputs, _structured(features, named))), autograph=False
    )
    signatures = {"tensor": module.tensor.get_concrete_function(**_specs(features))}
    if isinstance(inputs, ImageInput):
        module.pictures = tf.function(
            lambda images: answer(prepare(inputs, _decode(images, inputs))), autograph=False
        )
        spec = tf.TensorSpec([None], tf.string, name="images")
        signatures["serving_default"] = module.pictures.get_concrete_function(spec)
    elif isinstance(inputs, TableInput):
        module.rows = tf.function(lambda rows: answer(rows), autograph=False)
        spec = tf.TensorSpec([None, len(inputs.columns)], tf.float32, name="rows")
        signatures["serving_default"] = module.rows.get_concrete_function(spec)
    else:
        signatures["serving_default"] = signatures["tensor"]
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return signatures["tensor"].graph


def _probabilities(outputs: Any, kind: str) -> Any:
    if outputs.shape[-1] == 1:
        positive = outputs if kind == "probabilities" else tf.sigmoid(outputs)
        return tf.concat([1.0 - positive, positive], axis=-1)
    return outputs if kind == "probabilities" else tf.nn.softmax(outputs)


def _named(features: Any) -> dict[str, Any]:
    """Return the model's inputs by name; one tensor is called "features"."""
    flat = tf.nest.flatten(features)
    if isinstance(features, Mapping):
        return {str(key): features[key] for key in sorted(features)}
    if len(flat) == 1:
        return {"features": flat[0]}
    return {f"features_{i}": tensor for i, tensor in enumerate(flat)}


def _specs(features: Any) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name=name)
        for name, tensor in _named(features).items()
    }


def _structured(features: Any, named: Mapping[str, Any]) -> Any:
    if isinstance(features, Mapping):
        return {key: named[str(key)] for key in features}
    flat = [named[name] for name in _named(features)]
    return tf.nest.pack_sequence_as(features, flat)


def _decode(images: Any, inputs: ImageInput) -> Any:
    """Return pictures with values 0..255 from the bytes of JPEG or PNG files."""

    def one(content: Any) -> Any:
        picture = tf.io.decode_image(content, channels=inputs.channels, expand_animations=False)
        picture.set_shape([None, None, inputs.channels])
        size = (inputs.height, inputs.width)
        return tf.image.resize(tf.cast(picture, tf.float32), size, antialias=True)

    shape = (inputs.height, inputs.width, inputs.channels)
    return tf.map_fn(one, images, fn_output_signature=tf.TensorSpec(shape, tf.float32))


def _describe(inputs: ImageInput | TableInput | None) -> dict[str, Any]:
    if isinstance(inputs, ImageInput):
        return {"kind": "image", **asdict(inputs)}
    if isinstance(inputs, TableInput):
        return {"kind": "table", "columns": list(inputs.columns)}
    return {"kind": "tensor"}


def _replace(source: Path, target: Path) -> None:
    """Put `source` in the place of `target`. A folder cannot be replaced in one step."""
    if target.is_dir():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
        os.replace(source, target)
        shutil.rmtree(old)
    else:
        os.replace(source, target)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.is_file())
