"""What Prometheus is told: differences, counted once, under labels that nobody can multiply."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from dataclasses import replace

import pytest

from controller.errors import ClusterRefused
from controller.ledger import Ledger, Lost, RestartCost
from controller.metrics import Metrics, listening
from controller.model import Phase, Reason, Status, StorageTrouble
from tests.builders import T0, job, running

COST = RestartCost(1, Reason.TRAINER_KILLED, Lost(detection=1, recompute=2), over=True)
AFTER = running(
    restarts_by_reason=((Reason.TRAINER_KILLED, 2), ("made up", 1)),
    ledger=Ledger(useful=9, other=1, lost=COST.lost, restarts=(COST,)),
)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"namespace": "default", **labels})


def looked(*statuses: Status) -> Metrics:
    metrics, before = Metrics(), Status()
    for status in statuses:
        metrics.looked(before, job(status))
        before = status
    return metrics


def test_counters_rise_by_what_is_new() -> None:
    again = replace(AFTER, restarts_by_reason=((Reason.TRAINER_KILLED, 3),))
    metrics = looked(AFTER, AFTER, again)
    assert value(metrics, "taas_restarts_total", reason="TrainerKilled") == 3
    assert value(metrics, "taas_restarts_total", reason="Other") == 1
    assert value(metrics, "taas_job_seconds_total", part="useful") == 9
    assert value(metrics, "taas_job_seconds_total", part="recompute") == 2
    assert value(metrics, "taas_restart_cost_seconds_count") == 1
    assert value(metrics, "taas_restart_cost_seconds_sum") == 3


def test_gauges_are_of_jobs_that_go_on() -> None:
    metrics = looked(replace(AFTER, storage_trouble=StorageTrouble("full", T0), progress_at=T0))
    assert value(metrics, "taas_jobs", phase="Running") == 1
    assert value(metrics, "taas_job_goodput_ratio", job="job") == pytest.approx(9 / 13)
    assert value(metrics, "taas_job_storage_failing", job="job") == 1
    metrics.looked(AFTER, job(replace(AFTER, phase=Phase.SUCCEEDED)))
    assert value(metrics, "taas_jobs", phase="Running") is None
    assert value(metrics, "taas_job_goodput_ratio", job="job") is None


def test_a_job_that_never_started_is_counted_and_no_more() -> None:
    metrics = looked(replace(AFTER, phase=Phase.PENDING, started=None))
    assert value(metrics, "taas_jobs", phase="Pending") == 1
    assert value(metrics, "taas_job_goodput_ratio", job="job") is None
    assert value(metrics, "taas_job_storage_failing", job="job") is None


def test_passes_are_timed() -> None:
    metrics = Metrics()
    metrics.passed(0.004, 0.3)
    metrics.passed(0.006, 0.1)
    sample = metrics.registry.get_sample_value
    assert sample("taas_pass_delay_seconds_bucket", {"le": "0.005"}) == 1
    assert sample("taas_pass_delay_seconds_count") == 2
    assert sample("taas_pass_seconds_sum") == pytest.approx(0.4)


def test_agents_are_counted_when_asked_for() -> None:
    connected = [1, 2, 3]
    metrics = Metrics(lambda: len(connected))
    assert metrics.registry.get_sample_value("taas_agents") == 3
    connected.pop()
    assert metrics.registry.get_sample_value("taas_agents") == 2


def fetched(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.read().decode())


async def test_they_are_served_in_the_format_of_prometheus() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with listening(address, looked(AFTER)):
        text = await asyncio.to_thread(fetched, f"http://{address}/metrics")
        assert 'taas_restarts_total{namespace="default",reason="TrainerKilled"} 2.0' in text
        with pytest.raises(ClusterRefused, match=f"{address}: cannot be listened at"):
            async with listening(address, Metrics()):
                pass


async def test_by_default_nobody_listens() -> None:
    async with listening("", Metrics()):
        pass
