"""Programs that were written for TensorFlow's and Kubeflow's own ways run as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import shapes
from tests.service.world import Service


@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda shape: shape.name)
def test_a_program_trains_unchanged_on_one_two_and_three_workers(
    service: Service, tmp_path: Path, shape: shapes.Shape
) -> None:
    shapes.check(service.client(), shape, tmp_path)
