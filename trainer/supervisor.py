"""Runs the trainer of one generation: starts it, listens to it, stops it, says how it ended.

Knows nothing of the controller; what is learned goes out through the callbacks of Listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from protos.taas.v1 import history_pb2
from protos.taas.v1 import worker_service_pb2 as wire
from trainer import exits, preparation, requirements, sources, stopped
from trainer.address import Reservation
from trainer.children import Children, kill_group
from trainer.contract import Assignment, Stage
from trainer.kernel_counts import oom_kills, refused_processes
from trainer.launcher import Launched, Launcher, LaunchFailed, Pipes
from trainer.reports import (
    FailureReport,
    LeavingReport,
    Lines,
    RecordReport,
    SavingReport,
    StageReport,
    StepReport,
    encodable,
    parse_report,
)
from trainer.workerlog import WorkerLog

_log = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_MOST_LOG_LINE = 64 * 1024
_MOST_REPORT_LINE = 1024 * 1024
_STDERR_LINES = 50
_MOST_STDERR_LINE = 2000
# When all writers are gone their pipes end at once; a process stuck in the kernel may hold one.
_DRAIN_S = 2.0
_CROWDED_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what a trainer does. Called in the event loop; must not block."""

    changed: Callable[[], None]
    recorded: Callable[[history_pb2.Record], None]


