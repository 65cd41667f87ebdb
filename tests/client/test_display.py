"""What people see: units, tables, and the live display on terminals of all kinds."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from protos.taas.v1.history_pb2 import Event, Notice, Record, Restored
from protos.taas.v1.job_pb2 import (
    PHASE_RESTARTING,
    PHASE_RUNNING,
    PHASE_STARTING,
    LostTime,
    Progress,
    RestartCost,
    TrainingJob,
    WorkerState,
)
from taas import names, picture, plain, tables, units
from taas.display import LiveDisplay
from taas.errors import InvalidRequest
from taas.picture import Picture
from tests.client import events


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.size(0), "0 B"),
        (units.size(1023), "1023 B"),
        (units.size(1536), "1.5 kB"),
        (units.size(3 << 40), "3072.0 GB"),
        (units.duration(-3), "0s"),
        (units.duration(59.6), "1m 00s"),
        (units.duration(3725), "1h 02m"),
        (units.duration(100_000), "1d 3h"),
        (units.rate(12345.6), "12,346 ex/s"),
        (units.rate(3.25), "3.2 ex/s"),
        (units.number(0.5), "0.5000"),
        (units.number(1e-7), "1e-07"),
        (units.number(math.nan), "nan"),
        (units.number(math.inf), "inf"),
        (units.plural(1, "restart"), "1 restart"),
        (units.harmless("a\x1b[2Jb\r\tc\nd"), "a\ufffd[2Jb\ufffd\tc\nd"),
        (units.moment(Timestamp()), ""),
    ],
)
def test_units(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(("share", "shown"), [(0.09, False), (0.25, True)])
def test_waiting_for_input_is_shown_where_it_is_notable(share: float, shown: bool) -> None:
    event = Event(record=Record(progress=Progress(step=5, starved_fraction=share)))
    (line,) = plain.lines(event)
    assert ("starved=0.25" in line) is shown
    console = Console(file=io.StringIO(), width=120)
    with LiveDisplay(console, "job", Picture()) as display:
        display.event(event)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("25% waiting for input" in text) is shown


LOST = LostTime(detection_seconds=0.02, stop_seconds=0.25, start_seconds=61)
COST = RestartCost(generation=3, reason="TrainerKilled", lost=LOST, steps_recomputed=120)


def test_what_a_restart_cost_is_a_line_for_people_and_one_for_programs() -> None:
    event = Event(restart=COST)
    event.time.FromSeconds(1_800_000_000)
    (line,) = plain.lines(event)
    assert line == (
        "2027-01-15T08:00:00Z restart generation=3 reason=TrainerKilled lost_seconds=61.27 "
        "detection=0.02 stop=0.25 start=61.00 restore=0.00 recompute=0.00 steps_recomputed=120"
    )
    console = Console(file=io.StringIO(), width=120)
    with LiveDisplay(console, "job", Picture()) as display:
        display.event(event)
    assert (
        "restart after TrainerKilled cost 1m 01s (stop 0.2 s, start 1m 01s); 120 steps made again"
        in console.file.getvalue()  # type: ignore[attr-defined]
    )


def test_the_details_of_a_job_say_what_its_restarts_cost() -> None:
    job = TrainingJob(name="namespaces/default/trainingJobs/b")
    job.status.goodput = 0.9
    job.status.accounting.restarts.append(COST)
    job.status.accounting.lost.CopyFrom(LOST)
    lines = list(tables.job_details(job, now=datetime.now(UTC)))
    assert "lost:       1m 01s (stop 0.2 s, start 1m 01s)" in lines
    assert "goodput:    90.0% of the time new steps were made" in lines


def test_what_turns_while_a_job_runs_is_a_line_that_stays() -> None:
    why = "training with 2 workers; checkpoints cannot be saved: No space left on device"
    picture = Picture()
    console = Console(file=io.StringIO(), width=120)
    with LiveDisplay(console, "job", picture) as display:
        for event in (
            events.state(PHASE_STARTING, PHASE_RUNNING, "training with 2 workers"),
            events.state(PHASE_RUNNING, PHASE_RUNNING, why),
        ):
            display.event(event)
            picture = picture.after(event)
    assert f"running: {why}" in console.file.getvalue()  # type: ignore[attr-defined]
    assert picture.message == why


def test_a_cause_that_is_found_later_is_no_second_restart() -> None:
    picture = Picture()
    for event in (
        events.state(PHASE_RUNNING, PHASE_RESTARTING, "looking for the cause"),
        events.state(PHASE_RESTARTING, PHASE_RESTARTING, "worker 1 was killed"),
    ):
        picture = picture.after(event)
    assert picture.restarts == 1


@pytest.mark.parametrize(
    ("folder", "job_id"),
    [
        ("mnist_lenet5", "mnist-lenet5"),
        ("My Übung!", "my-bung"),
        ("___", "job"),
        ("a" * 51 + "_b", "a" * 51),
    ],
)
def test_job_id_from(folder: str, job_id: str) -> None:
    assert names.job_id_from(folder) == job_id


def test_numbered_ids_stay_legal() -> None:
    assert names.numbered_id("x", 1) == "x"
    assert names.numbered_id("x", 12) == "x-12"
    assert len(names.numbered_id("a" * 52, 100)) == 52


@pytest.mark.parametrize("text", ["", "/", "a/", "/a", "a/b/c"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest):
        names.resource_name(text, "default")


def test_newer_enum_values_are_shown_as_numbers() -> None:
    assert names.phase_name(99) == "99"  # type: ignore[arg-type]


def draw(
    width: int = 80, encoding: str = "utf-8", script: str = "restart", workers: int = 2
) -> str:
    """Return what a terminal receives while a script is played."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="strict", write_through=True)
    console = Console(file=file, force_terminal=True, width=width, color_system=None)
    with LiveDisplay(console, "mnist", Picture()) as display:
        for event in events.scripted(script, workers):
            display.event(event)
        display.lost("the service is away; reconnecting")
    return raw.getvalue().decode(encoding)


