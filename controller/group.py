"""What a job's status and its world together say about each of its workers. Pure.

A worker that was lost while it was a member stays LOST until its generation has ended, and its
`Worker.pod` names the pod that must be gone before the generation can have ended: "" once it is.
That mark is stored before a new pod is made, so that a former member is never mistaken for its
replacement, also not by a controller that has just started.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.model import (
    ExitedSeen,
    Failure,
    Job,
    MemberSeen,
    Outcome,
    PodPhase,
    PodSeen,
    Reason,
    Seen,
    Worker,
    WorkerState,
)

# Agents speak every second; six missed heartbeats are no hiccup of a busy machine.
HEARTBEAT_LIMIT = timedelta(seconds=6)
# Agents that lost their controller dial again every second, but after an absence of the API server
# the cluster itself may take a minute until the Service leads them to the new one. They train on
# meanwhile; those that died are known by their pods, and by the others of their group.
RECONNECT_LIMIT = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class Look:
    """One worker at one moment.

    worker: its entry in the status. agent: the agent of the very pod that is there now.
    exited: how it left the newest generation. usable: it could run a trainer now.
    ended: it cannot be running the newest generation any more. failure: what it did wrong.
    checks_at: when its silence becomes a loss. refused: why it cannot have a pod.
    """

    worker: Worker
    pod: PodSeen | None
    agent: MemberSeen | None
    exited: ExitedSeen | None = None
    usable: bool = False
    ended: bool = True
    failure: Failure | None = None
    checks_at: datetime | None = None
    refused: str = ""

    @property
    def index(self) -> int:
        """Worker index."""
        return self.worker.index

    @property
    def lost(self) -> bool:
        """True while the worker counts as lost."""
        return self.worker.state is WorkerState.LOST

    @property
    def done(self) -> bool:
        """True once its trainer completed the training in the newest generation."""
        return self.worker.state is WorkerState.DONE

    @property
    def leaving(self) -> bool:
        """True when its pod was asked to go by somebody else."""
        return self.pod is not None and self.pod.deleting and not self.lost

    @property
    def ended_badly(self) -> bool:
        """True when the others cannot go on without it."""
        if self.done:
            return False
        good = self.exited is None or self.exited.outcome is Outcome.SAVED
        return self.lost or not good


def look(job: Job, seen: Seen, now: datetime) -> dict[int, Look]:
    """Return a look at every wanted worker and every member of a generation that may run."""
    status = job.status
    members = frozenset(() if status.generation_ended else status.members)
    pods = {p.index: p for p in seen.pods}
    agents = {m.index: m for m in seen.members}
    before = {w.index: w for w in status.workers}
    refused = {r.index: r.why for r in seen.refused}
    looks = {}
    for index in sorted({*range(job.spec.workers), *members}):
        look_at = _at_member if index in members else _at_idle
        case = _Case(
            before=before.get(index, Worker(index)),
            pod=pods.get(index),
            last_agent=agents.get(index),
            refused=refused.get(index, ""),
            generation=status.generation,
            since=seen.since,
            now=now,
        )
        looks[index] = look_at(case)
    return looks


@dataclass(frozen=True, slots=True)
class _Case:
    """All that one look is made from. last_agent may be that of a former pod."""

    before: Worker
    pod: PodSeen | None
    last_agent: MemberSeen | None
    refused: str
    generation: int
    since: datetime
    now: datetime

    @property
    def index(self) -> int:
        return self.before.index

    @property
    def agent(self) -> MemberSeen | None:
        agent, pod = self.last_agent, self.pod
        return agent if agent and pod and agent.pod_uid == pod.uid else None

    @property
    def broken(self) -> bool:
        return self.pod is not None and self.pod.phase in (PodPhase.FAILED, PodPhase.SUCCEEDED)

    @property
    def silent_at(self) -> datetime | None:
        """When the agent's silence becomes a loss; None for a pod whose agent never called."""
        if self.agent is None:
            return None
        # Heard at a moment that is still to come: before the clock was set back.
        heard = self.agent.heard if self.agent.heard <= self.now else self.since
        return max(heard, self.since) + HEARTBEAT_LIMIT

    def entry(self, state: WorkerState, reason: str = "") -> Worker:
        return Worker(self.index, state, reason, self.pod.name if self.pod else "")


