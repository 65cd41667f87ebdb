"""The exported model, with nothing but Keras and TensorFlow, and through trainer.predict."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training import programs
from tests.training.groups import Job
from trainer import exported, predict, storage
from trainer.contract import Checkpointing, ExitCode

pytestmark = pytest.mark.training

TABLE = """
import keras
import numpy as np
from trainer import data
from trainer.task import TableInput, Task

def task():
    x = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    return Task(
        model=lambda: keras.Sequential([keras.layers.Dense(1)]),
        loss=lambda labels, outputs: abs(labels - outputs),
        optimizer="adam", metrics=["mae"],
        train=data.arrays(x, x.sum(1, keepdims=True)), global_batch=20, steps=30,
        inputs=TableInput(["length", "weight"]),
    )
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return a job of two workers that has ended."""
    folder = tmp_path_factory.mktemp("pictures")
    job = Job(folder, programs.write(folder / "source", programs.GOOD))
    assert job.run(2) == [ExitCode.DONE, ExitCode.DONE]
    return job


def held_out() -> tuple[Any, Any]:
    """Return the pictures and labels of the program's test set."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 301)
    drawn = rng.integers(0, 128, (301, 6, 6, 1)) + 60 * labels.reshape(-1, 1, 1, 1)
    return drawn.clip(0, 255).astype("uint8")[198:], labels[198:]


