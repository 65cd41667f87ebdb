"""Models answer programs on the cluster, while they train and while their servers are replaced."""

from __future__ import annotations

import itertools
import json
import os
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from protos.taas.v1.job_pb2 import TrainingJobSpec
from tests.cluster.commands import wait_until
from tests.cluster.layout import PROJECT
from tests.cluster.team import BOUND_S, Team
from tests.service.asking import curl, question

IRIS = PROJECT / "examples" / "iris"
ENDLESS = "1000000000"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]


@pytest.fixture
def iris(team: Team) -> str:
    """A job that trains for ever and whose model gets a new version each second."""
    spec = TrainingJobSpec()
    spec.checkpoints.every_seconds = 1
    team.client.submit(IRIS, name="iris", workers=1, parameters={"steps": ENDLESS}, spec=spec)
    wait_until("a checkpoint", lambda: team.client.checkpoints("iris"), timeout_s=BOUND_S)
    return "iris"


@pytest.fixture
def address(team: Team, iris: str, tmp_path: Path) -> str:
    """Where the model is served, by what docs/serving.md has a user apply."""
    certificate = os.environ["TAAS_CA_FILE"]
    team.kubectl("create", "configmap", "taas-ca", f"--from-file=ca.crt={certificate}")
    place, _, tag = team.cluster.images.serving.rpartition(":")
    literals = {"name": "taas-serving", "behavior": "merge", "literals": [f"job={iris}"]}
    container = "/spec/template/spec/containers/0"
    often = {"op": "add", "path": f"{container}/args/-", "value": "--refresh-s=1"}
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(PROJECT / "deploy" / "serving", tmp_path.resolve())],
        "namespace": team.namespace,
        "configMapGenerator": [literals],
        "images": [{"name": "taas-serving", "newName": place, "newTag": tag}],
        "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps([often])}],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(document))
    team.kubectl("apply", "-k", str(tmp_path))
    rolled_out(team)
    service = team.cluster.get("service", "taas-serving", team.namespace)
    return str(service["spec"]["clusterIP"])


def rolled_out(team: Team) -> None:
    """Return when every replica is of the newest version and ready."""
    team.kubectl("rollout", "status", "deployment/taas-serving", f"--timeout={BOUND_S:.0f}s")


class Asking(threading.Thread):
    """Asks over HTTP, each time by a new connection, until its block ends or it gets no answer."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._ended = threading.Event()
        self._lost: BaseException | None = None
        self.answers = 0

    def run(self) -> None:
        while not self._ended.is_set():
            answer: Any = None
            try:
                answer = curl(f"{self._url}:predict", {"instances": ROWS})
                assert len(answer["predictions"]) == len(ROWS)
            except BaseException as error:
                self._lost = error
                error.add_note(f"it was answered {answer}, after {self.answers} good answers")
                return
            self.answers += 1

    def until_more(self) -> None:
        """Return after another answer. Raises what a question that got none has raised."""
        seen = self.answers
        wait_until("an answer", lambda: self.answers > seen or not self.is_alive())
        if self._lost is not None:
            raise self._lost

    def __enter__(self) -> Asking:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join(BOUND_S)


def test_a_model_is_asked_while_it_trains_and_while_its_servers_are_replaced(
    team: Team, iris: str, address: str
) -> None:
    if not team.cluster.ours:
        pytest.skip("asks the address of a Service, which leads nowhere outside of a cluster")
    url = f"http://{address}:8501/v1/models/{iris}"
    with grpc.insecure_channel(f"{address}:8500") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        asked = question(iris, rows=tf.constant(ROWS, tf.float32))
        versions: list[int] = []
        # Any answer that is an error ends this. One connection leads to one of the servers.
        while len(set(versions)) < 3:
            versions.append(stub.Predict(asked, timeout=BOUND_S).model_spec.version.value)
        assert all(earlier <= later for earlier, later in itertools.pairwise(versions))

    with Asking(url) as asking:
        asking.until_more()
        team.kubectl("rollout", "restart", "deployment/taas-serving")
        rolled_out(team)
        # One of those that came, or the old ones still.
        asking.until_more()
