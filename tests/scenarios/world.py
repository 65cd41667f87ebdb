"""A small world around the planning core: pods, agents and trainers as values that obey orders.

Every function takes a world and returns another. The world is true to what reality allows: an
agent that is out of reach gets no orders but its trainer runs on, a pod that is gone runs
nothing, and no trainer may start while one of another generation runs anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from controller import events
from controller.model import (
    Checkpoint,
    ExitedSeen,
    Failure,
    Job,
    JobKey,
    LogEntry,
    MemberSeen,
    Order,
    Outcome,
    PodPhase,
    PodSeen,
    Progress,
    RefusedSeen,
    ReleaseOrder,
    Seen,
    Source,
    Spec,
    Stage,
    StartOrder,
    StopOrder,
    Task,
)
from controller.plan import Plan, plan
from controller.rendezvous import rendezvous
from controller.wakefulness import Wakefulness

DAWN = datetime(2026, 1, 1, tzinfo=UTC)
_FIRST_LOOK = Wakefulness.begun(DAWN, 0.0)


@dataclass(frozen=True, slots=True)
class Trainer:
    """A trainer process. `members` are the workers of its generation."""

    generation: int
    members: tuple[int, ...]
    cluster: tuple[str, ...]
    stage: Stage = Stage.STARTING
    step: int = 0
    moved: datetime = DAWN
    saving: bool = False


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod and, once it runs, its agent. `held` pods stay Pending."""

    seen: PodSeen
    held: bool = False
    reachable: bool = True  # The controller and the agent hear each other.
    cut_off: bool = False  # Its node is out of reach: it cannot be deleted, and runs on.
    killed: bool = False  # It is deleted without grace.
    newest: int = 0  # The newest generation its agent was told of.
    trainer: Trainer | None = None
    exited: ExitedSeen | None = None
    released: bool = False
    beside: int = 0  # The generation whose checkpoints it looks at, as the evaluator.
    port: int = 1  # Held for the next trainer; another one once that has started.

    @property
    def address(self) -> str:
        return f"{self.seen.uid}:{self.port}"

    @property
    def index(self) -> int:
        return self.seen.index

    @property
    def runs(self) -> bool:
        return self.seen.phase is PodPhase.RUNNING


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass of the loop has done."""

    plan: Plan
    orders: tuple[Order, ...] = ()
    entries: tuple[LogEntry, ...] = ()
    wake_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class World:
    """Everything. `known` is what the controller was told by agents since it began. `steady_s` is
    the clock that nobody sets."""

    job: Job
    now: datetime = DAWN
    steady_s: float = 0.0
    looked: Wakefulness = _FIRST_LOOK  # At the clocks, by the controller.
    pods: tuple[Pod, ...] = ()
    known: tuple[MemberSeen, ...] = ()
    uids: int = 0
    saved_step: int = 0  # The newest checkpoint.
    forgotten: bool = False
    held: frozenset[int] = frozenset()  # Workers whose new pods stay Pending.
    hold_reason: str = "Unschedulable"
    denied: frozenset[int] = frozenset()  # Workers for which the cluster creates no pods.
    deny_reason: str = "exceeded quota"
    refused: tuple[RefusedSeen, ...] = ()
    log: tuple[LogEntry, ...] = field(default=())

    @property
    def seen(self) -> Seen:
        since = self.awake.since
        return Seen(tuple(p.seen for p in self.pods), self.known, since, self.refused)

    @property
    def awake(self) -> Wakefulness:
        return self.looked.looked(self.now, self.steady_s)

    @property
    def trainers(self) -> tuple[Trainer, ...]:
        return tuple(p.trainer for p in self.pods if p.trainer is not None)


def submit(spec: Spec) -> World:
    """Return a world with one new job in it."""
    return World(Job(JobKey("default", "job"), "uid-1", DAWN, spec))


def spec(**changes: object) -> Spec:
    """Return a spec of a job with a few workers."""
    plain = Spec(Task("task.py"), Source("0" * 64, 1), workers=2, min_workers=2)
    return replace(plain, **changes)  # type: ignore[arg-type]


# The controller.


def decide(world: World) -> Pass:
    """Decide once, as the loop does."""
    seen = world.seen
    decision = rendezvous(world.job, seen, world.now)
    job = replace(world.job, status=decision.status)
    planned = plan(job, seen.pods, world.now, refused=seen.refused)
    status, entries = events.numbered(world.job.status, planned.status, world.now)
    wakes = [at for at in (decision.wake_at, planned.wake_at) if at is not None]
    wake_at = min(wakes, default=None)
    return Pass(replace(planned, status=status), decision.orders, entries, wake_at)


def reconcile(world: World, *, dies_after: int | None = None) -> tuple[World, Pass]:
    """Do one pass. With `dies_after` the controller is lost after the status was stored and
    so many orders were sent."""
    done = decide(world)
    job = replace(world.job, status=done.plan.status)
    world = replace(world, job=job, log=world.log + done.entries, looked=world.awake)
    if dies_after is not None:
        for order in done.orders[:dies_after]:
            world = _deliver(world, order)
        return restart(world), done
    for name in done.plan.delete:
        world = _delete(world, name, kill=name in done.plan.kill)
    for index in done.plan.create:
        world = _create(world, index)
    for order in done.orders:
        world = _deliver(world, order)
    return replace(world, forgotten=world.forgotten or done.plan.forget), done


def restart(world: World) -> World:
    """Lose the controller and start it again: it knows what is stored, and pods."""
    begun = Wakefulness.begun(world.now, world.steady_s)
    return replace(world, looked=begun, known=(), refused=())


def report(world: World) -> World:
    """Let every agent within reach say how it is."""
    known = {m.index: m for m in world.known}
    for pod in world.pods:
        if pod.runs and pod.reachable and not pod.released:
            known[pod.index] = _member(world, pod, known.get(pod.index))
    return replace(world, known=tuple(known[i] for i in sorted(known)))


def _member(world: World, pod: Pod, before: MemberSeen | None) -> MemberSeen:
    trainer = pod.trainer
    same = before if before and before.pod_uid == pod.seen.uid else None
    chief = trainer is not None and trainer.members[0] == pod.index
    progress = same.progress if same else None
    checkpoint = same.checkpoint if same else None
    if trainer and chief and trainer.step:
        progress = Progress(step=trainer.step, total_steps=100, loss=1.0)
        if world.saved_step:
            checkpoint = _checkpoint(world.saved_step)
    return MemberSeen(
        index=pod.index,
        pod_uid=pod.seen.uid,
        address=pod.address,
        connected=True,
        heard=world.now,
        running=trainer.generation if trainer else pod.beside,
        stage=trainer.stage if trainer else Stage.STARTING,
        step=trainer.step if trainer else 0,
        step_since=trainer.moved if trainer else None,
        progress=progress,
        checkpoint=checkpoint,
        exited=pod.exited,
    )


def _checkpoint(step: int) -> Checkpoint:
    return Checkpoint(f"step-{step}", step, 1, 1, DAWN)


# What the controller's doing does to the world.


def _create(world: World, index: int) -> World:
    assert all(p.index != index for p in world.pods), "the old pod is still there"
    refused = {r.index: r for r in world.refused}
    before = refused.pop(index, None)
    if index in world.denied:
        times = before.times + 1 if before else 1
        refused[index] = RefusedSeen(index, world.deny_reason, times, world.now)
    world = replace(world, refused=tuple(refused[i] for i in sorted(refused)))
    if index in world.denied:
        return world
    uid = world.uids + 1
    seen = PodSeen(index, f"job-{index}", f"pod-{uid}", PodPhase.PENDING, world.now)
    held = index in world.held
    if held:
        seen = replace(seen, reason=world.hold_reason)
    pods = sorted((*world.pods, Pod(seen, held=held)), key=lambda p: p.index)
    return replace(world, pods=tuple(pods), uids=uid)


def _delete(world: World, name: str, *, kill: bool) -> World:
    (pod,) = (p for p in world.pods if p.seen.name == name)
    if not kill:
        return ask_to_leave(world, pod.index)
    return change(world, replace(pod, killed=True, seen=replace(pod.seen, deleting=True)))


def _deliver(world: World, order: Order) -> World:
    pod = find(world, order.index)
    if pod is None or not pod.runs or not pod.reachable or pod.released:
        return world
    if isinstance(order, ReleaseOrder):
        return change(world, replace(pod, released=True))
    if isinstance(order, StartOrder):
        return _start(world, pod, order)
    return _stop(world, pod, order)


def _start(world: World, pod: Pod, order: StartOrder) -> World:
    if pod.newest >= order.generation or pod.seen.deleting:
        return world
    assert order.generation == world.job.status.generation, "started before it was stored"
    if order.position < 0:
        return change(world, replace(pod, newest=order.generation, beside=order.generation))
    others = {t.generation for t in world.trainers} - {order.generation}
    assert not others, f"generation {order.generation} starts while {others} runs"
    assert all(t.cluster == order.cluster for t in world.trainers), "two ideas of the group"
    assert order.cluster[order.position] == pod.address, "sent to another's place"
    members = world.job.status.members
    trainer = Trainer(order.generation, members, order.cluster, moved=world.now)
    started = replace(pod, newest=order.generation, trainer=trainer, port=pod.port + 1)
    return change(world, started)


def _stop(world: World, pod: Pod, order: StopOrder) -> World:
    if pod.beside == order.generation:
        return ends(world, pod.index, Outcome.STOPPED)
    trainer = pod.trainer
    if trainer is None:
        if pod.newest < order.generation:
            exited = ExitedSeen(order.generation, Outcome.STOPPED)
            pod = replace(pod, newest=order.generation, exited=exited)
        return change(world, pod)
    if trainer.generation != order.generation:
        return world
    if order.save:
        return change(world, replace(pod, trainer=replace(trainer, saving=True)))
    return ends(world, pod.index, Outcome.STOPPED)


# What happens by itself.


def find(world: World, index: int) -> Pod | None:
    """Return the pod of a worker."""
    return next((p for p in world.pods if p.index == index), None)


def change(world: World, pod: Pod) -> World:
    """Return the world with that pod in place of the one of its index."""
    return replace(world, pods=tuple(pod if p.index == pod.index else p for p in world.pods))


def ends(world: World, index: int, outcome: Outcome, failure: Failure | None = None) -> World:
    """Let the trainer of a worker end."""
    pod = find(world, index)
    if pod is not None and pod.beside:
        exited = ExitedSeen(pod.beside, outcome, 0, failure)
        return change(world, replace(pod, beside=0, exited=exited))
    if pod is None or pod.trainer is None:
        return world
    trainer = pod.trainer
    exited = ExitedSeen(trainer.generation, outcome, trainer.step, failure)
    if outcome in (Outcome.DONE, Outcome.SAVED):
        world = replace(world, saved_step=max(world.saved_step, trainer.step))
    return change(world, replace(pod, trainer=None, exited=exited))


def fails(world: World, index: int, reason: str = "Error", message: str = "") -> World:
    """Let a pod fail: whatever was in it is dead, the pod is still listed."""
    pod = find(world, index)
    if pod is None or not pod.runs:
        return world
    seen = replace(pod.seen, phase=PodPhase.FAILED, reason=reason, message=message)
    return _hang_up(change(world, replace(pod, seen=seen, trainer=None, beside=0)), index)


def vanish(world: World, index: int) -> World:
    """Let a pod be gone at once."""
    gone = replace(world, pods=tuple(p for p in world.pods if p.index != index))
    return _hang_up(gone, index)


def ask_to_leave(world: World, index: int) -> World:
    """Begin to delete a pod with grace: its trainer is told to save."""
    pod = find(world, index)
    if pod is None:
        return world
    trainer = replace(pod.trainer, saving=True) if pod.trainer else None
    return change(world, replace(pod, seen=replace(pod.seen, deleting=True), trainer=trainer))


def reach(world: World, index: int, *, reachable: bool, hangs_up: bool = False) -> World:
    """Cut an agent off, or let it be heard again; `hangs_up`: its stream breaks at once."""
    pod = find(world, index)
    if pod is None:
        return world
    world = change(world, replace(pod, reachable=reachable))
    return _hang_up(world, index) if hangs_up else world


def cut_off(world: World, index: int, *, hangs_up: bool) -> World:
    """Cut off a node: its agent is silent, its pod cannot be deleted, its trainer runs on."""
    pod = find(world, index)
    if pod is None:
        return world
    world = change(world, replace(pod, reachable=False, cut_off=True))
    return _hang_up(world, index) if hangs_up else world


def _hang_up(world: World, index: int) -> World:
    known = (
        replace(m, connected=False, heard=world.now) if m.index == index and m.connected else m
        for m in world.known
    )
    return replace(world, known=tuple(known))


def kubelet(world: World) -> World:
    """Start pods that are Pending, and let those go that are being deleted and idle."""
    for pod in world.pods:
        if pod.cut_off:
            continue
        if pod.seen.deleting and (pod.killed or pod.trainer is None or not pod.runs):
            world = vanish(world, pod.index)
        elif pod.released:
            done = replace(pod.seen, phase=PodPhase.SUCCEEDED)
            world = _hang_up(change(world, replace(pod, seen=done, released=False)), pod.index)
            world = ends(world, pod.index, Outcome.STOPPED)
        elif pod.seen.phase is PodPhase.PENDING and not pod.held:
            running = replace(pod.seen, phase=PodPhase.RUNNING, reason="")
            world = change(world, replace(pod, seen=running))
    return world


def collectives(world: World) -> World:
    """Let trainers do what they do together: leave after saving, or notice that one is gone."""
    for generation in sorted({t.generation for t in world.trainers}):
        pods = [p for p in world.pods if p.trainer and p.trainer.generation == generation]
        members = next(p.trainer.members for p in pods if p.trainer)
        complete = {p.index for p in pods} == set(members)
        saving = any(p.trainer.saving for p in pods if p.trainer)
        done = any(p.exited and p.exited == _done(p, generation) for p in world.pods)
        for pod in pods:
            if pod.cut_off:
                continue  # No word comes through, neither of a peer that is gone.
            if complete and saving:
                world = ends(world, pod.index, Outcome.SAVED)
            elif not complete and not done and pod.trainer and pod.trainer.stage is Stage.TRAINING:
                world = ends(world, pod.index, Outcome.PEER_LOST)
            elif not complete and saving:
                world = ends(world, pod.index, Outcome.STOPPED)
    return world


def _done(pod: Pod, generation: int) -> ExitedSeen | None:
    exited = pod.exited
    good = exited and exited.generation == generation and exited.outcome is Outcome.DONE
    return exited if good else None


def step(world: World, steps: int = 1) -> World:
    """Let every complete generation make steps."""
    for pod in world.pods:
        trainer = pod.trainer
        if trainer is None or not _complete(world, trainer):
            continue
        start = max(trainer.step, world.saved_step)
        moved = replace(trainer, stage=Stage.TRAINING, step=start + steps, moved=world.now)
        world = change(world, replace(pod, trainer=moved))
    return world


def finish(world: World) -> World:
    """Let every generation that trains come to its end."""
    ending = [p.index for p in world.pods if p.trainer and may_complete(world, p.trainer)]
    for index in ending:
        world = ends(world, index, Outcome.DONE)
    return world


def may_complete(world: World, trainer: Trainer) -> bool:
    """True when a trainer can have reached the last step: all were there until some ended well."""
    generation = trainer.generation
    running = {p.index for p in world.pods if p.trainer and p.trainer.generation == generation}
    done = {p.index for p in world.pods if _done(p, generation)}
    return trainer.stage is Stage.TRAINING and running | done == set(trainer.members)


def _complete(world: World, trainer: Trainer) -> bool:
    running = {
        p.index for p in world.pods if p.trainer and p.trainer.generation == trainer.generation
    }
    return running == set(trainer.members)


def hold(world: World, index: int, reason: str) -> World:
    """Keep the pods of a worker from starting, for that reason."""
    world = replace(world, held=world.held | {index}, hold_reason=reason)
    pod = find(world, index)
    if pod is None or pod.seen.phase is not PodPhase.PENDING:
        return world
    return change(world, replace(pod, held=True, seen=replace(pod.seen, reason=reason)))


def deny(world: World, index: int, reason: str = "exceeded quota") -> World:
    """Let the cluster create no pods of a worker any more, for that reason."""
    return replace(world, denied=world.denied | {index}, deny_reason=reason)


def heal(world: World) -> World:
    """Let all faults be over."""
    pods = tuple(replace(p, reachable=True, cut_off=False, held=False) for p in world.pods)
    return replace(world, pods=pods, held=frozenset(), denied=frozenset())
