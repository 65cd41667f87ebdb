"""How an agent runs generations: start, end of every kind, stop, release."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from agent_world import Controller, StartWorker, facts

from protos.taas.v1 import worker_service_pb2 as wire
from trainer import stopped
from trainer.contract import ENV_POD_UID, Reason

# With 0 the kubelet would call an evicted pod Succeeded and forget why it was evicted.
TOLD_TO_END = 128 + signal.SIGTERM


async def test_hello_says_who_and_where(controller: Controller, start_worker: StartWorker) -> None:
    await start_worker()
    hello = await controller.hello()
    assert (hello.namespace, hello.job, hello.job_uid, hello.index) == ("team", "job", "uid-1", 1)
    assert hello.pod_uid
    assert hello.address.startswith("127.0.0.1:")
    assert hello.running == 0
    assert not hello.HasField("exited")
    assert controller.heard[0].HasField("hello")
    await controller.beat(lambda beat: beat.generation == 0)


async def test_a_trainer_gets_what_it_is_promised(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    hello = await controller.hello()
    env = {"USER_SETTING": "1", "TAAS_JOB": "forged", "TF_CONFIG": "forged"}
    cluster = ("127.0.0.1:1", hello.address)
    controller.order(start=worker.start(1, "tell", env=env, cluster=cluster))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_DONE
    assert not exited.HasField("failure")
    assert exited.step == 7

    log = worker.log_file.read_text()
    assert log.startswith("--- generation 1, worker 1, 20")
    assert "to stderr" in log
    assert "cold" not in log
    told = facts(log)
    assert told["tf_config"] == {
        "cluster": {"worker": list(cluster)},
        "task": {"type": "worker", "index": 1},
    }
    env_told = told["env"]
    assert isinstance(env_told, dict)
    assert env_told["USER_SETTING"] == "1"
    assert env_told["TAAS_JOB"] == "job"
    assert env_told[ENV_POD_UID] == hello.pod_uid
    assert env_told["TF_CPP_MIN_LOG_LEVEL"] == "2"
    assert told["cwd"] == told["path"] == str(worker.scratch / "source")
    assert told["source"] == "# the program\n"
    assert told["stdin"] == "/dev/null"
    assert told["group"]
    assert told["parent"] == worker.process.pid
    assert not told["ignored"]
    # stdin, stdout, stderr, reports, lifeline, and the listing itself: nothing of the agent's.
    assert told["open"] == 6


async def test_records_progress_and_checkpoint_are_passed_on(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    controller.order(start=worker.start(1, "tell")) if await controller.hello() else None
    await controller.exited(1)
    kinds = [m.WhichOneof("kind") for m in controller.heard]
    records = [m.record for m in controller.heard if m.HasField("record")]
    assert [r.index for r in records] == [0, 1]
    assert records[0].progress.total_steps == 9
    assert records[1].checkpoint.id == "step-0000000007.g000001"
    # The end is told after the records, so that nothing comes after it.
    assert max(i for i, k in enumerate(kinds) if k == "record") < kinds.index("exited")
    beat = await controller.beat(lambda beat: beat.HasField("checkpoint"))
    assert beat.progress.step == beat.checkpoint.step == 7


async def test_each_generation_gets_a_new_port(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    first = (await controller.hello()).address
    controller.order(start=worker.start(1, "wait"))
    beat = await controller.beat(lambda beat: beat.generation == 1)
    assert beat.address != first
    assert beat.address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("do", "outcome", "reason", "code", "number", "message", "details"),
    [
        pytest.param(
            "crash",
            wire.OUTCOME_CRASHED,
            Reason.TRAINER_CRASHED,
            1,
            0,
            "the trainer of worker 1 ended with exit code 1",
            "ValueError: the loss is a fish",
            id="traceback-on-stderr",
        ),
        pytest.param(
            "crash_with_report",
            wire.OUTCOME_CRASHED,
            Reason.TRAINER_CRASHED,
            1,
            0,
            "ValueError in task.py",
            "Traceback: task.py, line 3",
            id="reported-crash",
        ),
        pytest.param(
            "invalid",
            wire.OUTCOME_INVALID,
            Reason.INVALID_PROGRAM,
            78,
            0,
            "task.py has no function task",
            "the traceback",
            id="invalid",
        ),
        pytest.param(
            "peer_lost",
            wire.OUTCOME_PEER_LOST,
            Reason.PEER_LOST,
            75,
            0,
            "worker 1 lost contact",
            "",
            id="peer-lost",
        ),
        pytest.param(
            "leave_by_sys_exit",
            wire.OUTCOME_CRASHED,
            Reason.TRAINER_CRASHED,
            1,
            0,
            "exit code 1",
            "cannot go on",
            id="sys-exit-with-text",
        ),
        pytest.param(
            "crash_over_a_file_name",
            wire.OUTCOME_CRASHED,
            Reason.TRAINER_CRASHED,
            1,
            0,
            "no such file: caf\\udce9",
            "no such file: caf\\udce9",
            id="name-in-no-encoding",
        ),
        pytest.param(
            "leave_by_sys_exit_0",
            wire.OUTCOME_CRASHED,
            Reason.TRAINER_CRASHED,
            0,
            0,
            "ended its process with exit code 0 before the training was complete",
            "",
            id="sys-exit-0",
        ),
        pytest.param(
            "segfault",
            wire.OUTCOME_CRASHED,
            Reason.TRAINER_CRASHED,
            0,
            signal.SIGSEGV,
            "SIGSEGV",
            "",
            id="segfault",
        ),
    ],
)
async def test_bad_ends_are_explained(
    controller: Controller,
    start_worker: StartWorker,
    do: str,
    outcome: wire.Outcome,
    reason: str,
    code: int,
    number: int,
    message: str,
    details: str,
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, do))
    exited = await controller.exited(1)
    failure = exited.failure
    assert exited.outcome == outcome
    assert failure.reason == reason
    assert (failure.exit_code, failure.signal) == (code, number)
    assert (failure.worker, failure.generation) == (1, 1)
    assert message in failure.message
    assert details in failure.details
    assert failure.time.seconds > 0


@pytest.mark.parametrize("code", [0, 42, 75, 78])
async def test_a_program_that_ends_its_process_has_crashed_whatever_the_code(
    controller: Controller, start_worker: StartWorker, code: int
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "end_process", code=str(code)))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_CRASHED
    assert exited.failure.reason == Reason.TRAINER_CRASHED
    assert f"exit code {code} before the training was complete" in exited.failure.message
    controller.order(start=worker.start(2, "tell"))
    assert (await controller.exited(2)).outcome == wire.OUTCOME_DONE


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_signal_from_outside_is_told_from_a_crash(
    controller: Controller, start_worker: StartWorker, number: signal.Signals
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "wait"))
    os.kill(await worker.number("pid"), number)
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_CRASHED
    assert exited.failure.reason == Reason.TRAINER_KILLED
    assert exited.failure.signal == number
    assert exited.step == 3


async def test_a_frozen_trainer_is_ended_and_the_time_is_when_it_froze(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "wait"))
    pid = await worker.number("pid")
    before = datetime.now(UTC)
    os.kill(pid, signal.SIGSTOP)
    exited = await controller.exited(1)
    assert exited.failure.reason == Reason.TRAINER_FROZEN
    frozen = exited.failure.time.ToDatetime(tzinfo=UTC)
    assert before <= frozen <= datetime.now(UTC) - timedelta(seconds=stopped.LIMIT_S)


async def test_stop_with_save_lets_the_trainer_save(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "save_on_term"))
    await worker.number("pid")
    for _ in range(2):
        controller.order(stop=wire.Stop(generation=1, save=True, grace_seconds=3600))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_SAVED
    assert exited.step == 11
    assert not exited.HasField("failure")


async def test_stop_with_save_kills_after_the_grace(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "ignore_term"))
    await worker.number("pid")
    controller.order(stop=wire.Stop(generation=1, save=True, grace_seconds=1))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_STOPPED
    assert exited.failure.reason == Reason.STOPPED


async def test_stop_without_save_kills_at_once_and_is_safe_to_repeat(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "ignore_term"))
    await worker.number("pid")
    stop = wire.Stop(generation=1, save=False)
    controller.order(stop=stop)
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_STOPPED
    assert exited.failure.signal == signal.SIGKILL
    # Whoever asks again is told again.
    controller.order(stop=stop)
    await controller.until(lambda heard: sum(m.HasField("exited") for m in heard) == 2 or None)


async def test_a_stop_that_comes_before_its_start_wins(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(stop=wire.Stop(generation=4, save=True, grace_seconds=9))
    assert (await controller.exited(4)).outcome == wire.OUTCOME_STOPPED
    controller.order(start=worker.start(4, "tell"))
    controller.order(start=worker.start(5, "tell"))
    assert (await controller.exited(5)).outcome == wire.OUTCOME_DONE
    assert "generation 4" not in worker.log_file.read_text()


async def test_a_start_is_done_once_and_ends_an_older_generation(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    for _ in range(3):
        controller.order(start=worker.start(2, "ignore_term"))
    await worker.number("pid")
    controller.order(start=worker.start(1, "tell"))  # older than the newest seen
    controller.order(start=worker.start(3, "tell"))
    assert (await controller.exited(3)).outcome == wire.OUTCOME_DONE
    assert (await controller.exited(2)).outcome == wire.OUTCOME_STOPPED
    controller.order(start=worker.start(3, "tell"))
    controller.order(start=worker.start(4, "tell"))
    await controller.exited(4)
    headers = [
        line for line in worker.log_file.read_text().splitlines() if line.startswith("--- gen")
    ]
    assert [h.split(",")[0] for h in headers] == [f"--- generation {g}" for g in (2, 3, 4)]


async def test_release_kills_the_trainer_and_ends_the_agent(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "ignore_term"))
    await worker.number("pid")
    controller.order(release=wire.Release())
    assert await worker.left() == 0
    assert (await controller.exited(1)).outcome == wire.OUTCOME_STOPPED


async def test_sigterm_of_the_agent_saves_reports_and_leaves(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "save_on_term"))
    await worker.number("pid")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.left() == TOLD_TO_END
    assert (await controller.exited(1)).outcome == wire.OUTCOME_SAVED


async def test_a_deaf_trainer_is_killed_within_the_pods_grace(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker(TAAS_GRACE_S="1")
    await controller.hello()
    controller.order(start=worker.start(1, "ignore_term"))
    await worker.number("pid")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.left() == TOLD_TO_END
    assert (await controller.exited(1)).outcome == wire.OUTCOME_STOPPED


async def test_a_second_sigterm_does_not_wait(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker(TAAS_GRACE_S="3600")
    await controller.hello()
    controller.order(start=worker.start(1, "report_term"))
    await worker.number("pid")
    worker.process.send_signal(signal.SIGTERM)
    # Signals that wait together are one, so the second is sent when the first has been heard.
    await controller.beat(lambda beat: beat.step == 4)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.left() == TOLD_TO_END
    assert (await controller.exited(1)).outcome == wire.OUTCOME_STOPPED


async def test_a_bad_assignment_is_refused_and_the_agent_stays(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=wire.Start(generation=1, assignment='{"checkpointing": 3}'))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_INVALID
    assert "assignment cannot be read" in exited.failure.message
    controller.order(start=worker.start(2, "tell"))
    assert (await controller.exited(2)).outcome == wire.OUTCOME_DONE


async def test_a_program_in_the_image_is_run_from_where_it_lies(
    controller: Controller, start_worker: StartWorker, tmp_path: Path
) -> None:
    worker = await start_worker()
    await controller.hello()
    program = tmp_path / "program" / "task.py"
    controller.order(start=worker.start(1, "tell", digest="", module=str(program)))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_INVALID
    assert f"there is no file {program} in the image" in exited.failure.message
    program.parent.mkdir()
    program.touch()
    controller.order(start=worker.start(2, "tell", digest="", module=str(program)))
    assert (await controller.exited(2)).outcome == wire.OUTCOME_DONE


async def test_a_bad_source_ends_the_generation_not_the_agent(
    controller: Controller, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    await controller.hello()
    controller.order(start=worker.start(1, "tell", digest="0" * 64))
    exited = await controller.exited(1)
    assert exited.outcome == wire.OUTCOME_INVALID
    assert exited.failure.reason == Reason.INVALID_PROGRAM
    assert "is missing" in exited.failure.message
    controller.order(start=worker.start(2, "tell"))
    assert (await controller.exited(2)).outcome == wire.OUTCOME_DONE


async def test_an_agent_without_its_environment_says_what_is_missing(
    controller: Controller, start_worker: StartWorker
) -> None:
    for env in ({"TAAS_JOB": ""}, {"TAAS_WORKER_INDEX": "one"}, {"TAAS_WORKER_INDEX": "-1"}):
        worker = await start_worker(**env)
        assert await worker.left() == 2
