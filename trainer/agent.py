"""Process 1 of a worker: takes the controller's orders and runs one trainer after another.

    python -m trainer.agent          everything it needs is in the environment; see contract.py

Imports no TensorFlow. Who does what: Link speaks with the controller, Launcher makes trainer
processes, TrainerRun looks after one of them, and Agent decides what an order means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from protos.taas.v1 import history_pb2
from protos.taas.v1 import worker_service_pb2 as wire
from trainer import contract, exits, lifeline
from trainer.address import Reservation
from trainer.children import Children
from trainer.launcher import ENTRY, PRELOAD, Launcher, Warm
from trainer.link import Controller, Link
from trainer.logfile import LogFile
from trainer.storage import JobPaths
from trainer.supervisor import Listener, TrainerRun
from trainer.workerlog import WorkerLog

_log = logging.getLogger(__name__)

_GRACE_S = 30.0
_STAGES = {
    contract.Stage.STARTING: wire.TRAINER_STAGE_STARTING,
    contract.Stage.RESTORING: wire.TRAINER_STAGE_RESTORING,
    contract.Stage.RECOMPUTING: wire.TRAINER_STAGE_RECOMPUTING,
    contract.Stage.TRAINING: wire.TRAINER_STAGE_TRAINING,
    contract.Stage.EVALUATING: wire.TRAINER_STAGE_EVALUATING,
    contract.Stage.FINISHING: wire.TRAINER_STAGE_FINISHING,
}
# Of the pod's grace, this share is kept for ending the trainer by force and saying so; at most
# _REPORT_MOST_S.
_REPORT_SHARE = 0.2
_REPORT_MOST_S = 2.0
# One writes the worker's log, one reads it, one makes things ready for a trainer.
_THREADS = 4

# Characters of the reason why saving fails.
_MOST_REASON = 1024


class BadEnvironment(Exception):
    """The environment does not describe a worker; the text names the variable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Who this worker is and where things are."""

    namespace: str
    job: str
    job_uid: str
    index: int
    pod_uid: str
    controller: Controller
    pod_ip: str
    storage: Path
    scratch: Path
    grace_s: float = _GRACE_S

    @staticmethod
    def from_env(env: Mapping[str, str]) -> Settings:
        """Read the environment of a worker pod. Raises BadEnvironment."""

        def needed(name: str) -> str:
            if not env.get(name):
                raise BadEnvironment(f"{name} is not set; agents are started by the controller")
            return env[name]

        return Settings(
            namespace=needed(contract.ENV_NAMESPACE),
            job=needed(contract.ENV_JOB),
            job_uid=needed(contract.ENV_JOB_UID),
            index=int(_number(contract.ENV_WORKER_INDEX, needed(contract.ENV_WORKER_INDEX))),
            pod_uid=needed(contract.ENV_POD_UID),
            controller=Controller(
                needed(contract.ENV_CONTROLLER),
                env.get(contract.ENV_CONTROLLER_CA, ""),
                Path(token_file) if (token_file := env.get(contract.ENV_TOKEN_FILE)) else None,
            ),
            pod_ip=env.get(contract.ENV_POD_IP, ""),
            storage=Path(needed(contract.ENV_STORAGE)).absolute(),
            scratch=Path(needed(contract.ENV_SCRATCH)).absolute(),
            grace_s=_number(contract.ENV_GRACE_S, env.get(contract.ENV_GRACE_S) or str(_GRACE_S)),
        )


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise BadEnvironment(f"{name} is {text!r}, not a number") from error
    if not 0 <= value < 2**31:
        raise BadEnvironment(f"{name} is {text!r}; it must not be negative or huge")
    return value


def with_temporary_folder(env: Mapping[str, str]) -> dict[str, str]:
    """Return a pod's environment with a folder for temporary files, which is made. A trainer ends
    without clean-up; what it leaves must go with the pod."""
    temporary = Path(env[contract.ENV_SCRATCH], "tmp").absolute()
    temporary.mkdir(parents=True, exist_ok=True)
    return {**env, "TMPDIR": str(temporary)}


class Agent:
    """What this worker is doing, and what an order changes about it.

    Orders are safe to repeat: a generation that was ever begun or stopped here is never begun
    again, and its end is told again to whoever asks to stop it.
    """

    def __init__(
        self,
        settings: Settings,
        env: Mapping[str, str],
        *,
        entry: str = ENTRY,
        preload: Sequence[str] = PRELOAD,
        warm: Warm | None = None,
    ) -> None:
        self._settings = settings
        self._warm = warm
        paths = JobPaths(settings.storage, settings.namespace, settings.job, settings.job_uid)
        self._link = Link(
            settings.controller,
            hello=self._hello,
            heartbeat=self._heartbeat,
            read_log=lambda offset, most: self._worker_log.read(offset, most),
            on_order=self._obey,
        )
        self._worker_log = WorkerLog(
            LogFile(paths.log_file(settings.index)), grew=self._link.log_grew
        )
        self._children = Children()
        env = with_temporary_folder(env)
        self._launcher = Launcher(self._children, env, entry=entry, preload=preload)
        # Where the next generation's trainer will listen.
        self._reservation = Reservation(settings.pod_ip)
        self._newest = 0
        self._run: TrainerRun | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self._exited: wire.Exited | None = None
        self._progress: history_pb2.Record | None = None
        self._checkpoint: history_pb2.Record | None = None
        self._step = 0
        self._leaving = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Work until released or told to end by a signal; no process is left then.

        Returns the exit code: 0 after a release; 128 and the signal's number after a signal,
        since the kubelet forgets why it evicted a pod (1.34) whose container ends with 0.
        """
        lifeline.adopt_orphans()
        self._children.watch()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(_started_threads())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        if self._warm:
            self._launcher.take(self._warm)
        self._launcher.warm_up()
        link = asyncio.create_task(self._link.run())
        try:
            await self._until_leaving(link)
            self._link.close()
            await asyncio.wait({link}, timeout=_REPORT_MOST_S)
        finally:
            link.cancel()
            await asyncio.gather(link, *self._runs, return_exceptions=True)
            self._launcher.close()
            await self._children.end_descendants()
            self._reservation.release()
            self._worker_log.close()
        return self._exit_code

    async def _until_leaving(self, link: asyncio.Task[None]) -> None:
        """Wait until it is time to leave and no trainer runs. A fault of the agent itself is
        raised: its end is noticed by the controller, a half-working agent would not be."""
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            while not (leaving.done() and not self._runs):
                waiting: set[asyncio.Task[None] | asyncio.Task[bool]] = {link, *self._runs}
                if not leaving.done():
                    waiting.add(leaving)
                    # A run may begin at any time, and its failure must be seen.
                done, _ = await asyncio.wait(
                    waiting, timeout=1.0, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done - {leaving}:
                    task.result()
                self._runs -= {t for t in self._runs if t.done()}
        finally:
            leaving.cancel()

    # What is said.

    def _hello(self) -> wire.Hello:
        settings = self._settings
        return wire.Hello(
            namespace=settings.namespace,
            job=settings.job,
            job_uid=settings.job_uid,
            index=settings.index,
            pod_uid=settings.pod_uid,
            address=self._reservation.address,
            running=self._run.generation if self._run else 0,
            exited=self._exited,
            heartbeat=self._heartbeat(),
        )

    def _heartbeat(self) -> wire.Heartbeat:
        beat = wire.Heartbeat(address=self._reservation.address, step=self._step)
        if self._run:
            beat.generation = self._run.generation
            beat.step = self._run.step
            beat.stage = _STAGES[self._run.stage]
            beat.base_step = self._run.base_step
            beat.saving_fails = self._run.saving_fails[:_MOST_REASON]
        if self._progress:
            beat.progress.CopyFrom(self._progress.progress)
        if self._checkpoint:
            beat.checkpoint.CopyFrom(self._checkpoint.checkpoint)
        return beat

    def _say_exited(self) -> None:
        if self._exited:
            self._link.send(wire.ConnectRequest(exited=self._exited))
        self._link.beat()

    def _on_record(self, record: history_pb2.Record) -> None:
        if record.HasField("progress"):
            self._progress = record
        elif record.HasField("checkpoint"):
            self._checkpoint = record
        self._link.send(wire.ConnectRequest(record=record))

    # What is heard.

    def _obey(self, order: wire.ConnectResponse) -> None:
        kind = order.WhichOneof("kind")
        if kind == "start":
            self._start(order.start)
        elif kind == "stop":
            self._stop(order.stop)
        elif kind == "release":
            _log.info("released by the controller")
            self._leave(lambda run: run.kill())

    def _start(self, order: wire.Start) -> None:
        if self._leaving.is_set() or order.generation <= self._newest:
            return
        self._newest = order.generation
        try:
            assignment = replace(
                contract.Assignment.from_json(order.assignment),
                generation=order.generation,
                cluster=tuple(order.cluster),
                position=order.position,
                storage_root=str(self._settings.storage),
                scratch_dir=str(self._settings.scratch),
            )
        except (ValueError, TypeError, KeyError) as error:
            self._refuse(
                wire.OUTCOME_INVALID,
                f"the assignment cannot be read ({error!r}); use one version of the service",
            )
            return
        if not assignment.is_evaluator and self._reservation.address != assignment.address:
            _log.warning(
                "generation %d expects this worker at an address it does not hold (%s)",
                order.generation,
                self._reservation.address,
            )
        previous, held = self._run, self._reservation
        self._reservation = Reservation(self._settings.pod_ip)
        self._progress = self._checkpoint = None
        self._step = 0
        self._run = TrainerRun(
            assignment,
            self._settings.index,
            reservation=held,
            children=self._children,
            launcher=self._launcher,
            log=self._worker_log,
            listener=Listener(changed=self._link.beat, recorded=self._on_record),
        )
        self._runs.add(asyncio.create_task(self._carry_out(self._run, after=previous)))
        self._link.beat()

    async def _carry_out(self, run: TrainerRun, *, after: TrainerRun | None) -> None:
        if after:
            after.kill()
            await after.ended.wait()
        exited = await run.execute()
        _log.info("generation %d ended: %s", run.generation, wire.Outcome.Name(exited.outcome))
        if self._run is run:
            self._run = None
            self._step = run.step
        if self._exited is None or self._exited.generation <= exited.generation:
            self._exited = exited
            self._say_exited()

    def _stop(self, order: wire.Stop) -> None:
        if self._run and self._run.generation == order.generation:
            self._run.stop(save=order.save, grace_s=order.grace_seconds)
        elif order.generation > self._newest:
            # Its start never came, and must do nothing if it comes late.
            self._newest = order.generation
            if self._run:
                self._run.kill()
            self._refuse(wire.OUTCOME_STOPPED, "stopped before it was started")
        elif self._exited and self._exited.generation == order.generation:
            self._say_exited()

    def _refuse(self, outcome: wire.Outcome, message: str) -> None:
        worker = self._settings.index
        self._exited = exits.never_ran(
            self._newest,
            worker,
            outcome,
            message=f"worker {worker}: {message}",
            time=datetime.now(UTC),
        )
        self._say_exited()

    # How it ends.

    def _on_signal(self, number: int) -> None:
        if self._leaving.is_set():
            _log.info("asked to end a second time; the trainer is killed")
            self._leave(lambda run: run.kill())
            return
        self._exit_code = 128 + number
        grace_s = self._settings.grace_s
        kept_s = min(grace_s * _REPORT_SHARE, _REPORT_MOST_S)
        _log.info("asked to end; the trainer has %.1f s to save", grace_s - kept_s)
        self._leave(lambda run: run.stop(save=True, grace_s=grace_s - kept_s))

    def _leave(self, end: Callable[[TrainerRun], None]) -> None:
        self._leaving.set()
        if self._run:
            end(self._run)


def _started_threads() -> ThreadPoolExecutor:
    """Return threads for what blocks, all of them started: a program that uses up the processes
    and threads of its pod takes none of these."""
    pool = ThreadPoolExecutor(_THREADS)
    all_there = threading.Barrier(_THREADS)
    for _ in range(_THREADS):
        pool.submit(all_there.wait)
    return pool


def main(
    env: Mapping[str, str],
    *,
    entry: str = ENTRY,
    preload: Sequence[str] = PRELOAD,
    warm: Warm | None = None,
) -> int:
    """Be an agent; return its exit code."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s agent %(levelname)s %(message)s",
        # Whatever has been imported in this process may have had ideas of its own.
        force=True,
    )
    with contextlib.suppress(OSError):
        lifeline.name_process("taas-agent")
    try:
        settings = Settings.from_env(env)
    except BadEnvironment as error:
        _log.error("%s", error)
        return 2

    async def work() -> int:
        # Made inside the loop that its parts belong to.
        return await Agent(settings, env, entry=entry, preload=preload, warm=warm).run()

    return asyncio.run(work())


if __name__ == "__main__":
    sys.exit(main(dict(os.environ)))
