"""Keras' own fit, evaluate and predict in a group give what they give in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.training import packages
from tests.training.features import FEATURES
from tests.training.keras_group import Found, Group

pytestmark = pytest.mark.training

# The minor release before the installed one.
BEFORE = "keras==3.14.1"
# A strategy for one worker has a context of its own, into which not all of Keras fits.
OF_ONE = (
    "arrays",
    "several_steps_an_execution",
    "mixed_precision",
    "moving_average_that_overwrites",
    "accumulated_gradients",
    "weight_decay",
)
# No batch divides evenly by three; these depend on it most.
OF_THREE = (
    "arrays",
    "a_last_batch_of_one_row",
    "tf_data",
    "several_steps_an_execution",
    "dropout",
    "evaluation",
)
OF_OTHERS = {"one": (OF_ONE, 1), "three": (OF_THREE, 3)}
# What reaches most of the places that are mended.
OF_BEFORE = (
    "arrays",
    "a_last_batch_that_does_not_divide",
    "py_dataset",
    "evaluation",
    "masked_sequences",
    "several_steps_an_execution",
    "dropout",
    "mixed_precision",
    "callbacks_that_write",
)

Runs = Callable[[str], tuple[Found, list[Found], str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return what one process and a group have found, by the group's name; each runs once."""
    made: dict[str, Any] = {}

    def start(name: str, features: Any, workers: int, *requirements: str) -> Group:
        folders = [packages.folder_of(r) for r in requirements]
        return Group(list(features), workers, tmp_path_factory.mktemp(name), folders)

    def get(name: str) -> tuple[Found, list[Found], str]:
        if name not in made:
            if name == "before":
                pair = [start(name, OF_BEFORE, workers, BEFORE) for workers in (0, 2)]
            elif name in ("one", "three"):
                pair = [start(name, *OF_OTHERS[name])]
            else:
                pair = [start(name, FEATURES, workers) for workers in (0, 2)]
            found = [group.found() for group in pair]
            alone = found[0][0] if len(pair) == 2 else get("two")[0]
            made[name] = alone, found[-1], "\n".join(group.logs() for group in pair)
        return made[name]

    return get


def assert_same(runs: Runs, name: str, feature: str) -> None:
    alone, members, logs = runs(name)
    assert feature in alone, logs
    for position, member in enumerate(members):
        assert feature in member, logs
        assert member[feature].keys() == alone[feature].keys()
        for what, value in alone[feature].items():
            np.testing.assert_allclose(
                np.asarray(member[feature][what], np.float64),
                np.asarray(value, np.float64),
                atol=TOLERANCE.get(feature, 2e-5),
                rtol=0,
                err_msg=f"{what} of worker {position}",
            )


# Where sums are rounded to few digits, their order shows.
TOLERANCE = {"mixed_precision": 5e-3, "synchronized_batch_normalization": 2e-4}


@pytest.mark.parametrize("feature", FEATURES)
def test_two_workers_equal_one_process(runs: Runs, feature: str) -> None:
    assert_same(runs, "two", feature)


@pytest.mark.parametrize("feature", OF_ONE)
def test_a_strategy_of_one_worker_equals_one_process(runs: Runs, feature: str) -> None:
    assert_same(runs, "one", feature)


@pytest.mark.parametrize("feature", OF_THREE)
def test_three_workers_equal_one_process(runs: Runs, feature: str) -> None:
    assert_same(runs, "three", feature)


@pytest.mark.parametrize("feature", OF_BEFORE)
def test_the_minor_release_before_is_mended_as_well(runs: Runs, feature: str) -> None:
    assert_same(runs, "before", feature)
    assert runs("before")[0]["keras"] == BEFORE.removeprefix("keras==")


def test_one_line_says_what_was_mended(runs: Runs) -> None:
    logs = runs("two")[2]
    said = [line for line in logs.splitlines() if "mended" in line]
    assert len(said) == 3, said