def test_live_display() -> None:
    said = draw()
    for text in (
        "validation at step 250: accuracy 0.9800",
        "worker 1 was lost: killed by signal 9",
        "TrainerKilled: worker 1: SIGKILL",
        "restarting: worker 1 was killed",
        "exported model, model.keras (2.0 MB)",
        "mnist  SUCCEEDED  generation 1  1 restart  trained",
        "step 1,000/1,000  epoch 2.50  12,346 ex/s  0s left",
        "loss 0.1095  accuracy 0.9804",
        "● 0 running   ● 1 running",
        "checkpoint  step 1,000  5.0 MB",
        "the service is away; reconnecting",
    ):
        assert text in said


def test_live_display_shows_the_programs_traceback() -> None:
    assert '  File "task.py", line 3, in task' in draw(script="bad")


def test_live_display_without_unicode() -> None:
    assert "* 0 running   * 1 running" in draw(encoding="ascii")


def test_live_display_with_many_workers() -> None:
    assert "● 20 running" in draw(workers=20)


@pytest.mark.parametrize("width", [1, 10, 300])
def test_live_display_at_any_width(width: int) -> None:
    assert draw(width=width)


def test_why_a_worker_is_missing() -> None:
    lost = events.worker(
        0, WorkerState.WORKER_STATE_PENDING, WorkerState.WORKER_STATE_PENDING, "ImagePullBackOff"
    )
    seen = Picture().after(lost)
    assert seen.workers[0].why == "ImagePullBackOff"


def test_other_records() -> None:
    restored = Event(record=Record(restored=Restored(step=5, checkpoint="c", skipped=["d: torn"])))
    notice = Event(record=Record(notice=Notice(reason="Slow", message='a "b"\x1b')))
    assert [*plain.lines(restored)] == [' restored step=5 checkpoint=c skipped="d: torn"']
    assert [*plain.lines(notice)] == [' notice reason=Slow message="a \\"b\\"\ufffd"']
    assert [*plain.lines(Event())] == []
    assert [*plain.lines(Event(record=Record()))] == []
    said = io.StringIO()
    with LiveDisplay(Console(file=said, width=80), "x", Picture()) as display:
        display.event(restored)
        display.event(notice)
    assert "went on from the checkpoint of step 5\npassed over: d: torn" in said.getvalue()


def test_picture_of_a_job_is_that_of_its_events() -> None:
    job = TrainingJob()
    seen = Picture()
    for event in events.scripted("good", 2):
        seen = seen.after(event)
    assert picture.of_job(job).workers == {}
    assert seen.test is not None
    assert seen.test.metrics["accuracy"] == 0.9912


def test_columns() -> None:
    lines = list(tables.aligned(("A", "LONG"), [("1234", ""), ("1", "x")]))
    assert lines == ["A     LONG", "1234  -", "1     x"]


def test_details_of_an_empty_job() -> None:
    job = TrainingJob(name="namespaces/a/trainingJobs/b")
    assert "name:       b" in list(tables.job_details(job, now=datetime.now(UTC)))
