"""The running services that faults are measured on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import access, installed, layout, lifecycle
from tests.cluster.team import new_namespace, team_in
from tests.faults.cells import LOCAL
from tests.faults.cluster import ClusterSite
from tests.faults.local import LocalSite
from tests.faults.site import Site
from tests.service.small_disk import small_disk
from tests.service.world import Service


@contextmanager
def on_own_cluster(folder: Path) -> Iterator[installed.Service]:
    """The present code's service on the test cluster, which must be up."""
    if not lifecycle.healthy():
        raise SystemExit("no test cluster runs here: python -m tests.cluster up")
    lifecycle.up()
    with installed.installed(access.own(), folder) as service:
        yield service


@contextmanager
def sites(backend: str, folder: Path) -> Iterator[Mapping[bool, Site]]:
    """The service on a backend; True: on a small disk."""
    if backend == LOCAL:
        service = Service(Path(tempfile.mkdtemp(prefix="taas-")))
        service.start()
        try:
            with small_disk(layout.SMALL_DISK_MB) as small:
                yield {False: LocalSite(service), True: LocalSite(small, small=True)}
        finally:
            service.close()
        return
    with (
        on_own_cluster(folder) as on_cluster,
        new_namespace(on_cluster.cluster) as name,
        new_namespace(on_cluster.cluster) as other,
        team_in(on_cluster, name) as team,
        team_in(on_cluster, other, place=layout.SMALL_DISK) as little,
    ):
        yield {False: ClusterSite(team), True: ClusterSite(little, small=True)}
