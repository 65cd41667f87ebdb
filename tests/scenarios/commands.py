"""The command language of the scenarios: one line is one thing that happens.

submit workers=3 min_workers=2     a job, with fields of its spec
hold 1 ErrImagePull | unhold       new pods of a worker stay Pending, for that reason
deny 1 exceeded quota | unhold     the cluster creates no pods of a worker, for that reason
pods start                         and nothing else
stabilize                          pods start, agents report, the controller acts, until rest
step 40 | finish                   trainers make steps, or complete the training
worker 1 exits CRASHED OutOfMemory a trainer ends, with an outcome and a reason
pod 1 fails Evicted | vanishes | leaves
agent 1 silent | hangs up | returns
tick 30s                           time passes, then the controller acts once
clock jumps 3600s | -3600s         it is set, then the controller acts before any agent reports
suspend | resume | cancel | delete | scale 4
controller restarts                it is lost and begins anew
controller stands still 60s        then it acts before it has read what agents said meanwhile
controller dies | half dies        so it is after storing a status, or after one order more
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controller.ledger import Lost, RestartCost
from controller.model import (
    Failure,
    Outcome,
    ReleaseOrder,
    Spec,
    StartOrder,
    StateChange,
    StopOrder,
)
from tests.scenarios import course
from tests.scenarios import world as w
from tests.scenarios.world import Pass, World

COMMAND = "> "
COMMENT = "#"


def run(script: str) -> str:
    """Return the script with the output of each command under it; old output is dropped."""
    world: World | None = None
    lines: list[str] = []
    for line in script.splitlines():
        if line.startswith(COMMENT) or not line.strip():
            lines.append(line)
        elif line.startswith(COMMAND):
            world, output = _execute(world, line.removeprefix(COMMAND).split())
            lines += [line, *(f"  {text}" for text in output)]
    return "\n".join(lines) + "\n"


def _execute(world: World | None, words: list[str]) -> tuple[World, list[str]]:
    output: list[str] = []

    def note(_: World, done: Pass) -> None:
        output.extend(_told(done))

    if words[0] == "submit":
        world = w.submit(_spec(words[1:]))
    assert world is not None, "the first command is submit"
    if words[0] == "stabilize":
        world = course.stabilize(world, note)
    elif words[0] != "submit":
        world = _happen(world, words)
    if words[0] not in ("stabilize", "hold", "deny", "unhold", "pods"):
        dies_after = {"dies": 0, "half": 1}.get(words[1]) if words[0] == "controller" else None
        unheard = words[:2] in (["clock", "jumps"], ["controller", "stands"])
        world = world if unheard else w.report(world)
        world, done = w.reconcile(world, dies_after=dies_after)
        note(world, done)
    return world, [*output, _summary(world)]


def _spec(words: list[str]) -> Spec:
    fields = (word.split("=") for word in words)
    return w.spec(**{name: int(value) for name, value in fields})


def _happen(world: World, words: list[str]) -> World:
    match words:
        case ["hold", index, reason]:
            return w.hold(world, int(index), reason)
        case ["deny", index, *reason]:
            return w.deny(world, int(index), " ".join(reason))
        case ["unhold"]:
            return w.heal(world)
        case ["pods", "start"]:
            return w.kubelet(world)
        case ["step", count]:
            return w.step(world, int(count))
        case ["finish"]:
            return w.finish(world)
        case ["worker", index, "exits", outcome, *reason]:
            failure = _failure(int(index), reason) if reason else None
            return w.ends(world, int(index), Outcome[outcome], failure)
        case ["pod", index, *what]:
            return _pod(world, int(index), what)
        case ["agent", index, *what]:
            returns, hangs_up = what == ["returns"], what == ["hangs", "up"]
            return w.reach(world, int(index), reachable=returns, hangs_up=hangs_up)
        case ["tick", time]:
            return course.tick(world, float(time.removesuffix("s")))
        case ["clock", "jumps", time]:
            return course.set_clock(world, float(time.removesuffix("s")))
        case ["controller", "stands", "still", time]:
            return course.stand_still(world, float(time.removesuffix("s")))
        case ["controller", "restarts"]:
            return w.restart(world)
        case ["controller", "dies"] | ["controller", "half", "dies"]:
            return world
        case _:
            return _ask(world, words)


def _pod(world: World, index: int, what: list[str]) -> World:
    verbs: dict[str, Callable[[World, int], World]] = {
        "vanishes": w.vanish,
        "leaves": w.ask_to_leave,
    }
    if what[0] == "fails":
        return w.fails(world, index, *what[1:])
    return verbs[what[0]](world, index)


def _ask(world: World, words: list[str]) -> World:
    job = world.job
    match words:
        case ["suspend" | "resume"]:
            spec = replace(job.spec, suspend=words == ["suspend"])
        case ["cancel"]:
            spec = replace(job.spec, cancel=True)
        case ["scale", count]:
            spec = replace(job.spec, workers=int(count))
        case ["delete"]:
            return replace(world, job=replace(job, deleting=world.now))
        case _:
            raise ValueError(f"no such command: {' '.join(words)}")
    return replace(world, job=replace(job, spec=spec))


def _failure(index: int, words: list[str]) -> Failure:
    return Failure(words[0], f"worker {index}: {words[0]}", index, details="Traceback ...")


def _told(done: Pass) -> list[str]:
    """Return what a pass did, one line each."""
    lines = []
    for entry in done.entries:
        change = entry.change
        if isinstance(change, StateChange):
            blame = f" [{change.failure.reason}]" if change.failure else ""
            text = f"{change.before.value} -> {change.after.value}: {change.message}{blame}"
        elif isinstance(change, RestartCost):
            text = f"the end of g{change.generation} [{change.reason}] cost {_parts(change.lost)}"
        else:
            why = f" ({change.message})" if change.message else ""
            text = f"worker {change.index}: {change.before.value} -> {change.after.value}{why}"
        lines.append(f"{entry.number}. {text}")
    plan = done.plan
    lines += [f"{'kill' if n in plan.kill else 'delete'} {n}" for n in plan.delete]
    lines += [f"create {index}" for index in plan.create]
    lines += ["forget"] if plan.forget else []
    for order in done.orders:
        match order:
            case StartOrder():
                text = f"start g{order.generation} as {order.position}/{len(order.cluster)}"
            case StopOrder():
                text = f"stop g{order.generation}" + (" and save" if order.save else "")
            case ReleaseOrder():
                text = "release"
        lines.append(f"tell {order.index}: {text}")
    return lines


def _parts(lost: Lost) -> str:
    parts = [(name, getattr(lost, name)) for name in Lost.__dataclass_fields__]
    return ", ".join(f"{name} {seconds:g} s" for name, seconds in parts if seconds) or "nothing"


def _summary(world: World) -> str:
    status = world.job.status
    if world.forgotten:
        return "= forgotten"
    workers = " ".join(x.state.value for x in status.workers)
    wake_at = w.decide(world).wake_at
    wake = f"; wake in {(wake_at - world.now).total_seconds():g} s" if wake_at else ""
    running = "" if status.generation_ended else " in g" + str(status.generation)
    counts = f"restarts {status.restarts}, crashes {status.crashes}"
    return f"= {status.phase.value}{running} [{workers}] {counts}: {status.message}{wake}"
