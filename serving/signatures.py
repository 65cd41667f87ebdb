"""What a model can be asked: signatures, and checks of arrays against them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protos.taas.v1.prediction_pb2 import DataType, SignatureDef, TensorInfo
from serving.errors import Code, Refused

SERVING_DEFAULT = "serving_default"

# Of the types that can be sent, with numpy's own; text is an array of bytes objects.
DTYPES: Mapping[DataType, np.dtype[Any]] = {
    DataType.DATA_TYPE_FLOAT: np.dtype(np.float32),
    DataType.DATA_TYPE_DOUBLE: np.dtype(np.float64),
    DataType.DATA_TYPE_HALF: np.dtype(np.float16),
    DataType.DATA_TYPE_INT8: np.dtype(np.int8),
    DataType.DATA_TYPE_INT16: np.dtype(np.int16),
    DataType.DATA_TYPE_INT32: np.dtype(np.int32),
    DataType.DATA_TYPE_INT64: np.dtype(np.int64),
    DataType.DATA_TYPE_UINT8: np.dtype(np.uint8),
    DataType.DATA_TYPE_UINT16: np.dtype(np.uint16),
    DataType.DATA_TYPE_UINT32: np.dtype(np.uint32),
    DataType.DATA_TYPE_UINT64: np.dtype(np.uint64),
    DataType.DATA_TYPE_BOOL: np.dtype(np.bool_),
    DataType.DATA_TYPE_STRING: np.dtype(object),
}

Arrays = dict[str, np.ndarray[Any, Any]]


def dtype_name(dtype: DataType) -> str:
    """Return a type's name as TensorFlow has it: DT_FLOAT."""
    known = dtype in DataType.values()
    return DataType.Name(dtype).replace("DATA_TYPE_", "DT_") if known else f"type {dtype}"


@dataclass(frozen=True, slots=True)
class Spec:
    """An input or output. shape: None if nothing is known of it; a None in it is any size."""

    name: str
    dtype: DataType
    shape: tuple[int | None, ...] | None

    @staticmethod
    def of(name: str, info: TensorInfo) -> Spec:
        """Return what a SavedModel says of a tensor."""
        if info.tensor_shape.unknown_rank:
            return Spec(name, info.dtype, None)
        sizes = tuple(None if d.size < 0 else d.size for d in info.tensor_shape.dim)
        return Spec(name, info.dtype, sizes)

    @property
    def batched(self) -> bool:
        """Tell whether its first dimension can be any number of examples."""
        return bool(self.shape) and self.shape[0] is None  # type: ignore[index]

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether an array of this shape can be it."""
        if self.shape is None:
            return True
        return len(self.shape) == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        """Return it for people: "rows": DT_FLOAT (?, 4)."""
        shape = "of any shape" if self.shape is None else shown(self.shape)
        return f'"{self.name}": {dtype_name(self.dtype)} {shape}'


@dataclass(frozen=True, slots=True)
class Signature:
    """One thing that a model can be asked. Inputs and outputs are sorted by name."""

    name: str
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]

    @staticmethod
    def of(name: str, definition: SignatureDef) -> Signature:
        """Return what a SavedModel says of a signature."""
        return Signature(
            name,
            tuple(Spec.of(n, info) for n, info in sorted(definition.inputs.items())),
            tuple(Spec.of(n, info) for n, info in sorted(definition.outputs.items())),
        )

    @property
    def batched(self) -> bool:
        """Tell whether questions can be put together along the first dimension."""
        return bool(self.inputs) and all(s.batched for s in (*self.inputs, *self.outputs))

    def check(self, inputs: Arrays) -> int | None:
        """Return how many examples the inputs are, None if that cannot be told.

        Raises Refused if they are not what the signature takes.
        """
        wanted = {spec.name: spec for spec in self.inputs}
        if inputs.keys() != wanted.keys():
            missing = sorted(wanted.keys() - inputs.keys())
            unknown = sorted(inputs.keys() - wanted.keys())
            raise Refused(
                Code.INVALID_ARGUMENT,
                f"inputs: missing {missing or 'none'}, unknown {unknown or 'none'}; signature "
                f'"{self.name}" takes {described(self.inputs)}',
            )
        for name, array in inputs.items():
            spec = wanted[name]
            if array.dtype != DTYPES.get(spec.dtype) or not spec.fits(array.shape):
                raise Refused(
                    Code.INVALID_ARGUMENT,
                    f'inputs "{name}": {array.dtype} {shown(array.shape)} does not fit {spec}',
                )
        if not self.batched:
            return None
        sizes = {array.shape[0] for array in inputs.values()}
        if len(sizes) > 1:
            raise Refused(
                Code.INVALID_ARGUMENT,
                f"inputs: have {', '.join(map(str, sorted(sizes)))} examples; give each input as "
                "many as the others",
            )
        return int(sizes.pop())

    def chosen(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the outputs of a filter, all if it is empty. Raises Refused."""
        known = [spec.name for spec in self.outputs]
        for name in names:
            if name not in known:
                raise Refused(
                    Code.INVALID_ARGUMENT,
                    f'output_filter: "{name}" is not an output of "{self.name}", which gives '
                    f"{described(self.outputs)}",
                )
        return tuple(names) or tuple(known)


def described(specs: Sequence[Spec]) -> str:
    """Return inputs or outputs in one line, for people."""
    return ", ".join(map(str, specs)) or "nothing"


def shown(shape: Sequence[int | None]) -> str:
    """Return a shape for people: (?, 4)."""
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
