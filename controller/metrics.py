"""What Prometheus is told of the jobs: counters since this controller began, gauges of now.

Counters are raised by the difference between two statuses. Labels are bounded: what a worker
calls its failure is not one of them unless it is known.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.errors import ClusterRefused
from controller.ledger import Lost
from controller.model import Job, JobKey, Reason, Status
from controller.wire import goodput

_REASONS = frozenset(v for k, v in vars(Reason).items() if k.isupper() and isinstance(v, str))
_OTHER_REASON = "Other"
# A warm restart takes one or two seconds, one that waits for a node or for room takes minutes.
_COST_BUCKETS = (0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 900)
# A pass takes a millisecond, and one with a write as long as the store; a controller that has too
# much to do comes to it seconds late.
_PASS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


def _nobody() -> int:
    return 0


class Metrics(Collector):
    """All metrics, in a registry of their own. `agents` says how many are connected."""

    def __init__(self, agents: Callable[[], int] = _nobody) -> None:
        self.registry = CollectorRegistry()
        self._agents = agents
        self._jobs: dict[JobKey, Status] = {}  # those that are not final
        self._restarts = Counter(
            "taas_restarts",
            "Generations that ended early and were followed by another one.",
            ["namespace", "reason"],
            registry=self.registry,
        )
        self._seconds = Counter(
            "taas_job_seconds",
            "Seconds of jobs by what they were spent on, booked when the part ends.",
            ["namespace", "part"],
            registry=self.registry,
        )
        self._costs = Histogram(
            "taas_restart_cost_seconds",
            "Seconds from a fault until training was back where it had been.",
            ["namespace"],
            buckets=_COST_BUCKETS,
            registry=self.registry,
        )
        self._late = Histogram(
            "taas_pass_delay_seconds",
            "Seconds from the moment that a job is to be looked at until it is.",
            buckets=_PASS_BUCKETS,
            registry=self.registry,
        )
        self._passes = Histogram(
            "taas_pass_seconds",
            "Seconds that it takes to look at a job, its writes included.",
            buckets=_PASS_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(self)

    def passed(self, late_s: float, seconds: float) -> None:
        """Take in that a job was looked at: how late, and for how long."""
        self._late.observe(late_s)
        self._passes.observe(seconds)

    def looked(self, before: Status, job: Job) -> None:
        """Take in what a pass has made of a job's status."""
        namespace, after = job.key.namespace, job.status
        if after.phase.final:
            self._jobs.pop(job.key, None)
        else:
            self._jobs[job.key] = after
        known = dict(before.restarts_by_reason)
        for reason, count in after.restarts_by_reason:
            name = reason if reason in _REASONS else _OTHER_REASON
            self._restarts.labels(namespace, name).inc(max(0, count - known.get(reason, 0)))
        old, new = before.ledger, after.ledger
        self._spent(namespace, "useful", new.useful - old.useful)
        self._spent(namespace, "other", new.other - old.other)
        for part in Lost.__dataclass_fields__:
            self._spent(namespace, part, getattr(new.lost, part) - getattr(old.lost, part))
        over = {cost.generation for cost in old.restarts if cost.over}
        for cost in new.restarts:
            if cost.over and cost.generation not in over:
                self._costs.labels(namespace).observe(cost.lost.total)

    def forgot(self, key: JobKey) -> None:
        """Take in that a job is gone."""
        self._jobs.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges. Called by the threads of the listener."""
        jobs = list(self._jobs.items())
        phases = GaugeMetricFamily(
            "taas_jobs", "Jobs that are not final.", labels=["namespace", "phase"]
        )
        for (namespace, phase), count in Tally((k.namespace, s.phase) for k, s in jobs).items():
            phases.add_metric([namespace, phase.word], count)
        useful = GaugeMetricFamily(
            "taas_job_goodput_ratio",
            "Useful share of a job's time up to its newest progress.",
            labels=["namespace", "job"],
        )
        failing = GaugeMetricFamily(
            "taas_job_storage_failing",
            "1 while no checkpoint of a job can be saved.",
            labels=["namespace", "job"],
        )
        for key, status in jobs:
            if status.started is None:
                continue  # Thousands may be waiting, and there is nothing to tell of them.
            labels = [key.namespace, key.name]
            useful.add_metric(labels, goodput(status))
            failing.add_metric(labels, float(status.storage_trouble is not None))
        agents = GaugeMetricFamily("taas_agents", "Agents of workers that are connected.")
        agents.add_metric([], self._agents())
        yield from (agents, phases, useful, failing)

    def _spent(self, namespace: str, part: str, seconds: float) -> None:
        if seconds > 0:
            self._seconds.labels(namespace, part).inc(seconds)


@asynccontextmanager
async def listening(address: str, metrics: Metrics) -> AsyncIterator[None]:
    """Answer GET /metrics at HOST:PORT while the block runs; at "" nobody listens. Without TLS
    and without asking who calls. Raises ClusterRefused."""
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), metrics.registry)
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterRefused(f"{address}: cannot be listened at: {error}") from error
    try:
        yield
    finally:
        # It looks up every half second only.
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
