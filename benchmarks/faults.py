"""The fault matrix: every fault at every moment of a training, on either backend.

    python -m benchmarks.faults [local] [kubernetes] [--only TEXT] [--again]

Runs what has no good result yet (--again: everything), keeps each in results/faults-BACKEND.json,
and writes the table in docs/reliability.md, which is all it does without a backend. Needs root:
it starves processes of memory and fills disks. The Kubernetes of the tests must be up:
python -m tests.cluster up.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.sites import sites
from tests.faults.cells import BACKENDS, LOCAL, LOCALLY, Cell, Fault, Moment, Result, cells
from tests.faults.site import Site
from tests.faults.trial import calm, trial

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"

Results = dict[str, dict[str, Any]]


def tried(site: Site, cell: Cell, undisturbed: Any) -> Result:
    """A result, also of a cell that could not be brought to its end."""
    try:
        return trial(site, cell, undisturbed)
    except Exception as error:
        traceback.print_exc()
        print(site.client.get(cell.name))
        site.client.delete(cell.name, allow_missing=True)
        with suppress(Exception):
            site.mended()
        return Result(f"not brought to an end: {error}"[:500], {}, 0, None)


def kept(backend: str) -> Results:
    """The results of a backend so far."""
    path = _file(backend)
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _file(backend: str) -> Path:
    return RESULTS / f"faults-{backend}.json"


def measure(backend: str, chosen: list[Cell]) -> None:
    """Run cells of a backend, and keep each result as it comes."""
    results = kept(backend)
    with (
        tempfile.TemporaryDirectory(prefix="taas-faults-") as folder,
        sites(backend, Path(folder) / "overlay") as places,
    ):
        undisturbed = calm(places[False], Path(folder) / "calm")
        for cell in chosen:
            began = time.monotonic()
            result = tried(places[cell.fault is Fault.DISK_FULL], cell, undisturbed)
            results[cell.key] = asdict(result) | {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "load": round(os.getloadavg()[0], 1),
            }
            _file(backend).write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            write_table()
            print(f"{time.monotonic() - began:5.0f} s  {cell.key}: {shown(results[cell.key])}")


def write_table() -> None:
    """Put the table of all results into its page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    results = {key: result for backend in BACKENDS for key, result in kept(backend).items()}
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")


def table(results: Results) -> str:
    """The table, a row for each fault and backend."""
    moments = [moment.value for moment in Moment]
    lines = [f"| fault | backend | {' | '.join(moments)} |", f"|{' --- |' * (len(moments) + 2)}"]
    for fault in Fault:
        for backend in BACKENDS:
            row = [Cell(fault, moment, backend) for moment in Moment]
            shows = [
                shown(results.get(cell.key)) if cell in cells(backend) else "-" for cell in row
            ]
            name = LOCALLY.get(fault, fault.value) if backend == LOCAL else fault.value
            lines.append(f"| {name} | {backend} | {' | '.join(shows)} |")
    times = sorted(r["time"][:10] for r in results.values())
    loads = sorted(r["load"] for r in results.values())
    right = sum(not result["wrong"] for result in results.values())
    lines += [
        "",
        f"{len(results)} cells, {right} as promised; {times[0]} to {times[-1]}; "
        f"{machine.describe()['cpu']}, load average {loads[0]} to {loads[-1]}.",
    ]
    return "\n".join(lines)


def shown(result: Mapping[str, Any] | None) -> str:
    """What a cell of the table says."""
    if result is None:
        return "not run"
    if result["wrong"]:
        return f"**wrong: {result['wrong']}**"
    if result["seconds"] is None:
        return "trains on"
    return f"{result['recomputed']} steps, {result['seconds']:.1f} s"


def _backend(text: str) -> str:
    if text not in BACKENDS:
        raise argparse.ArgumentTypeError(f"{text!r} is none; there are {', '.join(BACKENDS)}")
    return text


def main() -> int:
    """Run what was asked for; fails unless all of it was as promised."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("backends", nargs="*", type=_backend, help="where to run them")
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    arguments = parser.parse_args()
    failed = 0
    for backend in arguments.backends:
        asked = [cell for cell in cells(backend) if arguments.only in cell.name]
        results = kept(backend)
        due = [c for c in asked if arguments.again or results.get(c.key, {}).get("wrong", True)]
        if due:
            measure(backend, due)
        failed += sum(bool(kept(backend)[cell.key]["wrong"]) for cell in asked)
    write_table()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
