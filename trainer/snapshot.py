"""The values of a training's variables at one step: taken, written, verified, read back.

On disk they are TensorFlow's own checkpoint format under the prefix "variables", so that
`tf.train.load_checkpoint(folder / "variables")` reads them without this project.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer.storage import FileEntry, Manifest

PREFIX = "variables"
_CHUNK = 1 << 20
# How many names an error lists before it says how many more there are.
_LISTED = 5


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, found or used; says which, where and why."""


class StorageError(CheckpointError):
    """The job's storage takes no more writes. Not the program's fault."""

    def __init__(self, path: Path, why: BaseException | str) -> None:
        """Say where, and why."""
        text = why if isinstance(why, str) else f"{path}: {describe(why)}"
        super().__init__(f"{text}; training needs storage that it can write to")


def take(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the present values by name, in main memory; later updates do not change them.

    On the CPU nothing is copied here: a value read shares its buffer with the variable, and
    the next update of the variable leaves the shared buffer alone and makes its own. Under a
    distribution strategy the first local replica's component is read, without a collective.
    """
    with tf.device("CPU:0"):
        return {
            name: tf.identity(components(variable)[0].read_value())
            for name, variable in variables.items()
        }


def write(values: Mapping[str, Any], folder: Path) -> tuple[FileEntry, ...]:
    """Write values into a folder, flushed to the disk. Raises OSError or tf.errors.OpError."""
    if not values:
        raise CheckpointError("no variable to save; give at least one")
    with tf.device("CPU:0"):
        tf.raw_ops.SaveV2(
            prefix=str(folder / PREFIX),
            tensor_names=list(values),
            shape_and_slices=[""] * len(values),
            tensors=list(values.values()),
        )
    entries = []
    for path in sorted(folder.iterdir()):
        flush(path)
        entries.append(FileEntry(path.name, path.stat().st_size, _sha256(path)))
    return tuple(entries)


def damage(folder: Path, manifest: Manifest) -> str | None:
    """Return what is wrong with the files of a committed checkpoint, or None if all is well."""
    if f"{PREFIX}.index" not in {entry.path for entry in manifest.files}:
        return f"its manifest lists no {PREFIX}.index"
    for entry in manifest.files:
        path = folder / entry.path
        try:
            size = path.stat().st_size
            if size != entry.size:
                return f"{entry.path} has {size} bytes instead of {entry.size}"
            if _sha256(path) != entry.sha256:
                return f"the checksum of {entry.path} does not match its content"
        except FileNotFoundError:
            return f"{entry.path} is missing"
        except OSError as error:
            return f"{entry.path} cannot be read: {error.strerror or error}"
    return None


class Text:
    """A text among the variables of a checkpoint."""

    shape = tf.TensorShape([])
    dtype = tf.string

    def __init__(self, value: str = "") -> None:
        """Hold this value."""
        self.value = value

    def read_value(self) -> Any:
        """Return it as a tensor."""
        return tf.constant(self.value)

    def assign(self, value: bytes) -> None:
        """Take what a checkpoint holds."""
        self.value = value.decode()


def restore(folder: Path, variables: Mapping[str, Any], *, whole: bool = True) -> None:
    """Assign the values in a folder to variables of the same names, shapes and types.

    Unless the variables are the `whole` of it, what else the folder holds is passed over. Raises
    CheckpointError, naming what does not fit, before anything is assigned.
    """
    try:
        reader = tf.train.load_checkpoint(str(folder / PREFIX))
        _compare(folder, reader, variables, whole=whole)
        for name, variable in variables.items():
            value = reader.get_tensor(name)
            for component in components(variable):
                component.assign(value)
    except (tf.errors.OpError, OSError, IndexError, ValueError) as error:
        raise CheckpointError(f"{folder}: cannot be read: {describe(error)}") from error


def flush(path: Path) -> None:
    """Return when the content of a file, or the entries of a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def describe(error: BaseException) -> str:
    """Return one line on an error of the file system or of TensorFlow."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    if isinstance(error, tf.errors.OpError):
        # The rest names the op of TensorFlow that failed.
        return str(error.message).split(" [Op:")[0].rpartition("}} ")[2].strip()
    return str(error)


def components(variable: Any) -> tuple[Any, ...]:
    """Return the variables of this process that one, perhaps distributed, variable consists of."""
    strategy = getattr(variable, "distribute_strategy", None)
    return (variable,) if strategy is None else strategy.experimental_local_results(variable)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _compare(folder: Path, reader: Any, variables: Mapping[str, Any], *, whole: bool) -> None:
    shapes = reader.get_variable_to_shape_map()
    dtypes = reader.get_variable_to_dtype_map()
    faults = [
        *_listed("it lacks", shapes.keys() ^ (shapes.keys() | variables.keys())),
        *_listed("the program has no", shapes.keys() - variables.keys() if whole else set()),
    ]
    faults += _differing("shape", variables, shapes, lambda variable: variable.shape.as_list())
    faults += _differing("type", variables, dtypes, lambda variable: variable.dtype.base_dtype)
    if faults:
        raise CheckpointError(
            f"{folder}: does not fit the program: {'; '.join(faults)}. The model or the optimizer "
            "has changed since it was saved: change it back, or start a new job"
        )


def _listed(what: str, names: set[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return [f"{what} {', '.join(sorted(names)[:_LISTED])}{more}"]


def _differing(
    what: str, variables: Mapping[str, Any], saved: Mapping[str, Any], of: Callable[[Any], Any]
) -> list[str]:
    both = [name for name in variables if name in saved]
    odd = [name for name in both if of(variables[name]) != saved[name]]
    return [f"{n} has {what} {saved[n]} in it, {of(variables[n])} now" for n in odd[:_LISTED]]