def test_plain_keras_computes_the_recorded_evaluation(pictures: Job) -> None:
    file = pictures.paths.output / "model.keras"
    assert "trainer" not in zipfile.ZipFile(file).read("config.json").decode()
    model = keras.models.load_model(file)
    x, y = held_out()
    outputs = model.predict_on_batch(x.astype("float32") / 255)
    (record,) = [
        r["evaluation"]
        for r in pictures.records("evaluation")
        if r["evaluation"]["dataset"] == "test"
    ]
    assert int(record["examples"]) == len(x) == 103
    assert record["metrics"]["accuracy"] == pytest.approx(np.mean(outputs.argmax(-1) == y))
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, outputs)
    kernel = model.layers[2].kernel.numpy()
    expected = float(crossentropy) + 1e-3 * float((kernel**2).sum())
    assert record["metrics"]["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_saved_model_takes_pictures_and_tensors(pictures: Job) -> None:
    loaded = tf.saved_model.load(str(pictures.paths.output / "model"))
    x, _ = held_out()
    files = tf.constant([tf.io.encode_png(p).numpy() for p in x[:5]])
    by_file = loaded.signatures["serving_default"](images=files)
    by_tensor = loaded.signatures["tensor"](features=tf.constant(x[:5]))
    model = keras.models.load_model(pictures.paths.output / "model.keras")
    expected = tf.nn.softmax(model(x[:5].astype("float32") / 255))
    for said in (by_file, by_tensor):
        np.testing.assert_allclose(said["probabilities"], expected, atol=1e-5)
        assert said["classes"].numpy().tolist() == [[b"dark", b"grey", b"bright"]] * 5


def test_predict_answers_what_it_can(
    pictures: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, _ = held_out()
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(tf.io.encode_png(x[0]).numpy())
    bad.write_text("no picture")
    files = [str(tmp_path / "none.png"), str(bad), str(good)]
    output = str(pictures.paths.output)
    assert predict.main([output, *files, "--top", "2", "--output", "json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == files
    assert "No such file" in lines[0]["error"]
    assert "not a picture" in lines[1]["error"]
    first, second = lines[2]["predictions"]
    assert first["probability"] >= second["probability"]
    assert {first["class"], second["class"]} < {"dark", "grey", "bright"}

    assert predict.main([f"{output}/model", str(good)]) == 0
    assert capsys.readouterr().out.startswith(f"{good}: {first['class']} ")
    assert predict.main([str(tmp_path), str(good)]) == predict.EXIT_NO_MODEL
    assert "holds no model" in capsys.readouterr().err


def test_predict_takes_folders_of_more_than_a_batch(
    pictures: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, _ = held_out()
    for i, pixels in enumerate(x[:70]):
        file = tmp_path / "all" / f"deeper-{i % 2}" / f"{i:03d}.PNG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(tf.io.encode_png(pixels).numpy())
    (tmp_path / "all" / "notes.txt").write_text("no picture")
    (tmp_path / "all" / ".hidden.png").write_text("no picture")
    bad = tmp_path / "all" / "deeper-1" / "999.png"
    bad.write_text("no picture")
    (tmp_path / "none").mkdir()
    places = [str(tmp_path / "none"), str(tmp_path / "all")]
    assert predict.main([str(pictures.paths.output), *places, "--output", "lines"]) == 1
    first, none, *lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first == {"files": 72}
    assert none["error"].startswith("a folder without pictures")
    assert [line["file"] for line in lines if "error" in line] == [str(bad)]
    answers = [line for line in lines if "predictions" in line]
    assert all(line["text"].startswith(f"{line['file']}: ") for line in (none, *lines))
    assert [a["file"] for a in answers] == sorted(a["file"] for a in answers)
    model = keras.models.load_model(pictures.paths.output / "model.keras")
    expected = tf.nn.softmax(model(x[:70].astype("float32") / 255)).numpy()
    for answer in answers:
        said = {p["class"]: p["probability"] for p in answer["predictions"]}
        row = expected[int(Path(answer["file"]).stem)]
        assert [said[c] for c in ("dark", "grey", "bright")] == pytest.approx(row, abs=1e-5)


def test_a_checkpoint_can_be_asked_while_training_goes_on(
    pictures: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(tmp_path / "job", pictures.source, Checkpointing(every_steps=20, keep_last=9))
    job.parameters = {"steps": "1000000"}
    group = job.start(2)
    graph = job.paths.output / exported.GRAPH
    group.until(lambda _: graph.is_dir())
    group.terminate(1)
    assert group.wait() == [ExitCode.SAVED, ExitCode.SAVED], group.logs()
    assert not job.records("notice")
    manifest = storage.committed(job.paths)[0]

    png = tmp_path / "one.png"
    png.write_bytes(tf.io.encode_png(held_out()[0][0]).numpy())
    assert predict.main([str(graph), str(png)]) == predict.EXIT_NO_MODEL
    assert "a model without values" in capsys.readouterr().err
    folder = tmp_path / "version"
    shutil.copytree(graph, folder)
    shutil.copytree(job.paths.checkpoints / manifest.id, folder / exported.CHECKPOINT)
    assert predict.main([str(folder), str(png), "--output", "json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()

    # The same by hand: averages of the weights, as evaluation and export use them.
    reader = tf.train.load_checkpoint(str(job.paths.checkpoints / manifest.id / "variables"))
    averages = sorted(n for n in reader.get_variable_to_shape_map() if n.startswith("average/"))
    model = keras.models.load_model(pictures.paths.output / "model.keras")
    for variable, name in zip(model.trainable_variables, averages, strict=True):
        variable.assign(reader.get_tensor(name))
    expected = tf.nn.softmax(model(held_out()[0][:1].astype("float32") / 255)).numpy()[0]
    said = {p["class"]: p["probability"] for p in json.loads(line)["predictions"]}
    assert [said[c] for c in ("dark", "grey", "bright")] == pytest.approx(expected, abs=1e-5)


def test_a_model_of_tables_takes_csv_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(tmp_path, programs.write(tmp_path / "source", TABLE))
    group = job.start(1)
    assert group.wait() == [ExitCode.DONE], group.logs()
    rows = tmp_path / "rows.csv"
    rows.write_text("weight,other,length\n2,x,1\n4,y,3\n")
    torn = tmp_path / "torn.csv"
    torn.write_text("weight,length\n4,tall\n2,1\n")
    short = tmp_path / "short.csv"
    short.write_text("weight\n2\n")
    output = str(job.paths.output)
    assert predict.main([output, "--output", "json", *map(str, (rows, torn, short))]) == 1
    one, two, bad, good, missing = map(json.loads, capsys.readouterr().out.splitlines())
    model = keras.models.load_model(job.paths.output / "model.keras")
    expected = model.predict_on_batch(np.array([[1, 2], [3, 4]], "float32"))
    assert one["values"] == pytest.approx(expected[0].tolist(), rel=1e-4)
    assert two == {"file": str(rows), "row": 3, "values": two["values"]}
    assert (bad["file"], bad["row"]) == (str(torn), 2)
    assert bad["error"].startswith("column 'length': 'tall' is not a finite number")
    assert good == {"file": str(torn), "row": 3, "values": one["values"]}
    assert missing["error"].startswith("no column 'length'")

    assert predict.main([output, str(torn)]) == 1
    told = capsys.readouterr()
    assert told.out == f"{torn}:3: {one['values'][0]:.6g}\n"
    assert told.err.startswith(f"{torn}:2: column 'length': 'tall'")
