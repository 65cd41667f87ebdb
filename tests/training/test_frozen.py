"""A part that is not trained: computed once by all workers, kept, and exported with the rest."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training import programs
from tests.training.groups import Job
from trainer import predict
from trainer.contract import Checkpointing, ExitCode

pytestmark = [
    pytest.mark.training,
    # Keras, when it saves weights.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
FLOWERS = Path(__file__).resolve().parents[2] / "examples" / "flowers"

PROGRAM = """
import keras
import numpy as np
from trainer import data
from trainer.task import ImageInput, Params, Task
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine(Params):
    steps: int = 40

def frozen():
    keras.utils.set_random_seed(7)
    layers = [keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3, activation="relu")]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()])

def task(params: Mine) -> Task:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 301)
    pictures = rng.integers(0, 128, (301, 6, 6, 1)) + 60 * (labels.reshape(-1, 1, 1, 1))
    examples = data.arrays(pictures.clip(0, 255).astype("uint8"), labels.astype("int64"))
    return Task(
        frozen=frozen,
        model=lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=lambda: keras.optimizers.SGD(0.5),
        metrics=["accuracy"], train=examples.take(200), validation=examples.skip(200),
        global_batch=25, steps=params.steps, evaluate_every=1000,
        inputs=ImageInput(6, 6, 1, scale=1 / 255), class_names=["dark", "grey", "bright"],
    )
"""


def written(job: Job) -> dict[str, int]:
    """Return when each result was written."""
    return {file.name: file.stat().st_mtime_ns for file in job.paths.frozen.iterdir()}


def test_outputs_are_computed_once_and_both_parts_are_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = programs.write(tmp_path / "source", PROGRAM)
    job = Job(tmp_path / "job", source, Checkpointing(every_steps=20))
    job.parameters = {"steps": "1000000"}
    group = job.start(2)
    group.until_step(20)
    group.terminate(0)
    assert group.wait() == [ExitCode.SAVED, ExitCode.SAVED], group.logs()
    before = written(job)
    # 200 and 101 examples, 32 a chunk.
    assert len(before) == 7 + 4
    assert not any(name.startswith(".tmp") for name in before)

    # The folder stays, so another generation with other workers takes what lies there.
    done = Job(job.folder, source, parameters={"steps": "10000"}, generation=1)
    assert done.run(1) == [ExitCode.DONE], job.folder
    assert written(done) == before
    (last,) = [
        r["evaluation"]["metrics"]
        for r in done.records("evaluation")
        if int(r["evaluation"]["step"]) == 10000
    ]
    assert last["accuracy"] > 0.9

    model = keras.models.load_model(done.paths.output / "model.keras")
    pixels = np.random.default_rng(1).integers(0, 255, (6, 6, 1)).astype("uint8")
    png = tmp_path / "one.png"
    png.write_bytes(tf.io.encode_png(pixels).numpy())
    expected = tf.nn.softmax(model(pixels[None].astype("float32") / 255)).numpy()[0]
    assert predict.main([str(done.paths.output), str(png), "--output", "json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = {p["class"]: p["probability"] for p in json.loads(line)["predictions"]}
    assert [said[c] for c in ("dark", "grey", "bright")] == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of weights of Inception-v3, of real shapes and no worth."""
    file = tmp_path_factory.mktemp("weights") / "inception.weights.h5"
    keras.applications.InceptionV3(
        weights=None, include_top=False, pooling="avg", input_shape=(75, 75, 3)
    ).save_weights(file)
    return file


@pytest.mark.parametrize("train", ["head", "all"])
def test_inception_is_trained_from_a_weights_file(
    weights: Path, train: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "photos"
    for folder in (FLOWERS / "photos").iterdir():
        for photo in sorted(folder.iterdir())[:8] if folder.is_dir() else ():
            (few / folder.name).mkdir(parents=True, exist_ok=True)
            (few / folder.name / photo.name).symlink_to(photo)
    settings = {"weights": str(weights), "photos": str(few), "train": train}
    job = Job(tmp_path / "job", FLOWERS, parameters={**settings, "size": "75", "steps": "2"})
    job.parameters["batch"] = "4"
    group = job.start(1)
    assert group.wait() == [ExitCode.DONE], group.logs()
    photo = next((few / "roses").iterdir())
    assert predict.main([str(job.paths.output), str(photo), "--output", "json", "--top", "9"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    probabilities = [p["probability"] for p in json.loads(line)["predictions"]]
    assert len(probabilities) == 5
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)


def test_a_weights_file_that_is_cut_off_ends_the_job_by_name(weights: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.weights.h5"
    cut.write_bytes(weights.read_bytes()[:1_000_000])
    job = Job(tmp_path / "job", FLOWERS, parameters={"weights": str(cut), "size": "75"})
    group = job.start(1)
    assert group.wait() == [ExitCode.INVALID]
    assert f"weights file {cut} cannot be used for inception_v3" in group.logs()
