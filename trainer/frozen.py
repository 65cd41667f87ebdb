"""The part of a model that is not trained: its outputs, computed once and kept with the job.

The workers share the work without talking: each computes chunks of examples and puts them into
the job's folder, its own share first, then whatever nobody has put there yet. So every chunk is
computed once, but for those that two begin at the same moment; a lost worker's share is done by the
others, and a restart goes on with what lies there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from trainer import data
from trainer.inputs import prepare
from trainer.task import ImageInput, TableInput, Task, TaskError

# Examples of a chunk: the unit of work, and what is lost with a worker.
CHUNK = 32


@dataclass(frozen=True)
class Front:
    """What stands before the trained part: the task's own inputs, then the frozen model.

    `sample` are some features as the task's examples have them.
    """

    inputs: ImageInput | TableInput | None
    model: Any
    sample: Any


@dataclass(frozen=True)
class Sharing:
    """This worker's part of the common work, and the folder where all put their results.

    `on_chunk` is told how many chunks of all have been passed, after each.
    """

    folder: Path
    position: int
    workers: int
    on_chunk: Callable[[int], None] = lambda done: None


def separate(task: Task, sharing: Sharing) -> tuple[Task, Front | None]:
    """Return the task of the trained part alone, over outputs of the frozen one, and that one.

    Returns (task, None) for a task without. Raises TaskError, or what the task raises.
    """
    if task.frozen is None:
        return task, None
    model = _built(task)
    sample = task.train.fetch(tf.range(min(8, task.train.size), dtype=tf.int64))[0]
    spec = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), sample)
    compute = tf.function(
        lambda features: model(prepare(task.inputs, features), training=False),
        input_signature=[spec],
        autograph=False,
    )
    done = 0
    parts: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        examples = getattr(task, name)
        if examples is not None:
            parts[name], done = _outputs(name, examples, compute, sharing, done)
    trained = dataclasses.replace(task, **parts, inputs=None, frozen=None)
    return trained, Front(task.inputs, model, sample)


def _built(task: Task) -> Any:
    assert task.frozen is not None
    model = task.frozen()
    if not hasattr(model, "trainable_variables"):
        raise TaskError(f"Task.frozen must return a Keras model, not {type(model).__name__}")
    model.trainable = False
    # In the export it stands beside the trained part, which may have the same name.
    model.name = f"frozen_{model.name}"
    return model


def _outputs(
    name: str, examples: Any, compute: Any, sharing: Sharing, done: int
) -> tuple[Any, int]:
    """Return the examples with outputs as features, and the number of chunks passed so far."""
    chunks = -(-examples.size // CHUNK)
    files = [sharing.folder / f"{_key(name, examples)}-{i:06d}.npz" for i in range(chunks)]
    sharing.folder.mkdir(parents=True, exist_ok=True)
    for i in _order(chunks, sharing.position, sharing.workers):
        if not files[i].exists():
            first = i * CHUNK
            indices = tf.range(first, min(first + CHUNK, examples.size), dtype=tf.int64)
            _put(files[i], *_computed(examples.fetch(indices), compute))
        done += 1
        sharing.on_chunk(done)
    loaded = [_get(file) for file in files]
    features = np.concatenate([features for features, _ in loaded])
    labels = np.concatenate([labels for _, labels in loaded])
    return data.arrays(features, labels, class_names=examples.class_names), done


def _order(chunks: int, position: int, workers: int) -> Iterator[int]:
    """Yield all chunks: the own share forwards, the rest backwards, towards whoever is at it."""
    first, last = chunks * position // workers, chunks * (position + 1) // workers
    yield from range(first, last)
    yield from (i for i in reversed(range(chunks)) if not first <= i < last)


def _key(name: str, examples: Any) -> str:
    """Return the name of the results of a data set; other examples get another."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(str(examples.size).encode())
    if examples.content is not None:
        digest.update(examples.content.tobytes())
    return f"{name}-{digest.hexdigest()}"


def _computed(fetched: tuple[Any, Any], compute: Any) -> tuple[Any, Any]:
    features, labels = fetched
    outputs = compute(features)
    if not (tf.is_tensor(outputs) and tf.is_tensor(labels)):
        raise TaskError(
            "Task.frozen needs a model with one output, and examples with one label each"
        )
    return outputs.numpy(), labels.numpy()


def _put(file: Path, features: Any, labels: Any) -> None:
    # Two workers may do this at once, with the same result; the last one stays.
    part = file.with_name(f".tmp-{os.getpid()}-{file.name}")
    with part.open("wb") as stream:
        np.savez(stream, features=features, labels=labels)
    part.replace(file)


def _get(file: Path) -> tuple[Any, Any]:
    with np.load(file, allow_pickle=False) as arrays:
        return arrays["features"], arrays["labels"]
