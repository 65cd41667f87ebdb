"""The fault matrix is whole, and its table shows what became of each cell."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks import faults
from taas import names
from tests.faults.cells import BACKENDS, KUBERNETES, LOCAL, Cell, Fault, Moment, Result, cells


def test_every_fault_strikes_at_every_moment_where_it_can() -> None:
    assert len(cells(KUBERNETES)) == len(Fault) * len(Moment)
    missing = {cell.fault for cell in cells(KUBERNETES)} - {cell.fault for cell in cells(LOCAL)}
    assert missing == {Fault.CUT_OFF}


def test_each_cell_has_a_job_of_its_own() -> None:
    for backend in BACKENDS:
        found = [cell.name for cell in cells(backend)]
        assert len(set(found)) == len(found)
        assert all(names.resource_name(name, "default") for name in found)


def stored(result: Result) -> dict[str, object]:
    """Return a result as the benchmark keeps it."""
    return asdict(result) | {"time": "2026-01-02T03:04:05+00:00", "load": 0.5}


def test_the_table_has_a_row_for_each_fault_and_backend() -> None:
    results = {
        Cell(Fault.TRAINER_KILLED, Moment.SAVING, LOCAL).key: stored(Result("", {}, 7, 1.25)),
        Cell(Fault.CONTROLLER_KILLED, Moment.MID_STEP, LOCAL).key: stored(Result("", {}, 0, None)),
        Cell(Fault.CUT_OFF, Moment.MID_STEP, KUBERNETES).key: stored(Result("no", {}, 0, None)),
    }
    text = faults.table(results)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(Fault) * len(BACKENDS)
    assert {len(row) for row in rows} == {2 + len(Moment)}
    assert "7 steps, 1.2 s" in text
    assert "trains on" in text
    assert "**wrong: no**" in text
    assert "3 cells, 2 as promised; 2026-01-02 to 2026-01-02" in text