class TrainerRun:
    """One generation's trainer on this worker. `execute` once; `stop` and `kill` at any time."""

    def __init__(
        self,
        assignment: Assignment,
        worker: int,
        *,
        reservation: Reservation,
        children: Children,
        launcher: Launcher,
        log: WorkerLog,
        listener: Listener,
    ) -> None:
        self.generation = assignment.generation
        self.stage = Stage.STARTING
        self.step = 0
        # The step at which it was after it had restored a checkpoint, if it did.
        self.base_step = 0
        # Why the newest checkpoint could not be saved, "" while saving works.
        self.saving_fails = ""
        self.ended = asyncio.Event()
        self._assignment = assignment
        self._worker = worker
        self._reservation = reservation
        self._children = children
        self._launcher = launcher
        self._log = log
        self._listener = listener
        self._pid: int | None = None
        self._stop_asked = asyncio.Event()
        # The same for the thread that makes things ready.
        self._cancelled = threading.Event()
        self._term_sent = False
        self._kill_timer: asyncio.TimerHandle | None = None
        self._frozen_since: datetime | None = None
        self._failure: FailureReport | None = None
        self._told_code: int | None = None
        self._stderr: deque[bytes] = deque(maxlen=_STDERR_LINES)
        self._junk_noted = False

    def stop(self, *, save: bool, grace_s: float) -> None:
        """End the trainer: let it save and kill it after the grace, or kill it at once."""
        self._stop_asked.set()
        self._cancelled.set()
        if not save:
            self.kill()
            return
        if self._pid is None:
            return
        if not self._term_sent:
            self._term_sent = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        due = loop.time() + grace_s
        if self._kill_timer is None or due < self._kill_timer.when():
            self._cancel_timer()
            self._kill_timer = loop.call_at(due, self.kill)

    def kill(self) -> None:
        """End the trainer and its process group at once."""
        self._stop_asked.set()
        self._cancelled.set()
        if self._pid is not None:
            kill_group(self._pid)

    async def execute(self) -> wire.Exited:
        """Run the trainer to its end and return how it ended. Whatever it started is gone then."""
        now = datetime.now(UTC)
        try:
            await self._log.begin(
                f"--- generation {self.generation}, worker {self._worker}, {now:%FT%TZ} ---"
            )
            refusal = await self._prepare()
            return refusal or await self._run()
        finally:
            self._cancel_timer()
            self._reservation.release()
            self.ended.set()

    async def _prepare(self) -> wire.Exited | None:
        """Make source and folders ready; return how the generation ends if that cannot be done."""
        try:
            self._assignment = await asyncio.to_thread(
                preparation.prepare, self._assignment, self._cancelled
            )
        except sources.InvalidSource as error:
            return await self._refuse(wire.OUTCOME_INVALID, str(error))
        except requirements.Unsatisfiable as error:
            await self._log.write([encodable(line).encode() for line in str(error).splitlines()])
            message = f"{requirements.FILE} cannot be installed: {str(error).splitlines()[-1]}"
            return await self._refuse(wire.OUTCOME_INVALID, message, details=str(error))
        except requirements.Cancelled:
            # pip is gone, and what it had started to build a package may not be.
            await self._children.end_descendants(self._kept)
            return await self._refuse(wire.OUTCOME_STOPPED, "stopped before the trainer began")
        except OSError as error:
            return await self._refuse(
                wire.OUTCOME_CRASHED, f"the source could not be unpacked: {error}"
            )
        return None

    async def _collect(self) -> None:
        """Bring what a script or command wrote beside itself to the job's output."""
        try:
            await asyncio.to_thread(preparation.conclude, self._assignment)
        except OSError as error:
            message = f"--- not all that was written reached the output folder: {error} ---"
            await self._log.write([encodable(message).encode()])

    async def _refuse(
        self, outcome: wire.Outcome, message: str, *, details: str = ""
    ) -> wire.Exited:
        await self._log.write([f"--- {encodable(message)} ---".encode()])
        return exits.never_ran(
            self.generation,
            self._worker,
            outcome,
            message=f"worker {self._worker}: {message}",
            time=datetime.now(UTC),
            details=details,
        )

    async def _run(self) -> wire.Exited:
        cold = await self._unless_stopped(self._launcher.ready(self._assignment))
        if cold is None:
            return await self._refuse(wire.OUTCOME_STOPPED, "stopped before the trainer began")
        if cold and not self._assignment.command:
            await self._log.write([f"--- starting cold: {cold} ---".encode()])
        kills, refused = oom_kills(), refused_processes()
        readers, writers = _pipes()
        try:
            launched = await self._launcher.launch(self._assignment, writers, cold=cold)
        except LaunchFailed as error:
            for reader in readers:
                os.close(reader)
            # It may have been forked all the same, too late to say so.
            await self._children.end_descendants(self._kept)
            return await self._refuse(wire.OUTCOME_CRASHED, str(error))
        finally:
            for writer in (writers.stdout, writers.stderr, writers.reports):
                os.close(writer)
        if launched.cold != cold:
            await self._log.write([f"--- started cold: {launched.cold} ---".encode()])
        if self._assignment.command:
            # Nobody reports for it.
            self.stage = Stage.TRAINING
            self._listener.changed()
        status, asked = await self._attend(launched, readers, refused)
        await self._collect()
        return exits.explain(
            exits.Ended(
                generation=self.generation,
                worker=self._worker,
                step=self.step,
                status=status,
                stopped=asked,
                frozen=self._frozen_since is not None,
                out_of_memory=kills is not None and (oom_kills() or 0) > kills,
                crowded=refused is not None and (refused_processes() or 0) > refused,
                report=self._failure,
                told_code=self._told_code,
                command=bool(self._assignment.command),
                members=len(self._assignment.cluster),
                stderr=[line.decode(errors="replace") for line in self._stderr],
                time=self._frozen_since or datetime.now(UTC),
            )
        )

    async def _unless_stopped(self, wanted: Awaitable[str]) -> str | None:
        """Await something, but no longer than until a stop is asked for; None then."""
        waiting = asyncio.ensure_future(wanted)
        stopping = asyncio.ensure_future(self._stop_asked.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._stop_asked.is_set() else await waiting
        finally:
            for task in (waiting, stopping):
                task.cancel()
            await asyncio.gather(waiting, stopping, return_exceptions=True)

    async def _attend(
        self, launched: Launched, readers: tuple[int, int, int], refused: int | None
    ) -> tuple[int, bool]:
        """Listen until the trainer and all it started are gone; return its wait status, and
        whether it was told to stop before it ended. `refused` is what refused_processes said
        before it began."""
        self._pid = launched.pid
        if self._stop_asked.is_set():
            self.kill()  # the order came while the process was being made
        out, err, reports = readers
        pumps = [
            asyncio.create_task(pump)
            for pump in (
                self._pump_output(out, None),
                self._pump_output(err, self._stderr),
                self._pump_reports(reports),
            )
        ]
        watching = [
            asyncio.create_task(self._end_if_frozen(launched.pid)),
            asyncio.create_task(self._say_when_crowded(refused)),
        ]
        try:
            status = await launched.ended
        finally:
            self._pid = None
            for watch in watching:
                watch.cancel()
        asked = self._stop_asked.is_set()
        kill_group(launched.pid)
        if not await self._children.end_descendants(self._kept):
            _log.warning("a process of generation %d cannot be ended", self.generation)
        _, unfinished = await asyncio.wait(pumps, timeout=_DRAIN_S)
        for pump in unfinished:
            pump.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        return status, asked

    async def _end_if_frozen(self, pid: int) -> None:
        """End a trainer that somebody has stopped: the whole group waits for it."""
        self._frozen_since = await stopped.until_stopped(pid)
        kill_group(pid)

    async def _say_when_crowded(self, before: int | None) -> None:
        """Say in the worker's log, once, that the kernel refuses it processes: a program that
        passes over that may go on for ever without getting anywhere."""
        if before is None:
            return
        while (refused_processes() or 0) <= before:  # noqa: ASYNC110 - the kernel sends no event
            await asyncio.sleep(_CROWDED_EVERY_S)
        await self._log.write([f"--- worker {self._worker}: {exits.CROWDED} ---".encode()])

    def _kept(self) -> list[int]:
        # Asked anew each time: a late report of the trainer's may start another zygote.
        zygote = self._launcher.zygote_pid
        return [zygote] if zygote else []

    async def _pump_output(self, descriptor: int, tail: deque[bytes] | None) -> None:
        lines = Lines(_MOST_LOG_LINE, cut=True)
        async with _Reading(descriptor) as reader:
            more = True
            while more:
                data = await reader.read(_CHUNK)
                more = bool(data)
                complete = lines.feed(data) if data else lines.rest()
                if tail is not None:
                    tail.extend(line[:_MOST_STDERR_LINE] for line in complete)
                if complete:
                    await self._log.write(complete)

    async def _pump_reports(self, descriptor: int) -> None:
        lines = Lines(_MOST_REPORT_LINE, cut=False)
        async with _Reading(descriptor) as reader:
            while data := await reader.read(_CHUNK):
                for line in lines.feed(data):
                    self._hear(line)
                if lines.dropped:
                    self._note_junk()
                # A trainer that floods the pipe must not keep the loop from anything else.
                await asyncio.sleep(0)

    def _hear(self, line: bytes) -> None:
        report = parse_report(line)
        if isinstance(report, StepReport):
            self.step = report.step
        elif isinstance(report, StageReport):
            if self.stage == Stage.RESTORING:
                self.base_step = report.step
            self.stage, self.step = report.stage, report.step
            if report.stage in (Stage.RECOMPUTING, Stage.TRAINING):
                # The start is over: now the imports of a new zygote are in nobody's way.
                self._launcher.warm_up()
            self._listener.changed()
        elif isinstance(report, RecordReport):
            self._listener.recorded(report.record)
        elif isinstance(report, SavingReport):
            self.saving_fails = report.failure
            self._listener.changed()
        elif isinstance(report, FailureReport):
            self._failure = report
        elif isinstance(report, LeavingReport):
            self._told_code = report.code
        else:
            self._note_junk()

    def _note_junk(self) -> None:
        if not self._junk_noted:
            self._junk_noted = True
            _log.warning(
                "generation %d wrote something to its report pipe that is no report; "
                "such lines are ignored",
                self.generation,
            )

    def _cancel_timer(self) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None


def _pipes() -> tuple[tuple[int, int, int], Pipes]:
    out, err, reports = os.pipe(), os.pipe(), os.pipe()
    return (out[0], err[0], reports[0]), Pipes(out[1], err[1], reports[1])


class _Reading:
    """Reads a pipe as a stream, which is not read faster than its reader takes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aenter__(self) -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_CHUNK)
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._descriptor, "rb", 0)
        )
        return reader

    async def __aexit__(self, *exception: object) -> None:
        self._transport.close()
