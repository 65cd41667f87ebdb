"""Arrays from the tensors of a message, and back. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from protos.taas.v1.prediction_pb2 import DataType, Tensor
from serving.errors import Code, Refused
from serving.signatures import DTYPES, dtype_name

# In which field the values of a type are listed. Bytes of an array can stand for all of them.
_LISTS = {
    DataType.DATA_TYPE_FLOAT: "float_val",
    DataType.DATA_TYPE_DOUBLE: "double_val",
    DataType.DATA_TYPE_HALF: "half_val",
    DataType.DATA_TYPE_INT8: "int_val",
    DataType.DATA_TYPE_INT16: "int_val",
    DataType.DATA_TYPE_INT32: "int_val",
    DataType.DATA_TYPE_INT64: "int64_val",
    DataType.DATA_TYPE_UINT8: "int_val",
    DataType.DATA_TYPE_UINT16: "int_val",
    DataType.DATA_TYPE_UINT32: "uint32_val",
    DataType.DATA_TYPE_UINT64: "uint64_val",
    DataType.DATA_TYPE_BOOL: "bool_val",
    DataType.DATA_TYPE_STRING: "string_val",
}
# A short list stands for the whole array, so a few bytes could ask for all memory.
MAX_REPEATED_BYTES = 64 << 20


def array_of(name: str, tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return the array that a message has for input `name`. Raises Refused."""
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None:
        raise _bad(name, f"{dtype_name(tensor.dtype)} cannot be sent")
    shape = tuple(d.size for d in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise _bad(name, "its shape must be known")
    count = math.prod(shape)
    if tensor.tensor_content:
        return _from_content(name, tensor, dtype, shape)
    listed = getattr(tensor, _LISTS[tensor.dtype])
    if len(listed) > count or (count and not listed):
        raise _bad(name, f"has {len(listed)} values, and its shape {shape} wants {count}")
    if len(listed) < count and count * dtype.itemsize > MAX_REPEATED_BYTES:
        raise _bad(name, f"repeats values for more than {MAX_REPEATED_BYTES} bytes; send them all")
    half = tensor.dtype == DataType.DATA_TYPE_HALF
    try:
        array = np.fromiter(listed, np.dtype(np.uint16) if half else dtype, len(listed)).view(dtype)
    except OverflowError as error:
        raise _bad(name, f"a value does not fit {dtype_name(tensor.dtype)}: {error}") from error
    if len(listed) < count:
        array = np.concatenate([array, np.repeat(array[-1:], count - len(listed))])
    return _shaped(name, array, shape)


def _shaped(name: str, array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return an array in a shape of as many values; it may still have too large or too many
    dimensions."""
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise _bad(name, f"its shape {shape} cannot be had: {error}") from error


def _from_content(
    name: str, tensor: Tensor, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    if tensor.dtype == DataType.DATA_TYPE_STRING:
        raise _bad(name, "text must be listed in string_val")
    content = tensor.tensor_content
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise _bad(name, f"tensor_content has {len(content)} bytes, not those of shape {shape}")
    array = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False)
    return _shaped(name, array, shape)


def tensor_of(array: np.ndarray[Any, Any], dtype: DataType) -> Tensor:
    """Return the message for an array of one of the types that can be sent.

    Numbers of one byte to eight are listed one by one, as TensorFlow Serving does: clients read
    float_val.
    """
    tensor = Tensor(dtype=dtype)
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    flat = array.reshape(-1)
    if dtype == DataType.DATA_TYPE_HALF:
        flat = flat.view(np.uint16)
    getattr(tensor, _LISTS[dtype]).extend(flat.tolist())
    return tensor


def _bad(name: str, why: str) -> Refused:
    return Refused(Code.INVALID_ARGUMENT, f'inputs "{name}": {why}')
