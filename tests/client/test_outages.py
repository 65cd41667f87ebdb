"""What a person is told while a job is followed: outages once each, and that a job was deleted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from taas.cli.context import ExitCode
from tests.client import events
from tests.client.double import Running

if TYPE_CHECKING:
    from tests.client.conftest import Answer

    Taas = Callable[..., Answer]

LOST = "the service does not answer; reconnecting"
BACK = "connected again"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_outage_is_told_once(taas: Taas, running: Running, job: str, form: str) -> None:
    running.double.breaks = {"WatchTrainingJob": [3, 0, 0, 1]}
    running.double.emit(job, *events.scripted("good", 2))
    lines = taas("watch", "mnist", "--output", form).err.splitlines()
    times = 1 if form == "text" else 0
    assert [line.split(" ", times)[-1] for line in lines] == [LOST, BACK, LOST, BACK]


def test_an_outage_of_logs_is_told_once(taas: Taas, running: Running, job: str) -> None:
    running.double.breaks = {"StreamLogs": [2, 0, 0]}
    assert taas("logs", "mnist").err == f"{LOST}\n{BACK}\n"


def test_a_job_that_is_deleted_while_watched(
    taas: Taas, running: Running, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stream breaks, and what it is opened again for is gone.
    running.double.breaks = {"WatchTrainingJob": [1]}
    running.double.emit(job, *events.scripted("good", 2)[:2])
    gone = threading.Thread(target=_delete_once_watched, args=(running, job))
    gone.start()
    answer = taas("watch", "mnist")
    gone.join()
    assert answer.code == ExitCode.NOT_FOUND
    assert answer.err.splitlines()[-1] == "error: mnist was deleted"


def _delete_once_watched(running: Running, job: str) -> None:
    double = running.double
    with double.changed:
        while "WatchTrainingJob" not in [method for method, _ in double.calls]:
            double.changed.wait(0.01)
        del double.jobs[job]
