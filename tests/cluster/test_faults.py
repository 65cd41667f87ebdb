"""Faults made from outside of the containers, at moments that are caught."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.installed import Service
from tests.cluster.team import new_namespace, team_in
from tests.faults.cells import KUBERNETES, Cell, Fault, Moment
from tests.faults.cluster import ClusterSite
from tests.faults.site import Site
from tests.faults.trial import Calm, calm, trial


@pytest.fixture(scope="module")
def site(service: Service) -> Iterator[Site]:
    with new_namespace(service.cluster) as name, team_in(service, name) as team:
        yield ClusterSite(team)


@pytest.fixture(scope="module")
def undisturbed_job(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder: Path = tmp_path_factory.mktemp("calm")
    return calm(site, folder / "calm")


@pytest.mark.parametrize(
    ("fault", "moment"),
    [
        (Fault.TRAINER_OUT_OF_MEMORY, Moment.MID_STEP),
        (Fault.POD_DELETED, Moment.SAVING),
        (Fault.POD_EVICTED, Moment.BEFORE_CHECKPOINT),
        (Fault.CUT_OFF, Moment.RESTORING),
    ],
)
def test_a_fault_at_its_moment(
    site: Site, undisturbed_job: Calm, fault: Fault, moment: Moment
) -> None:
    result = trial(site, Cell(fault, moment, KUBERNETES), undisturbed_job)
    assert result.right, result
