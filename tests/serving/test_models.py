"""Real SavedModels: loaded, warmed up, and asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from protos.taas.v1.prediction_pb2 import DataType
from serving import models
from serving.errors import Code, Refused
from trainer import exported
from trainer.exported import NotAModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says how bright pictures are, and another signature that adds."""
    folder = tmp_path_factory.mktemp("model")
    module = tf.Module()
    module.calls = tf.Variable(0)
    module.offset = tf.Variable([1.0, 2.0])

    def bright(images: tf.Tensor) -> dict[str, tf.Tensor]:
        module.calls.assign_add(1)

        def one(content: tf.Tensor) -> tf.Tensor:
            picture = tf.io.decode_image(content, channels=1, expand_animations=False)
            return tf.reduce_mean(tf.cast(picture, tf.float32))

        values = tf.map_fn(one, images, fn_output_signature=tf.float32)
        return {"bright": values, "calls": tf.repeat(module.calls, tf.shape(images)[0])}

    module.bright = tf.function(bright)
    module.add = tf.function(lambda rows: {"sum": rows + module.offset})
    signatures = {
        "serving_default": module.bright.get_concrete_function(
            tf.TensorSpec([None], tf.string, name="images")
        ),
        "add": module.add.get_concrete_function(tf.TensorSpec([None, 2], tf.float32, name="rows")),
    }
    tf.saved_model.save(module, str(folder / "model"), signatures=signatures)
    description = {"inputs": {"kind": "image"}, "classes": None}
    (folder / "model.json").write_text(json.dumps(description))
    return folder


def png(value: int) -> bytes:
    content: bytes = tf.io.encode_png(np.full((4, 4, 1), value, np.uint8)).numpy()
    return content


def test_it_is_asked_by_signature_and_was_warmed_up(folder: Path) -> None:
    model = models.load(folder)
    assert sorted(model.signatures) == sorted(model.definitions) == ["add", "serving_default"]
    said = model.signatures["serving_default"].call({"images": np.array([png(7), png(9)], object)})
    assert said["bright"].tolist() == [7, 9]
    # The first call was the warm-up's.
    assert said["calls"].tolist() == [2, 2]
    said = model.signatures["add"].call({"rows": np.array([[1, 1]], np.float32)})
    assert said["sum"].tolist() == [[2, 3]]


def test_what_it_takes_and_gives(folder: Path) -> None:
    signature = models.load(folder).signatures["serving_default"].signature
    assert [str(spec) for spec in signature.inputs] == ['"images": DT_STRING (?)']
    assert [spec.dtype for spec in signature.outputs] == [
        DataType.DATA_TYPE_FLOAT,
        DataType.DATA_TYPE_INT32,
    ]
    assert signature.batched


def test_what_it_cannot_answer_is_told_in_one_line(folder: Path) -> None:
    entry = models.load(folder).signatures["serving_default"]
    with pytest.raises(Refused) as refused:
        entry.call({"images": np.array([png(1), b"no picture"], object)})
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert "\n" not in str(refused.value)
    assert "Unknown image file format" in str(refused.value)


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotAModel, match="holds no model"):
        models.load(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(NotAModel, match="cannot be loaded"):
        models.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"inputs": {"kind": "rows"}, "classes": [], "step": 1e999}', id="endless"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param("[]", id="of another type"),
    ],
)
def test_a_description_that_means_harm_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(NotAModel, match=r"model\.json: cannot be used"):
        exported.description(tmp_path)


def test_types_are_those_of_tensorflow() -> None:
    for name, number in DataType.items():
        if number:
            assert tf.dtypes.as_dtype(number).as_datatype_enum == number
            assert tf.dtypes.as_dtype(number) == _dtype(name)


def _dtype(name: str) -> tf.DType:
    word = name.removeprefix("DATA_TYPE_").lower()
    return tf.dtypes.as_dtype({"float": "float32", "double": "float64"}.get(word, word))
