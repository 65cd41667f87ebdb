"""How long a training stands still after a fault, again and again, and where the seconds go.

    python -m benchmarks.recovery local|kubernetes [--times 10] [--fault "trainer killed"]

One job of two workers; each time it trains again a worker is struck, the chief and the other one
in turn. From the fault to the first step that had not been made before it, as the service books
it; the moment of the fault is this process's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, record
from benchmarks.sites import sites
from tests.faults import workers
from tests.faults.cells import BACKENDS, KUBERNETES, Fault
from tests.faults.moments import Subject
from tests.faults.site import Site, Target
from tests.faults.trial import ENDLESS, Wanted, gone, submitted
from tests.faults.workers import BOUND_S, until
from tests.service.world import Story, following

PARTS = ("detection", "stop", "start", "restore", "recompute")
CHOICES = (Fault.TRAINER_KILLED, Fault.TRAINER_FROZEN, Fault.POD_DELETED, Fault.AGENT_FROZEN)


def struck(site: Site, fault: Fault, times: int) -> list[dict[str, float]]:
    """Seconds of each recovery, and its parts."""
    site.ready(fault)
    job = submitted(site, fault.name.lower().replace("_", "-"), Wanted(ENDLESS, save_every=500))
    subject, story = Subject(job.uid, site.folder(job), ENDLESS), Story()
    watching = following(site.client, job.name, story)
    found = []
    for number in range(times):
        _until_saved(subject)
        victim = number % 2
        trainers = subject.trainers()
        agent = workers.agent_of(job.uid, trainers[victim])
        assert agent is not None
        at = site.strike(fault, Target(job.name, job.uid, trainers, victim, agent)).at
        _until_over(story, number)
        event = costs(story)[number]
        lost = {part: getattr(event.restart.lost, f"{part}_seconds") for part in PARTS}
        seconds = event.time.ToNanoseconds() / 1e9 - at
        found.append({"seconds": seconds, **lost, "steps": event.restart.steps_recomputed})
        print(f"{fault.value} {number + 1}: {seconds:.2f} s {shown(lost)}", flush=True)
    site.client.cancel(job.name)
    watching.join(BOUND_S)
    site.client.delete(job.name)
    gone(site, job)
    return found


def _until_saved(subject: Subject) -> None:
    """Return when there is another checkpoint, and all trainers are there."""
    before = max(subject.saved(), default=0)
    until(lambda: max(subject.saved(), default=0) > before, "a checkpoint")
    until(subject.trainers, "the trainers")


def _until_over(story: Story, number: int) -> None:
    """Return when the restart of that number is over."""
    until(lambda: len(costs(story)) > number, "the next new step")


def costs(story: Story) -> list[Any]:
    """What was told of restarts so far."""
    return [event for event in story.events if event.HasField("restart")]


def shown(lost: dict[str, float]) -> str:
    """The parts, those that took something."""
    return ", ".join(f"{part} {s:.2f}" for part, s in lost.items() if s >= 0.005)


def main() -> int:
    """Measure, print the medians and keep all of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery")
    parser.add_argument("backend", choices=BACKENDS, nargs="?", default=KUBERNETES)
    parser.add_argument("--times", type=int, default=10, help="recoveries of each fault (10)")
    parser.add_argument("--fault", choices=[f.value for f in CHOICES], help="only this one")
    arguments = parser.parse_args()
    about = machine.describe()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="taas-recovery-") as folder,
        sites(arguments.backend, Path(folder)) as places,
    ):
        results = {
            fault.value: struck(places[False], fault, arguments.times)
            for fault in CHOICES
            if arguments.fault in (None, fault.value)
        }
    for fault, found in results.items():
        seconds = [each["seconds"] for each in found]
        parts = {part: statistics.median(each[part] for each in found) for part in PARTS}
        print(f"{fault}: median {statistics.median(seconds):.2f} s ({shown(parts)})")
    figures = {"took_s": time.monotonic() - began, "results": results}
    only = [arguments.fault.replace(" ", "-")] if arguments.fault else []
    name = "-".join(["recovery", arguments.backend, *only])
    record.keep(name, vars(arguments), about, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
