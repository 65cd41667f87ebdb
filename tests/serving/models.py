"""Models that stand for SavedModels: a version's file says how they answer. No TensorFlow.

`multiply` has rows of two numbers, "rows", and gives each times its factor, "values". `measure`
has texts, and gives their lengths. `whole` has one vector, and gives its sum.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from protos.taas.v1.prediction_pb2 import DataType, SignatureDef, TensorInfo
from serving.errors import Code, Refused
from serving.models import Entry, Model
from serving.signatures import Arrays, Signature
from trainer.exported import SAVED_MODEL, NotAModel


def info(name: str, dtype: DataType, *sizes: int) -> TensorInfo:
    """Return what a tensor is like; -1 is any size."""
    found = TensorInfo(name=f"{name}:0", dtype=dtype)
    for size in sizes:
        found.tensor_shape.dim.add(size=size)
    return found


FLOAT, INT64 = DataType.DATA_TYPE_FLOAT, DataType.DATA_TYPE_INT64
# A value that brings out a defect.
DEFECT = -12345.0
METHOD = "tensorflow/serving/predict"
DEFINITIONS = {
    "serving_default": SignatureDef(
        inputs={"rows": info("rows", FLOAT, -1, 2)},
        outputs={"values": info("values", FLOAT, -1, 2)},
        method_name=METHOD,
    ),
    "measure": SignatureDef(
        inputs={"texts": info("texts", DataType.DATA_TYPE_STRING, -1)},
        outputs={
            "lengths": info("lengths", INT64, -1),
            "texts_bytes": info("texts_bytes", DataType.DATA_TYPE_STRING, -1),
        },
        method_name=METHOD,
    ),
    "whole": SignatureDef(
        inputs={"vector": info("vector", FLOAT, 3)},
        outputs={"sum": info("sum", FLOAT)},
        method_name=METHOD,
    ),
}


def put(base: Path, name: str, number: int, factor: str) -> Path:
    """Put a version into its place, in one moment. The factor "damaged" cannot be loaded."""
    folder = base / name
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{number}"
    part.mkdir()
    (part / SAVED_MODEL).write_text(factor)
    return part.rename(folder / str(number))


@dataclass
class Models:
    """Loads such models, and can hold up what they are asked."""

    # While it is not set, calls wait.
    go: threading.Event = field(default_factory=threading.Event)
    # How many examples each call of "serving_default" was about.
    asked: list[int] = field(default_factory=list)
    loads: list[Path] = field(default_factory=list)
    # Set while a call waits.
    waiting: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Hold up nothing at first."""
        self.go.set()

    def load(self, folder: Path) -> Model:
        """Load a version."""
        self.loads.append(folder)
        text = (folder / SAVED_MODEL).read_text()
        if text == "strange":
            raise KeyError("what nobody foresaw")
        if text == "damaged":
            raise NotAModel(f"{folder}: is damaged")
        calls = {
            "serving_default": lambda inputs: self._multiply(inputs, float(text)),
            "measure": _measure,
            "whole": lambda inputs: {"sum": inputs["vector"].sum()},
        }
        return Model(
            {name: Entry(Signature.of(name, DEFINITIONS[name]), calls[name]) for name in calls},
            DEFINITIONS,
        )

    def _multiply(self, inputs: Arrays, factor: float) -> Arrays:
        rows = inputs["rows"]
        self.asked.append(len(rows))
        self.waiting.set()
        self.go.wait()
        if (rows == DEFECT).any():
            raise ZeroDivisionError
        if np.isnan(rows).any():
            raise Refused(Code.INVALID_ARGUMENT, "a row is not a number")
        return {"values": rows * np.float32(factor)}


def _measure(inputs: Arrays) -> Arrays:
    texts = inputs["texts"]
    return {"lengths": np.array([len(t) for t in texts]), "texts_bytes": texts}
