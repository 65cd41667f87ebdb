"""What must hold in every life of a job, whatever happens to it.

The world itself asserts that no generation starts while another one runs anywhere, and that a
pod is not created while the old one is there.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from controller.model import Phase, Reason, Spec, Status
from controller.plan import plan
from controller.rendezvous import rendezvous
from tests.properties import events
from tests.scenarios import course
from tests.scenarios import world as w
from tests.scenarios.world import World

specs = st.builds(
    w.spec,
    workers=st.integers(1, 3),
    min_workers=st.integers(1, 3),
    max_restarts=st.integers(0, 3),
    progress_deadline_s=st.just(60),
    start_deadline_s=st.just(600),
    active_deadline_s=st.sampled_from([None, None, None, 300]),
    evaluator=st.booleans(),
)
_lively = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _checked_pass(world: World, *, dies_after: int | None = None) -> World:
    """Do a pass and check what must hold between two of them."""
    before = world.job.status
    after_world, done = w.reconcile(world, dies_after=dies_after)
    after = after_world.job.status
    _check_fixpoint(world, after_world)
    if before.phase.final:
        assert replace(after, last_event=before.last_event) == before, "a final job has changed"
        assert not done.entries
    assert after.generation in (before.generation, before.generation + 1)
    assert after.crashes <= world.job.spec.max_restarts + 1
    assert after.restarts >= before.restarts
    assert after.restarts == sum(count for _, count in after.restarts_by_reason)
    _check_books(after_world)
    over_budget = after.crashes > world.job.spec.max_restarts
    assert not over_budget or after.phase.final, "goes on beyond its budget"
    numbers = [entry.number for entry in after_world.log]
    assert numbers == list(range(1, after.last_event + 1)), "the event log has a gap"
    return after_world


def _check_books(world: World) -> None:
    """Every second since the start is in the books once, those of a suspension excepted."""
    ledger, now = world.job.status.ledger, world.now
    started = world.job.status.started
    lasted = (now - started).total_seconds() if started else 0.0
    assert 0.0 <= ledger.booked(now).total <= lasted + 1e-6, "seconds were booked twice"
    costs = [cost.lost.total for cost in ledger.restarts]
    assert sum(costs) <= ledger.lost.total + 1e-6, "restarts cost more than all of them"
    assert all(cost.over for cost in ledger.restarts[:-1])
    generations = [cost.generation for cost in ledger.restarts]
    assert generations == sorted(set(generations))


def _check_fixpoint(before: World, after: World) -> None:
    """What was decided, applied to the same world once more, changes nothing."""
    job, seen, now = after.job, before.seen, before.now
    again = rendezvous(job, seen, now)
    job = replace(job, status=again.status)
    planned = plan(job, seen.pods, now, refused=seen.refused)
    assert planned.status == job.status, "a second look changes the status"


def _live(spec: Spec, life: list[events.Moment]) -> World:
    world = _checked_pass(w.submit(spec))
    for (name, event), dies_after in life:
        dying = (
            "" if dies_after is None else f", then the controller dies after {dies_after} orders"
        )
        note(name + dying)
        world = _checked_pass(event(world), dies_after=dies_after)
    return _storm(world)


def _storm(world: World) -> World:
    """Let the faults last so long that the job goes on without whom it has lost."""
    for _ in range(6):
        for _ in range(3):
            world = _checked_pass(w.report(w.step(w.collectives(w.kubelet(world)))))
        world = _checked_pass(course.tick(world, 9))
    return world


@_lively
@given(specs, events.lives, events.ends)
def test_every_life_keeps_the_rules_and_comes_to_its_end(
    spec: Spec,
    life: list[events.Moment],
    end: tuple[str, events.Event] | None,
) -> None:
    world = _live(spec, life)
    if end is not None:
        note(end[0])
        world = _checked_pass(end[1](world))
    note("calm")
    if not world.job.status.phase.final:
        job = replace(world.job, spec=replace(world.job.spec, suspend=False))
        world = replace(world, job=job)
    world = course.calm(world, _checked_pass)
    status = world.job.status
    note(str(status))
    assert status.phase.final, "the job never ends"
    if end is None:
        assert status.phase in (Phase.SUCCEEDED, Phase.FAILED)
    if status.phase is Phase.FAILED:
        assert status.last_failure is not None
        _check_deserved(status.last_failure.reason, world)
    assert not course.stabilize(world).pods, "a finished job keeps pods"


def _check_deserved(reason: str, world: World) -> None:
    status, spec = world.job.status, world.job.spec
    if reason == Reason.TOO_MANY_RESTARTS:
        assert status.crashes == spec.max_restarts + 1, "failed before its budget was used up"
    elif reason == Reason.ACTIVE_DEADLINE:
        assert spec.active_deadline_s is not None
    else:
        assert reason in (Reason.INVALID_PROGRAM, Reason.START_DEADLINE)


@settings(_lively, max_examples=40)
@given(specs, events.lives)
def test_a_job_that_is_deleted_leaves_nothing(spec: Spec, life: list[events.Moment]) -> None:
    world = _live(spec, life)
    world = replace(world, job=replace(world.job, deleting=world.now))
    for _ in range(60):
        world = w.collectives(w.kubelet(course.tick(w.heal(world), 1.0)))
        world, _done = w.reconcile(world)
        if world.forgotten:
            break
    assert world.forgotten
    assert not world.pods


@settings(_lively, max_examples=60)
@given(specs, events.lives)
def test_the_training_never_notices_the_evaluator(spec: Spec, life: list[events.Moment]) -> None:
    alone, accompanied = (w.submit(replace(spec, evaluator=beside)) for beside in (False, True))
    for (name, event), dies_after in life:
        note(name)
        alone, _ = w.reconcile(event(alone), dies_after=dies_after)
        accompanied, _ = w.reconcile(event(accompanied), dies_after=dies_after)
        assert _of_the_training(accompanied) == _of_the_training(alone)


def _of_the_training(world: World) -> Status:
    """Return the status without what the evaluator changes: how many pods there have been, and
    when the last one has left a suspended job, which is an event and a part of the time."""
    status = replace(
        world.job.status, addresses=(), message="", last_event=0, ledger=Status().ledger
    )
    if status.phase in (Phase.SUSPENDING, Phase.SUSPENDED):
        return replace(status, phase=Phase.SUSPENDED, phase_since=None)
    return status