def _at_idle(case: _Case) -> Look:
    """Look at a worker that is no member of a generation that may run."""
    pod, agent, before = case.pod, case.agent, case.before
    if pod is None:
        reason = Reason.POD_REFUSED if case.refused else ""
        worker = case.entry(WorkerState.PENDING, reason)
        return Look(worker, None, None, refused=case.refused)
    if case.broken:
        return Look(case.entry(WorkerState.LOST, Reason.POD_LOST), pod, None)
    condemned = before.state is WorkerState.LOST and before.reason == Reason.WORKER_LOST
    silent = case.silent_at is not None and case.now >= case.silent_at
    if (condemned and before.pod) or silent:
        return Look(case.entry(WorkerState.LOST, Reason.WORKER_LOST), pod, agent)
    if agent is not None:
        usable = agent.connected and not pod.deleting
        return Look(
            case.entry(WorkerState.READY), pod, agent, usable=usable, checks_at=case.silent_at
        )
    reconnects_at = case.since + RECONNECT_LIMIT
    was_ready = before.state is WorkerState.READY and before.pod == pod.name
    if was_ready and case.now < reconnects_at:
        return Look(before, pod, None, checks_at=reconnects_at)
    return Look(case.entry(WorkerState.PENDING, pod.reason), pod, None)


def _at_member(case: _Case) -> Look:
    """Look at a member of the newest generation, which may be running."""
    pod, agent = case.pod, case.agent
    last_exit = case.last_agent.exited if case.last_agent else None
    exited = last_exit if last_exit and last_exit.generation == case.generation else None
    if case.before.state is WorkerState.DONE or (exited and exited.outcome is Outcome.DONE):
        return Look(case.entry(WorkerState.DONE), pod, agent, exited)
    if case.before.state is WorkerState.LOST:
        return _lost(case, exited, case.before.reason, case.now)
    if pod is None or case.broken:
        return _lost(case, exited, Reason.POD_LOST, case.now)
    silent_at = case.silent_at
    if agent is None:
        silent_at = max(case.since, pod.created) + RECONNECT_LIMIT
    if silent_at is not None and case.now >= silent_at:
        heard = agent.heard if agent else case.now
        return _lost(case, exited, Reason.WORKER_LOST, heard)
    usable = agent is not None and agent.connected and not pod.deleting
    if exited is not None:
        worker = case.entry(WorkerState.READY, _exit_reason(exited))
    elif agent is None:
        worker = case.before
    elif agent.running == case.generation:
        worker = case.entry(WorkerState.RUNNING)
    else:
        worker = case.entry(WorkerState.READY)
    return Look(
        worker,
        pod,
        agent,
        exited,
        usable=usable,
        ended=exited is not None,
        failure=_exit_failure(case, exited),
        checks_at=silent_at,
    )


def _lost(case: _Case, exited: ExitedSeen | None, reason: str, since: datetime) -> Look:
    """A lost member: what it may still run has ended once its pod is gone."""
    before = case.before
    pod_name = case.pod.name if case.pod else ""
    if before.state is WorkerState.LOST and not before.pod:
        pod_name = ""  # The pod that is there now is the replacement.
    beyond = case.broken and case.pod is not None and case.pod.reason == Reason.OUT_OF_DISK
    failure = _exit_failure(case, exited) or Failure(
        Reason.OUT_OF_DISK if beyond else reason,
        _loss_message(case, reason),
        worker=case.index,
        generation=case.generation,
        time=since,
    )
    worker = Worker(case.index, WorkerState.LOST, reason, pod_name)
    ended = exited is not None or not pod_name
    return Look(worker, case.pod, case.agent, exited, ended=ended, failure=failure)


def _loss_message(case: _Case, reason: str) -> str:
    if reason == Reason.WORKER_LOST:
        return f"worker {case.index} fell silent"
    if case.pod is None:
        return f"the pod of worker {case.index} is gone"
    why = ": ".join(part for part in (case.pod.reason, case.pod.message) if part)
    return f"the pod of worker {case.index} failed" + (f" ({why})" if why else "")


def _exit_reason(exited: ExitedSeen) -> str:
    if exited.failure is not None and exited.failure.reason:
        return exited.failure.reason
    return "" if exited.outcome is Outcome.SAVED else exited.outcome.name


def _exit_failure(case: _Case, exited: ExitedSeen | None) -> Failure | None:
    """Return what a member did wrong by itself; losing a peer or being stopped is no such thing."""
    if exited is None or exited.outcome not in (Outcome.CRASHED, Outcome.INVALID):
        return None
    told = exited.failure or Failure("", "")
    reason = told.reason or Reason.TRAINER_CRASHED
    if exited.outcome is Outcome.INVALID:
        # A program that has made steps did work; what stopped it may be gone next time.
        reason = Reason.TRAINER_CRASHED if exited.step > 0 else Reason.INVALID_PROGRAM
    return Failure(
        reason=reason,
        message=told.message or f"the trainer of worker {case.index} crashed",
        worker=case.index,
        exit_code=told.exit_code,
        signal=told.signal,
        details=told.details,
        generation=case.generation,
        time=told.time or case.now,
    )
