"""Tensors of messages to arrays and back."""

from __future__ import annotations

import numpy as np
import pytest

from protos.taas.v1.prediction_pb2 import DataType, Tensor, TensorShape
from serving import tensors
from serving.errors import Refused
from serving.signatures import DTYPES


def shape(*sizes: int) -> TensorShape:
    return TensorShape(dim=[TensorShape.Dim(size=size) for size in sizes])


@pytest.mark.parametrize("dtype", DTYPES, ids=DataType.Name)
def test_there_and_back(dtype: DataType) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(DTYPES[dtype])
    if dtype == DataType.DATA_TYPE_STRING:
        array = np.array([[b"", b"\0\xff"]], object)
    found = tensors.array_of("x", tensors.tensor_of(array, dtype))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_bytes_of_an_array() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    message = Tensor(
        dtype=DataType.DATA_TYPE_FLOAT, tensor_shape=shape(2, 3), tensor_content=array.tobytes()
    )
    np.testing.assert_array_equal(tensors.array_of("x", message), array)


def test_the_last_value_is_repeated() -> None:
    message = Tensor(dtype=DataType.DATA_TYPE_FLOAT, tensor_shape=shape(2, 2), float_val=[1, 2])
    np.testing.assert_array_equal(tensors.array_of("x", message), [[1, 2], [2, 2]])


def test_a_scalar_and_an_empty_one() -> None:
    assert tensors.array_of("x", Tensor(dtype=DataType.DATA_TYPE_INT64, int64_val=[7])) == 7
    empty = Tensor(dtype=DataType.DATA_TYPE_FLOAT, tensor_shape=shape(0, 3))
    assert tensors.array_of("x", empty).shape == (0, 3)


FLOAT = DataType.DATA_TYPE_FLOAT


@pytest.mark.parametrize(
    ("message", "told"),
    [
        pytest.param(Tensor(), "DATA_TYPE_UNSPECIFIED|DT_UNSPECIFIED", id="no type"),
        pytest.param(Tensor(dtype=14), "type 14 cannot be sent", id="unknown type"),  # type: ignore[arg-type]
        pytest.param(Tensor(dtype=FLOAT, tensor_shape=shape(-1)), "must be known", id="any size"),
        pytest.param(
            Tensor(dtype=FLOAT, tensor_shape=TensorShape(unknown_rank=True)), "known", id="any rank"
        ),
        pytest.param(Tensor(dtype=FLOAT, tensor_shape=shape(2)), "has 0 values", id="no values"),
        pytest.param(
            Tensor(dtype=FLOAT, tensor_shape=shape(1 << 40, 0, 1 << 40)),
            "cannot be had",
            id="too large",
        ),
        pytest.param(
            Tensor(dtype=FLOAT, tensor_shape=shape(*[0] * 99)), "cannot be had", id="too many dims"
        ),
        pytest.param(Tensor(dtype=FLOAT, float_val=[1, 2]), "has 2 values", id="too many"),
        pytest.param(
            Tensor(dtype=FLOAT, tensor_shape=shape(2), tensor_content=b"123"), "has 3 bytes", id="b"
        ),
        pytest.param(
            Tensor(dtype=FLOAT, tensor_shape=shape(1 << 60), float_val=[1]), "repeats", id="bomb"
        ),
        pytest.param(
            Tensor(dtype=DataType.DATA_TYPE_INT8, int_val=[300]), "does not fit DT_INT8", id="300"
        ),
        pytest.param(
            Tensor(dtype=DataType.DATA_TYPE_HALF, half_val=[-1]), "does not fit DT_HALF", id="half"
        ),
        pytest.param(
            Tensor(dtype=DataType.DATA_TYPE_STRING, tensor_content=b"x"), "string_val", id="text"
        ),
    ],
)
def test_refused(message: Tensor, told: str) -> None:
    with pytest.raises(Refused, match=told):
        tensors.array_of("x", message)
