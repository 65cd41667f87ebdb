"""The event log is the difference of two statuses."""

from __future__ import annotations

from dataclasses import replace

from controller import events
from controller.model import (
    Failure,
    Phase,
    Reason,
    StateChange,
    Status,
    StorageTrouble,
    Worker,
    WorkerChange,
    WorkerState,
)
from tests.builders import T0, idle, running

CRASH = Failure(Reason.TRAINER_CRASHED, "worker 1 crashed", 1, generation=1)


def changes(before: Status, after: Status) -> list[StateChange | WorkerChange]:
    return [entry.change for entry in events.entries_between(before, after, T0)]


def test_nothing_happens_without_a_change() -> None:
    assert events.numbered(running(last_event=7), running(last_event=7), T0) == (
        running(last_event=7),
        (),
    )


def test_numbers_go_on_without_a_gap() -> None:
    after = running(workers=(Worker(0, WorkerState.LOST), Worker(1, WorkerState.LOST)))
    status, entries = events.numbered(running(last_event=7), after, T0)
    assert [entry.number for entry in entries] == [8, 9]
    assert status == replace(after, last_event=9)
    assert all(entry.time == T0 for entry in entries)


def test_progress_and_messages_are_no_events() -> None:
    assert changes(running(), running(message="training", crashes=0)) == []


def test_storage_that_begins_to_fail_is_told_and_that_it_works_again() -> None:
    failing = running(storage_trouble=StorageTrouble("no space", T0), message="cannot save")
    assert changes(running(), failing) == [
        StateChange(Phase.RUNNING, Phase.RUNNING, 1, "cannot save")
    ]
    worse = replace(failing, storage_trouble=StorageTrouble("no space at all", T0))
    assert changes(failing, worse) == []
    again = running(message="training")
    assert changes(worse, again) == [StateChange(Phase.RUNNING, Phase.RUNNING, 1, "training")]


def test_a_worker_that_was_not_there_was_pending() -> None:
    after = idle(workers=(Worker(0), Worker(1, WorkerState.READY, "", "job-1")))
    assert changes(idle(), after) == [
        WorkerChange(1, WorkerState.PENDING, WorkerState.READY, 0, "")
    ]


def test_a_worker_that_is_not_wanted_any_more_is_no_event() -> None:
    assert changes(idle(workers=(Worker(0, WorkerState.READY),)), idle()) == []


def test_a_phase_comes_with_its_new_failure() -> None:
    after = running(phase=Phase.RESTARTING, last_failure=CRASH, message="stopping")
    assert changes(running(), after) == [
        StateChange(Phase.RUNNING, Phase.RESTARTING, 1, "stopping", CRASH)
    ]


def test_an_old_failure_is_not_told_again() -> None:
    before = running(phase=Phase.RESTARTING, generation_ended=True, last_failure=CRASH)
    after = running(2, phase=Phase.STARTING, last_failure=CRASH, message="starting")
    assert changes(before, after) == [StateChange(Phase.RESTARTING, Phase.STARTING, 2, "starting")]


def test_the_cause_is_told_when_it_is_found() -> None:
    before = running(phase=Phase.RESTARTING)
    after = replace(before, last_failure=CRASH, message="stopping")
    assert changes(before, after) == [
        StateChange(Phase.RESTARTING, Phase.RESTARTING, 1, "stopping", CRASH)
    ]


def test_the_end_names_its_failure_even_if_it_was_known() -> None:
    before = running(last_failure=CRASH)
    after = replace(before, phase=Phase.FAILED, message="crashed")
    assert changes(before, after) == [StateChange(Phase.RUNNING, Phase.FAILED, 1, "crashed", CRASH)]


def test_an_end_and_a_start_in_one_pass_are_told_one_after_the_other() -> None:
    after = running(2, phase=Phase.STARTING, last_failure=CRASH, message="starting")
    assert changes(running(), after) == [
        StateChange(Phase.RUNNING, Phase.RESTARTING, 1, "worker 1 crashed", CRASH),
        StateChange(Phase.RESTARTING, Phase.STARTING, 2, "starting"),
    ]


def test_a_change_is_one_line_of_the_log() -> None:
    crash = StateChange(Phase.RUNNING, Phase.RESTARTING, 2, "worker 1 crashed", CRASH)
    assert events.sentence(crash) == "generation 2: running to restarting: worker 1 crashed"
    ready = WorkerChange(0, WorkerState.PENDING, WorkerState.READY, 1, "")
    assert events.sentence(ready) == "generation 1: worker 0: pending to ready"
