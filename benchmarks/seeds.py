"""The table of results in examples/README.md: each example submitted like a user's job.

    python -m benchmarks.seeds [ROW...] [--workers 1 2 3] [--again] [--list]

Runs what has no result yet, one job at a time, and writes results/seeds.json and the table after
each. A result belongs to the example's program and parameters; when these change it is run again.
Stopped, by Ctrl-C or anything else, it goes on where it was: jobs and their checkpoints lie in
--home (build/seeds).
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import taas
from benchmarks import machine, seed_rows
from benchmarks.seed_rows import Row
from protos.taas.v1.job_pb2 import PHASE_SUCCEEDED, TrainingJobSpec
from taas import documents, names
from taas.service import LocalService, module_command, module_environment

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
RESULTS = Path(__file__).parent / "results/seeds.json"
README = EXAMPLES / "README.md"
BEGIN, END = "<!-- results: python -m benchmarks.seeds -->", "<!-- end of results -->"
# Loss curves are compared at the checkpoints, which are at the same steps in every run.
_CURVE_POINTS = 20


def folder_of(row: Row) -> Path:
    """Return the folder of the example's own files."""
    path = EXAMPLES / row.source
    return path if path.is_dir() else path.parent


def fingerprint(row: Row) -> str:
    """Return a digest of the example's program and parameters; its data sets are not in it."""
    digest = hashlib.sha256(row.command.encode())
    for path in sorted(folder_of(row).glob("*")):
        if path.is_file() and path.suffix != ".md":
            content = path.read_bytes()
            digest.update(path.name.encode() + b"\0")
            digest.update(_program(content) if path.suffix == ".py" else content)
    return digest.hexdigest()[:12]


def _program(source: bytes) -> bytes:
    """Return what a program does, without its header and its comments."""
    tree = ast.parse(source)
    if ast.get_docstring(tree) is not None:
        del tree.body[0]
    return ast.dump(tree).encode()


def submit(client: taas.Client, row: Row, workers: int, job: str) -> None:
    """Create the job, unless a run that was stopped has created it."""
    path = EXAMPLES / row.source
    spec = TrainingJobSpec()
    if path.suffix == ".yaml":
        document = documents.load(path)
        assert document.source is not None
        spec.CopyFrom(document.spec)
        path = document.source
    if row is seed_rows.FULL:
        spec.checkpoints.every_steps = 5000 // _CURVE_POINTS
        spec.checkpoints.keep_last = _CURVE_POINTS
    try:
        client.submit(path, name=job, workers=workers, parameters=row.parameters, spec=spec)
    except taas.AlreadyExists:
        print(f"{job}: goes on", flush=True)


def follow(client: taas.Client, row: Row, job: str) -> dict[str, dict[str, float]]:
    """Watch the job to its end; return the newest evaluation of each data set."""
    evaluations: dict[str, dict[str, float]] = {}
    for event in client.watch(job):
        if event.record.HasField("evaluation"):
            evaluation = event.record.evaluation
            evaluations[evaluation.dataset] = dict(evaluation.metrics)
    done = client.get(job)
    if done.status.phase != PHASE_SUCCEEDED:
        raise SystemExit(
            f"{row.key}: the job {job} is {names.phase_name(done.status.phase)}: "
            f"{done.status.last_failure.message}\n{done.status.last_failure.details}"
        )
    return evaluations


def ask(home: Path, job: str, table: Path) -> list[float]:
    """Return the exported model's answers to a table, one number a row."""
    command = [*module_command("taas"), "predict", job, str(table), "--output", "json"]
    environment = {**module_environment(), "TAAS_HOME": str(home)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return [json.loads(line)["values"][0] for line in done.stdout.splitlines()]


def run(client: taas.Client, home: Path, row: Row, workers: int, job: str) -> dict[str, Any]:
    """Run one cell of the table and return what the JSON file keeps of it."""
    load = os.getloadavg()[0]
    submit(client, row, workers, job)
    evaluations = follow(client, row, job)
    status = client.get(job).status
    kind, _, what = row.measure.partition("/")
    asked = kind == "ask"
    values = ask(home, job, folder_of(row) / what) if asked else [evaluations[kind][what]]
    return {
        "values": values,
        "evaluations": evaluations,
        "losses": {str(c.step): c.metrics["loss"] for c in client.checkpoints(job)},
        "steps": status.progress.step,
        "seconds": round(status.completion_time.ToSeconds() - status.start_time.ToSeconds()),
        "restarts": status.restarts,
        "load_average_before": load,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(document: Mapping[str, Any]) -> None:
    """Write the JSON file, and the table into the README."""
    RESULTS.parent.mkdir(exist_ok=True)
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(document, indent=2) + "\n")
    part.replace(RESULTS)
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{_section(document)}\n{END}{after}")


def _section(document: Mapping[str, Any]) -> str:
    about, results = document["machine"], document["results"]
    times = [cell["time"] for cells in results.values() for cell in cells.values()]
    versions = about["versions"]
    flow = next(
        (f"{n} {versions[n]}" for n in ("tensorflow-cpu", "tensorflow") if n in versions), ""
    )
    where = f"{about['cpu']}, {about['cores']} cores; {flow}, Keras {versions['keras']}"
    days = sorted({time[:10] for time in times})
    when = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "nothing yet"
    return f"{seed_rows.table(results)}\n\nMeasured: {when}, on {where}."


def main() -> int:
    """Run what is due."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds")
    known = {row.key: row for row in seed_rows.ROWS}
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these; --list names them")
    parser.add_argument("--workers", nargs="+", type=int, default=list(seed_rows.WORKERS))
    parser.add_argument("--home", type=Path, default=ROOT / "build/seeds", help="state folder")
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--list", action="store_true", help="say what is due and end")
    arguments = parser.parse_args()
    if unknown := [key for key in arguments.rows if key not in known]:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(known)}")
    chosen = [known[key] for key in arguments.rows or known]
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"results": {}}
    document["machine"] = machine.describe()
    results = document["results"]
    fingerprints = {row.key: fingerprint(row) for row in seed_rows.ROWS}
    wanted = list(
        seed_rows.due(chosen, arguments.workers, {} if arguments.again else results, fingerprints)
    )
    if arguments.list:
        for row, workers in wanted:
            print(f"{row.key} with {workers}: {row.command}")
        return 0
    _run(arguments.home.absolute(), wanted, document, fingerprints)
    print(_section(document))
    complaints = [c for n in arguments.workers for c in seed_rows.out_of_order(results, n)]
    for complaint in complaints:
        print(f"out of order: {complaint}")
    return 1 if complaints else 0


def _run(home: Path, wanted: list[Any], document: dict[str, Any], digests: dict[str, str]) -> None:
    service = LocalService(home)
    service.start(lasting=True)
    try:
        with taas.Client(service.target) as client:
            for row, workers in wanted:
                digest = digests[row.key]
                job = names.job_id_from(f"{row.key}-w{workers}-{digest}")
                cell = {**run(client, home, row, workers, job), "fingerprint": digest}
                document["results"].setdefault(row.key, {})[str(workers)] = cell
                write(document)
                client.delete(job)
                values = ", ".join(f"{value:.4f}" for value in cell["values"])
                reached = "reached" if row.reaches(cell["values"]) else "NOT REACHED"
                print(
                    f"{row.key} with {workers}: {values} after {cell['seconds']} s; "
                    f"{row.recipe}: {reached}",
                    flush=True,
                )
    finally:
        service.stop()


if __name__ == "__main__":
    sys.exit(main())
