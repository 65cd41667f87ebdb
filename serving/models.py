"""Loads a SavedModel and calls it. The only file of the service that knows TensorFlow."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protos.taas.v1.prediction_pb2 import DataType, SignatureDef
from serving.errors import Code, Refused
from serving.signatures import DTYPES, SERVING_DEFAULT, Arrays, Signature
from trainer import exported
from trainer.exported import NotAModel

# SavedModels keep what their variables begin with as a signature that nobody calls.
_HIDDEN = "__saved_model_init_op"
# A picture of one black point, PNG: what a model of pictures is warmed up with.
_PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A signature that can be called, from any thread."""

    signature: Signature
    call: Callable[[Arrays], Arrays]


@dataclass(frozen=True, slots=True)
class Model:
    """A model in memory. definitions: its signatures as the SavedModel has them."""

    signatures: Mapping[str, Entry]
    definitions: Mapping[str, SignatureDef]


def load(folder: Path) -> Model:
    """Load a version and warm it up: what takes time at the first call is then done.

    Raises NotAModel.
    """
    loaded = exported.load(folder)
    definitions = _definitions(folder)
    signatures = {
        # Holds on to `loaded`, and so to the variables, as long as it is there.
        name: Entry(Signature.of(name, definition), functools.partial(_call, loaded, name))
        for name, definition in definitions.items()
        if name in loaded.signatures
    }
    model = Model(signatures, definitions)
    pictures = loaded.description is not None and loaded.description.kind == "image"
    warm_up(model, _PICTURE if pictures else b"")
    return model


def _definitions(folder: Path) -> dict[str, SignatureDef]:
    """Return the signatures as they are in the file: loaded functions do not know the names of
    their tensors."""
    from tensorflow.core.protobuf import saved_model_pb2

    place = exported.saved_model(folder)
    assert place is not None
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((place / exported.SAVED_MODEL).read_bytes())
    except OSError as error:
        raise NotAModel(f"{place}: cannot be read: {error}") from error
    return {
        name: SignatureDef.FromString(definition.SerializeToString())
        for graph in saved.meta_graphs
        for name, definition in graph.signature_def.items()
        if name != _HIDDEN
    }


def _call(loaded: exported.Exported, name: str, inputs: Arrays) -> Arrays:
    """Return what a signature says. Raises Refused."""
    import tensorflow as tf

    try:
        given = {key: tf.constant(array) for key, array in inputs.items()}
        said = loaded.signatures[name](**given)
        return {key: np.asarray(tensor) for key, tensor in said.items()}
    except tf.errors.OpError as error:
        raise _refused(error.error_code, str(error.message)) from error


def _refused(code: int, message: str) -> Refused:
    """Return the error of a call: TensorFlow's codes are the canonical ones."""
    known = Code(code) if code in set(Code) else Code.INTERNAL
    # Before it and after it is told where in the graph it happened: of no use to a caller.
    told = message.partition("\n\t [[")[0].strip()
    return Refused(known, told.rpartition("\n")[2] or known.name)


def warm_up(model: Model, text: bytes) -> None:
    """Ask the default signature about one example of zeros, or of `text`.

    That the model refuses it says nothing about the model.
    """
    found = model.signatures.get(SERVING_DEFAULT)
    if found is None:
        return
    inputs: Arrays = {}
    for spec in found.signature.inputs:
        if spec.shape is None or spec.dtype not in DTYPES:
            return
        shape = [1 if size is None else size for size in spec.shape]
        is_text = spec.dtype == DataType.DATA_TYPE_STRING
        inputs[spec.name] = np.full(shape, text if is_text else 0, DTYPES[spec.dtype])
    try:
        found.call(inputs)
    except Refused:
        return
