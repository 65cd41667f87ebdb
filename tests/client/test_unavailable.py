"""A service that is there and cannot do what is asked is not said to be down."""

from __future__ import annotations

import os
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from grpc_status import rpc_status

from controller import wire_errors
from controller.errors import ClusterUnavailable
from protos.taas.v1 import training_service_pb2_grpc
from taas import cli
from taas.service import LocalService


class _FullDisk(training_service_pb2_grpc.TrainingServiceServicer):
    """A service that runs and cannot write."""

    def ListTrainingJobs(self, request: object, context: grpc.ServicerContext) -> None:  # type: ignore[override]
        error = ClusterUnavailable("state.db: database or disk is full; make room")
        context.abort_with_status(rpc_status.to_status(wire_errors.to_status(error)))


def test_a_service_that_answers_is_not_said_to_be_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chmod(tmp_path, 0o700)
    local = LocalService(tmp_path)
    local.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    training_service_pb2_grpc.add_TrainingServiceServicer_to_server(_FullDisk(), server)
    server.add_insecure_port(local.target)
    server.start()
    try:
        assert cli.main(["list"], service=local) == 3
    finally:
        server.stop(None).wait()
    told = capsys.readouterr().err
    assert "disk is full" in told
    assert "no service runs" not in told
