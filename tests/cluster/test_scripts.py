"""Programs that were written for TensorFlow's and Kubeflow's own ways, across nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import shapes
from tests.cluster.team import Team


@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda shape: shape.name)
def test_a_program_trains_unchanged_on_one_two_and_three_workers(
    team: Team, tmp_path: Path, shape: shapes.Shape
) -> None:
    shapes.check(team.client, shape, tmp_path)
