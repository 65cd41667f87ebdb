"""The same for the readers of outside files that need TensorFlow."""

from __future__ import annotations

import pytest

from tests.fuzz import data_targets
from tests.fuzz.engine import CORPUS, Target, fuzz

pytestmark = [
    pytest.mark.training,
    # Keras 3.15 has TensorFlow's tensors made into arrays of NumPy 2 in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

INPUTS = 30
NAMES = (
    "data-idx",
    "data-csv",
    "data-tfrecord",
    "data-picture",
    "data-weights",
    "data-checkpoint",
)


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    found = data_targets.targets(tmp_path_factory.mktemp("fuzz"))
    return {target.name: target for target in found}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found(every: dict[str, Target], name: str) -> None:
    assert not fuzz(every[name], INPUTS, seed=1).findings


def test_every_target_and_kept_input_is_tested(every: dict[str, Target]) -> None:
    assert every.keys() == set(NAMES)
    kept = {path.name for path in CORPUS.iterdir() if path.name.startswith("data-")}
    assert kept <= set(NAMES)
