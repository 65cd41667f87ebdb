"""The table of results: what is due, what is shown, and what is complained about."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import seed_rows, seeds


def cell(*values: float, losses: dict[str, float] | None = None) -> dict[str, Any]:
    return {"values": list(values), "fingerprint": "now", "losses": losses or {}}


BY_KEY = {row.key: row for row in seed_rows.ROWS}
NOW = dict.fromkeys(BY_KEY, "now")


def test_a_run_goes_on_where_it_stopped_and_repeats_what_changed() -> None:
    rows = [BY_KEY["iris"], BY_KEY["sine"]]
    results = {"iris": {"1": cell(0.97), "2": {**cell(0.9), "fingerprint": "before"}}}
    found = [(row.key, n) for row, n in seed_rows.due(rows, [1, 2], results, NOW)]
    assert found == [("iris", 2), ("sine", 1), ("sine", 2)]


def test_the_table_shows_what_was_seen_and_nothing_else() -> None:
    lines = seed_rows.table({"iris": {"2": cell(0.96667)}, "sine": {"1": cell(0.0061)}})
    iris = next(line for line in lines.splitlines() if line.startswith("| Iris "))
    sine = next(line for line in lines.splitlines() if "sine" in line)
    assert iris == (
        "| Iris | test accuracy 0.93 | not run | 0.9667 | not run | `taas run examples/iris` |"
    )
    assert "| **0.0061** | not run | not run |" in sine


@pytest.mark.parametrize(
    ("key", "value", "reached"),
    [
        pytest.param("iris", (0.93,), True, id="as good"),
        pytest.param("iris", (0.929,), False, id="worse"),
        pytest.param("no-l2", (0.9792,), True, id="about"),
        pytest.param("sine", (0.005,), True, id="lower is better"),
        pytest.param("sine", (0.0051,), False, id="too high"),
        pytest.param("custom-loss-little", (1.029, 1.031), True, id="close"),
        pytest.param("custom-loss-little", (1.02, 1.055), False, id="one is not close"),
    ],
)
def test_a_result_is_held_against_the_recipe(
    key: str, value: tuple[float, ...], reached: bool
) -> None:
    assert BY_KEY[key].reaches(value) is reached


def test_curves_are_compared_at_the_steps_that_both_have() -> None:
    results = {
        seed_rows.FULL.key: {
            "1": cell(0.98, losses={"250": 0.5, "500": 0.25}),
            "2": cell(0.98, losses={"250": 0.5625, "500": 0.25, "750": 9}),
        }
    }
    assert "| the same, its loss curve | that of one worker | 0 | 6.2e-02 apart | not run |" in (
        seed_rows.table(results)
    )
    assert seed_rows.apart({}, {"1": 2.0}) is None


def test_ablations_must_stand_in_the_order_of_the_recipe() -> None:
    good = {"no-l2": 0.982, "fixed-rate": 0.975, "no-activation": 0.915, "no-hidden": 0.89}
    results = {key: {"1": cell(value)} for key, value in good.items()}
    results[seed_rows.FULL.key] = {"1": cell(0.981)}
    assert seed_rows.out_of_order(results, 1) == []
    assert seed_rows.out_of_order(results, 2) == []
    results["no-hidden"] = {"1": cell(0.92)}
    assert seed_rows.out_of_order(results, 1) == ["no-hidden 0.9200 is above no-activation 0.9150"]


def test_the_fingerprint_follows_the_parameters() -> None:
    prints = [seeds.fingerprint(row) for row in seed_rows.ROWS]
    assert len(set(prints)) == len(prints)
