"""A fault at a moment that is caught and not hoped for; benchmarks/faults.py has all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cells import LOCAL, Cell, Fault, Moment
from tests.faults.chaos import Plan, chaos, undisturbed
from tests.faults.local import LocalSite
from tests.faults.trial import Calm, calm, trial
from tests.service.world import Service

SEED = 5
CHAOS_STEPS, CHAOS_FAULTS = 500, 5


@pytest.fixture(scope="module")
def site(service: Service) -> LocalSite:
    return LocalSite(service)


@pytest.fixture(scope="module")
def undisturbed_job(site: LocalSite) -> Iterator[Calm]:
    with tempfile.TemporaryDirectory(prefix="taas-calm-") as folder:
        yield calm(site, Path(folder) / "calm")


@pytest.mark.parametrize(
    ("fault", "moment"),
    [
        (Fault.TRAINER_KILLED, Moment.SAVING),
        (Fault.POD_DELETED, Moment.RESTORING),
        (Fault.POD_EVICTED, Moment.BEFORE_CHECKPOINT),
        (Fault.CONTROLLER_KILLED, Moment.FINISHING),
    ],
)
def test_a_fault_at_its_moment(
    site: LocalSite, undisturbed_job: Calm, fault: Fault, moment: Moment
) -> None:
    result = trial(site, Cell(fault, moment, LOCAL), undisturbed_job)
    assert result.right, result


def test_faults_at_random(site: LocalSite) -> None:
    digests = undisturbed(site, CHAOS_STEPS)
    outcome = chaos(site, Plan(SEED, CHAOS_STEPS, lambda n: n < CHAOS_FAULTS), digests)
    assert not outcome.wrong, outcome
