"""What an agent survives, and what survives an agent (nothing)."""

from __future__ import annotations

import asyncio
import os
import signal

from agent_world import Controller, StartWorker, all_gone, name_of, processes_of, zygote_of

from protos.taas.v1 import worker_service_pb2 as wire


async def test_training_goes_on_while_the_controller_is_away(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(3, "save_on_term"))
    trainer = await worker.number("pid")
    await controller.beat(lambda beat: beat.step == 3)
    await controller.stop()
    await controller.start()
    hello = await controller.hello(2)
    assert hello.running == 3
    assert hello.heartbeat.step == 3
    assert hello.heartbeat.stage == wire.TRAINER_STAGE_TRAINING
    assert not hello.HasField("exited")
    controller.order(start=worker.start(3, "crash"))  # orders are safe to repeat
    controller.order(stop=wire.Stop(generation=3, save=True, grace_seconds=3600))
    assert (await controller.exited(3)).outcome == wire.OUTCOME_SAVED
    assert not exists(trainer)


async def test_an_end_while_the_controller_is_away_is_told_in_hello(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "wait"))
    trainer = await worker.number("pid")
    await controller.stop()
    os.kill(trainer, signal.SIGKILL)
    # The agent reaps it when it has noticed.
    while exists(trainer):
        await worker.log_text("pid")
    await controller.start()
    await controller.until(
        lambda heard: (
            any(m.HasField("hello") and m.hello.HasField("exited") for m in heard)
            or any(m.HasField("exited") for m in heard)
            or None
        )
    )


async def test_an_agent_that_starts_before_the_controller_finds_it(
    controller: Controller, start_worker: StartWorker
) -> None:
    await controller.stop()
    await start_worker()
    await controller.start()
    await controller.hello()


async def test_nothing_outlives_a_killed_agent(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    pod_uid = (await controller.hello()).pod_uid
    controller.order(start=worker.start(1, "spawn"))
    child, trainer = await worker.number("child"), await worker.number("pid")
    alive = processes_of(pod_uid)
    assert {worker.process.pid, trainer, child} < set(alive)
    worker.process.kill()
    await worker.left()
    await all_gone(pod_uid)


async def test_the_kernel_ends_the_trainer_of_a_killed_agent_without_its_guard(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    pod_uid = (await controller.hello()).pod_uid
    controller.order(start=worker.start(1, "ignore_term"))
    trainer = await worker.number("pid")
    guards = [pid for pid in processes_of(pod_uid) if name_of(pid) == "taas-guard"]
    assert len(guards) == 1
    os.kill(guards[0], signal.SIGKILL)
    await gone(guards[0])
    assert exists(trainer)
    worker.process.kill()
    await worker.left()
    await all_gone(pod_uid)


async def test_nothing_outlives_an_agent_killed_during_a_cold_start(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    pod_uid = (await controller.hello()).pod_uid
    controller.order(start=worker.start(1, "spawn", env={"OMP_NUM_THREADS": "3"}))
    await worker.number("child")
    await worker.number("pid")
    worker.process.kill()
    await worker.left()
    await all_gone(pod_uid)


async def test_a_trainer_leaves_nothing_behind(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "spawn", daemon="yes", then="leave"))
    assert (await controller.exited(1)).outcome == wire.OUTCOME_DONE
    for label in ("child", "daemon"):
        pid = await worker.number(label)
        assert not exists(pid), label


async def test_a_dead_zygote_does_not_touch_its_trainer_and_the_next_start_is_cold(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "save_on_term"))
    trainer = await worker.number("pid")
    os.kill(await zygote_of(worker.process.pid), signal.SIGKILL)
    await controller.beat(lambda beat: beat.generation == 1 and beat.step == 3)
    assert exists(trainer)
    controller.order(stop=wire.Stop(generation=1, save=True, grace_seconds=3600))
    assert (await controller.exited(1)).outcome == wire.OUTCOME_SAVED
    controller.order(start=worker.start(2, "tell"))
    assert (await controller.exited(2)).outcome == wire.OUTCOME_DONE
    assert "starting cold: the warm process has died" in worker.log_file.read_text()
    # Meanwhile a new one was made.
    controller.order(start=worker.start(3, "tell"))
    assert (await controller.exited(3)).outcome == wire.OUTCOME_DONE
    assert "starting cold" not in worker.log_file.read_text().partition("generation 3")[2]


async def test_an_environment_that_matters_to_imports_is_in_force_when_they_happen(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    env = {"TF_NUM_INTRAOP_THREADS": "1"}
    for generation in (1, 2):
        controller.order(start=worker.start(generation, "tell", env=env))
        assert (await controller.exited(generation)).outcome == wire.OUTCOME_DONE
    log = worker.log_file.read_text()
    first, second = log.split("--- generation 2")
    assert "starting cold: TensorFlow has to be imported anew for TF_NUM_INTRAOP" in first
    assert "starting cold" not in second  # the new zygote has it
    assert log.count('"TF_NUM_INTRAOP_THREADS": "1"') == 2


async def test_an_entry_that_cannot_be_imported_is_invalid(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker(entry="no_such_module:main")
    await controller.hello()
    controller.order(start=worker.start(1, "tell"))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_INVALID
    assert "No module named 'no_such_module'" in exited.failure.message
    assert "starting cold: the warm process has died" in worker.log_file.read_text()


async def test_a_flood_neither_kills_nor_fills(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(follow_log=wire.FollowLog(follow=True))
    controller.order(start=worker.start(1, "flood"))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_DONE
    assert exited.step == 50_000
    log = worker.log_file.read_bytes()
    lines = log.split(b"\n")
    assert sum(line.startswith(b"line ") for line in lines) == 200_000
    assert any(line.endswith(b"y [line cut]") and len(line) < 66_000 for line in lines)
    assert lines[-2:] == [b"the end", b""]
    await controller.until(
        lambda heard: any(m.log.offset + len(m.log.data) == len(log) for m in heard) or None
    )
    assert controller.log() == log


async def test_a_log_is_followed_from_an_offset_and_live(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "tell"))
    await controller.exited(1)
    old = worker.log_file.read_bytes()
    controller.order(follow_log=wire.FollowLog(follow=True, offset=5))
    await controller.until(lambda heard: controller.log() == old[5:] or None)
    controller.order(start=worker.start(2, "tell"))
    await controller.exited(2)
    both = worker.log_file.read_bytes()
    assert len(both) > len(old)
    await controller.until(lambda heard: controller.log() == both[5:] or None)
    controller.order(follow_log=wire.FollowLog(follow=False))
    controller.order(start=worker.start(3, "tell"))
    await controller.exited(3)
    await controller.until(lambda heard: any(m.HasField("heartbeat") for m in heard[-3:]) or None)
    assert controller.log() == both[5:]


async def test_training_goes_on_when_the_log_cannot_be_written(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    worker.log_file.parent.parent.mkdir(parents=True)
    worker.log_file.parent.write_text("a file where the folder should be")
    controller.order(start=worker.start(1, "tell"))
    assert (await controller.exited(1)).outcome == wire.OUTCOME_DONE


def exists(pid: int) -> bool:
    """Say whether there is such a process, dead or alive."""
    return os.path.exists(f"/proc/{pid}")


async def gone(pid: int) -> None:
    """Wait until a process has been reaped."""
    while exists(pid):  # noqa: ASYNC110 - the kernel sends no event
        await asyncio.sleep(0.02)
