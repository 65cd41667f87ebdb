"""Warm and cold trainers with real TensorFlow, at the ports that their agents hold."""

from __future__ import annotations

import os
import signal

import pytest
from agent_world import Controller, StartWorker, zygote_of

from protos.taas.v1 import worker_service_pb2 as wire

pytestmark = pytest.mark.training

_ENTRY, _PRELOAD = "tests.agent.tf_trainer:main", "tensorflow,keras"


async def test_generations_are_forked_from_one_import_at_reserved_ports(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker(entry=_ENTRY, preload=_PRELOAD)
    address = (await controller.hello()).address
    for generation in (1, 2, 3):
        controller.order(start=worker.start(generation, "", cluster=(address,), position=0))
        beat = await controller.beat(lambda beat, now=generation: beat.generation == now)
        address = beat.address
        exited = await controller.exited(generation)
        assert exited.outcome == wire.OUTCOME_DONE, exited
    log = worker.log_file.read_text()
    assert log.count("sum 1\n") == 3
    assert "starting cold" not in log


async def test_a_killed_zygote_is_made_up_for_by_a_cold_start(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker(entry=_ENTRY, preload=_PRELOAD)
    address = (await controller.hello()).address
    os.kill(await zygote_of(worker.process.pid), signal.SIGKILL)
    controller.order(start=worker.start(1, "", cluster=(address,), position=0))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_DONE, exited
    log = worker.log_file.read_text()
    assert "starting cold: the warm process has died" in log
    assert "sum 1\n" in log


async def test_a_zygote_that_touched_a_device_is_not_forked(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker(entry=_ENTRY, preload="tests.agent.touches_a_device")
    address = (await controller.hello()).address
    controller.order(start=worker.start(1, "", cluster=(address,), position=0))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_DONE, exited
    assert "a fork is unsafe" in worker.log_file.read_text()


async def test_the_real_trainer_is_forked_warm_and_refuses_what_is_no_task(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker(entry="trainer.run:main", preload=_PRELOAD)
    address = (await controller.hello()).address
    controller.order(start=worker.start(1, "", cluster=(address,), position=0))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_INVALID, exited
    assert exited.failure.exit_code == 78
    assert "task.py" in exited.failure.message
    assert "starting cold" not in worker.log_file.read_text()
