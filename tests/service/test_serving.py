"""Models that the service trained, asked by programs: a stock client of TensorFlow Serving, curl,
and `taas predict` are told the same. And TensorBoard, opened on them."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

import taas
from protos.taas.v1.job_pb2 import TrainingJobSpec
from tests.service.asking import available, curl, question
from tests.service.test_examples import EXAMPLES, PICTURES
from tests.service.world import BOUND_S, Service, until

FILES = [str(PICTURES / name) for name in ("two.png", "seven.png")]


def command(service: Service, *words: str) -> tuple[list[str], dict[str, str]]:
    """Return a `taas` command for a service and its environment."""
    environment = {**os.environ, "TAAS_TARGET": service.target, "TAAS_HOME": str(service.home)}
    return [sys.executable, "-m", "taas", *words], environment


@contextmanager
def served(service: Service, *words: str) -> Iterator[dict[str, str]]:
    """Run `taas serve`; give its addresses. It must end in order when it is told to."""
    ports = ("--port", "0", "--grpc-port", "0", "--refresh-s", "0.1", "--output", "json")
    line, environment = command(service, "serve", *words, *ports)
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
            process.terminate()
            assert process.wait(BOUND_S) == 128 + signal.SIGTERM
        finally:
            process.kill()


def predicted(service: Service, model: str) -> list[dict[str, float]]:
    """Return what `taas predict` says to the pictures: probabilities by class."""
    words = ("predict", model, *FILES, "--top", "10", "--output", "json")
    line, environment = command(service, *words)
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    answers = [json.loads(answer)["predictions"] for answer in done.stdout.splitlines()]
    return [{p["class"]: p["probability"] for p in answer} for answer in answers]


def test_all_doors_say_what_predict_says(service: Service) -> None:
    client = service.client()
    parameters = {"epochs": "0.1", "batch": "100"}
    client.submit(EXAMPLES / "mnist_lenet5", name="digits", workers=1, parameters=parameters)
    assert client.wait("digits", BOUND_S).status.phase == taas.Phase.Value("PHASE_SUCCEEDED")
    expected = predicted(service, "digits")
    contents = [Path(file).read_bytes() for file in FILES]
    with served(service, "digits") as addresses:
        url = f"http://{addresses['http']}/v1/models/digits"
        until(lambda: available(url), "the model")
        body = {"instances": [{"b64": base64.b64encode(content).decode()} for content in contents]}
        rows = curl(f"{url}:predict", body)["predictions"]
        for row, wanted in zip(rows, expected, strict=True):
            said = dict(zip(row["classes"], row["probabilities"], strict=True))
            assert said == pytest.approx(wanted, abs=1e-6)

        with grpc.insecure_channel(addresses["grpc"]) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            answer = stub.Predict(question("digits", images=contents), timeout=BOUND_S)
            found = {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}
            for classes, probabilities, wanted in zip(
                found["classes"], found["probabilities"], expected, strict=True
            ):
                names = [name.decode() for name in classes]
                said = dict(zip(names, probabilities.tolist(), strict=True))
                assert said == pytest.approx(wanted, abs=1e-6)
            _describes(channel, answer.model_spec.version.value)


def _describes(channel: grpc.Channel, version: int) -> None:
    """Assert that a stock client understands metadata and status."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "digits"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert stub.GetModelMetadata(asked).metadata["signature_def"].Unpack(signatures)
    taken = signatures.signature_def["serving_default"].inputs["images"]
    assert (taken.dtype, taken.name) == (tf.string.as_datatype_enum, "serving_default_images:0")
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "digits"
    answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status)
    (found,) = answer.model_version_status
    assert (found.version, found.state) == (
        version,
        get_model_status_pb2.ModelVersionStatus.AVAILABLE,
    )


def test_new_checkpoints_are_rolled_out_without_a_lost_question(service: Service) -> None:
    client = service.client()
    spec = TrainingJobSpec()
    spec.checkpoints.every_seconds = 1
    client.submit(
        EXAMPLES / "iris", name="iris", workers=1, parameters={"steps": "1000000"}, spec=spec
    )
    until(lambda: client.checkpoints("iris"), "a checkpoint")
    rows = [[5.1, 3.5, 1.4, 0.2]]
    with served(service, "iris") as addresses, grpc.insecure_channel(addresses["grpc"]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        url = f"http://{addresses['http']}/v1/models/iris"
        until(lambda: available(url), "the first model")
        versions: list[int] = []
        # Any answer that is an error ends this.
        while len(set(versions)) < 3:
            answer = stub.Predict(question("iris", rows=tf.constant(rows, tf.float32)))
            versions.append(answer.model_spec.version.value)
        assert all(earlier <= later for earlier, later in itertools.pairwise(versions))
    client.cancel("iris")


def test_curves_are_shown(service: Service) -> None:
    """TensorBoard itself lists what the chief wrote, fetched through the service."""
    client = service.client()
    client.submit(EXAMPLES / "iris", name="curves", workers=1, parameters={"steps": "200"})
    client.wait("curves", BOUND_S)
    line, environment = command(service, "tensorboard", "curves", "--output", "json")
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            runs = f"{json.loads(process.stdout.readline())['url']}data/runs"
            wanted = {"curves/train", "curves/test", "curves/model"}
            until(lambda: wanted <= set(curl(runs)), "the runs")
            process.terminate()
            assert process.wait(BOUND_S) == 128 + signal.SIGTERM
        finally:
            process.kill()
