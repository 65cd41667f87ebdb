"""What the service costs: the demo's training through all of it, beside a bare loop.

    python -m benchmarks.service_overhead [--rounds 4] [--steps 2000] [--warm-up 200]

Both sides train LeNet-5 on MNIST with two workers, each on a core of its own, and are run in
turn. Rates are examples per second between the chief's own time stamps of its steps, after the
warm-up; starting and ending are not in it, checkpoints of the default policy and everything that
agents and controller do meanwhile are. Since a wall clock on a shared machine lies, the CPU
seconds a step of all processes of each side are given as well.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

import taas
from benchmarks import machine
from protos.taas.v1.job_pb2 import PHASE_SUCCEEDED
from taas.service import LocalService

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
DEMO = ROOT / "examples/mnist_lenet5"
WORKERS = 2
# What the demo trains on; its own task module says the same.
TRAINING_DIGITS = 55_000
SERVICE, BARE = "service", "bare loop"
# Of a hung run only.
_BOUND_S = 1800

# Every Python process of a worker runs this before anything else: agent, warm process and
# trainer inherit the core, as in a container that has one.
_PINNING = """\
import os
if (worker := os.environ.get("TAAS_WORKER_INDEX")) is not None:
    from benchmarks.bare_loop import pin
    pin(int(worker))
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The chief's time at the end of a step, and CPU seconds used by then, by kind of process."""

    step: int
    time: float
    cpu_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One side's run, after its warm-up."""

    side: str
    steps: int
    seconds: float
    examples_per_s: float
    cpu_ms_a_step: Mapping[str, float]
    checkpoints: int
    load_average: float

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a step of all processes together."""
        return sum(self.cpu_ms_a_step.values())


@dataclass
class Recorder:
    """Takes in the steps of a run as they are told, with the CPU time used by then."""

    processes: Any
    samples: list[Sample] = field(default_factory=list)

    def step(self, step: int, at: float) -> None:
        """Note a step that ended at `at`, seconds since the epoch."""
        if not self.samples:
            self._check_pinning()
        cpu: dict[str, float] = {}
        for kind, process in self.processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                cpu[kind] = cpu.get(kind, 0.0) + times.user + times.system
        self.samples.append(Sample(step, at, cpu))

    def _check_pinning(self) -> None:
        """Refuse to compare unless each trainer has a core, and the two sides the same."""
        found = sorted(p.cpu_affinity() for kind, p in self.processes() if kind == "trainers")
        cores = sorted(os.sched_getaffinity(0))
        wanted = sorted([cores[i % len(cores)]] for i in range(WORKERS))
        if found != wanted:
            raise SystemExit(f"the trainers are on cores {found}, not on {wanted}")

    def run(self, side: str, *, batch: int, warm_up: int, checkpoints: int, load: float) -> Run:
        """Return the rate between the first and the last time stamp after the warm-up.

        CPU time is between the first and the last sample at which all processes still lived:
        the end of the trainers may be faster than the news of the last step.
        """
        steady = [s for s in self.samples if s.step >= warm_up]
        if len(steady) < 3:
            raise SystemExit(f"{side}: too few time stamps; give it more --steps")
        first, last = steady[0], steady[-1]
        alive = [s for s in steady if s.cpu_s.get("trainers", 0) >= first.cpu_s["trainers"]]
        end = max(alive, key=lambda s: s.cpu_s["trainers"])
        steps, seconds = last.step - first.step, last.time - first.time
        return Run(
            side,
            steps,
            seconds,
            steps * batch / seconds,
            {
                kind: 1000 * (end.cpu_s.get(kind, before) - before) / (end.step - first.step)
                for kind, before in first.cpu_s.items()
            },
            checkpoints,
            load,
        )


def run_service(source: Path, scratch: Path, parameters: Mapping[str, str], warm_up: int) -> Run:
    """Train through a service of its own."""
    load = os.getloadavg()[0]
    service = LocalService(scratch / "home")
    service.start()
    try:
        info = service.info()
        assert info is not None
        controller = psutil.Process(info.pid)
        recorder = Recorder(lambda: _of_service(controller))
        checkpoints = 0
        with taas.Client(service.target) as client:
            job = client.submit(source, name="bench", workers=WORKERS, parameters=parameters)
            for event in client.watch(job.name):
                record = event.record
                if record.HasField("progress"):
                    at = record.time.seconds + record.time.nanos / 1e9
                    recorder.step(record.progress.step, at)
                steady = bool(recorder.samples) and recorder.samples[-1].step >= warm_up
                checkpoints += steady and record.HasField("checkpoint")
            job = client.get(job.name)
        if job.status.phase != PHASE_SUCCEEDED or job.status.restarts:
            raise SystemExit(f"the job was disturbed: {job.status}")
    finally:
        service.stop()
        shutil.rmtree(scratch / "home", ignore_errors=True)
    # The last one is of the end, which the rate leaves out.
    return recorder.run(
        SERVICE,
        batch=int(parameters["batch"]),
        warm_up=warm_up,
        checkpoints=max(0, checkpoints - 1),
        load=load,
    )


def _of_service(controller: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    yield "controller", controller
    for process in controller.children(recursive=True):
        with suppress(psutil.Error):
            yield ("trainers" if process.name() == "taas-trainer" else "agents"), process


def run_bare(source: Path, scratch: Path, parameters: Mapping[str, str], warm_up: int) -> Run:
    """Train with two processes of bare_loop."""
    load = os.getloadavg()[0]
    cluster = ",".join(f"127.0.0.1:{port}" for port in _free_ports(WORKERS))
    options = [text for key, value in parameters.items() for text in ("-p", f"{key}={value}")]
    command = [sys.executable, "-m", "benchmarks.bare_loop", str(source)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    with (scratch / "bare.log").open("ab") as log:
        workers = [
            subprocess.Popen(
                [*command, str(position), cluster, *options],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE if position == 0 else log,
                stderr=log,
                text=True,
            )
            for position in range(WORKERS)
        ]
    seen = [psutil.Process(worker.pid) for worker in workers]
    recorder = Recorder(lambda: [("trainers", process) for process in seen])
    try:
        assert workers[0].stdout is not None
        last = 0.0
        for line in workers[0].stdout:
            told = json.loads(line)
            # As often as the service tells of its steps.
            if told["time"] - last >= 1 or told["step"] == _steps(parameters):
                last = told["time"]
                recorder.step(told["step"], told["time"])
        codes = [worker.wait(_BOUND_S) for worker in workers]
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()
    if any(codes):
        raise SystemExit(f"the bare loop failed: {(scratch / 'bare.log').read_text()[-3000:]}")
    return recorder.run(
        BARE, batch=int(parameters["batch"]), warm_up=warm_up, checkpoints=0, load=load
    )


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return ports


def _parameters(steps: int, batch: int) -> dict[str, str]:
    return {"batch": str(batch), "epochs": repr(steps * batch / TRAINING_DIGITS)}


def _steps(parameters: Mapping[str, str]) -> int:
    return round(float(parameters["epochs"]) * TRAINING_DIGITS / int(parameters["batch"]))


@contextmanager
def prepared() -> Iterator[tuple[Path, Path]]:
    """Yield the source folder of both sides and a scratch folder, and pin what is started."""
    with tempfile.TemporaryDirectory(prefix="taas-bench-") as folder:
        scratch, source = Path(folder), Path(folder) / "source"
        shutil.copytree(DEMO / "data", source / "data")
        shutil.copy(DEMO / "task.py", source / "lenet5.py")
        shutil.copy(Path(__file__).parent / "steps_only.py", source / "task.py")
        (scratch / "pinning").mkdir()
        (scratch / "pinning/sitecustomize.py").write_text(_PINNING)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{scratch / 'pinning'}{os.pathsep}{ROOT}"
        try:
            yield source, scratch
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before


def report(runs: list[Run], about: Mapping[str, Any]) -> dict[str, Any]:
    """Print the table and return the figures behind it."""
    sides = {side: [run for run in runs if run.side == side] for side in (SERVICE, BARE)}
    medians = {
        side: {
            "examples_per_s": statistics.median(r.examples_per_s for r in of_side),
            "cpu_ms_a_step": statistics.median(r.cpu_ms for r in of_side),
        }
        for side, of_side in sides.items()
    }
    ratios = [a.examples_per_s / b.examples_per_s for a, b in zip(*sides.values(), strict=True)]
    cpu_ratios = [a.cpu_ms / b.cpu_ms for a, b in zip(*sides.values(), strict=True)]
    table = Table(title="LeNet-5 on MNIST, two workers on a core each", title_justify="left")
    for column in ("", "examples/s", "lowest", "highest", "CPU ms/step", "checkpoints"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for side, of_side in sides.items():
        rates = [run.examples_per_s for run in of_side]
        kinds = {k: [run.cpu_ms_a_step[k] for run in of_side] for k in of_side[0].cpu_ms_a_step}
        table.add_row(
            side,
            f"{statistics.median(rates):,.0f}",
            f"{min(rates):,.0f}",
            f"{max(rates):,.0f}",
            f"{medians[side]['cpu_ms_a_step']:.2f}",
            str(sum(run.checkpoints for run in of_side)),
        )
        for kind, used in kinds.items() if len(kinds) > 1 else ():
            table.add_row(f"  {kind}", "", "", "", f"{statistics.median(used):.2f}", "")
    console = Console()
    console.print(table)
    ratio, cpu = statistics.median(ratios), statistics.median(cpu_ratios)
    console.print(
        f"service / bare loop, median of {len(ratios)} pairs: rate {ratio:.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}), CPU a step {cpu:.3f} "
        f"({min(cpu_ratios):.3f} to {max(cpu_ratios):.3f})"
    )
    console.print(
        f"{about['cpu']}, {about['cores']} cores, load average at the start "
        f"{about['load_average_at_start'][0]:.2f}"
    )
    return {"medians": medians, "rate_ratio": ratio, "rate_ratios": ratios, "cpu_ratio": cpu}


def main() -> int:
    """Run both sides in turn."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_overhead")
    parser.add_argument("--rounds", type=int, default=4, help="runs of each side (4)")
    parser.add_argument("--steps", type=int, default=2000, help="steps of a run (2000)")
    parser.add_argument("--warm-up", type=int, default=200, help="steps left out first (200)")
    parser.add_argument("--batch", type=int, default=250, help="global batch (250, the demo's)")
    arguments = parser.parse_args()
    if arguments.batch % WORKERS:
        parser.error(f"--batch must divide by {WORKERS}: the bare loop pads nothing")
    about = machine.describe()
    parameters = _parameters(arguments.steps, arguments.batch)
    runs: list[Run] = []
    began = time.monotonic()
    with prepared() as (source, scratch):
        for number in range(arguments.rounds):
            for run in (run_service, run_bare):
                done = run(source, scratch, parameters, arguments.warm_up)
                runs.append(done)
                print(
                    f"round {number + 1}, {done.side}: {done.examples_per_s:,.0f} examples/s, "
                    f"{done.cpu_ms:.2f} CPU ms a step, load average before {done.load_average:.2f}",
                    flush=True,
                )
    figures = report(runs, about)
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"service_overhead-{now:%Y%m%dT%H%M%SZ}.json"
    document = {
        "time": now.isoformat(),
        "arguments": vars(arguments),
        "machine": about,
        **figures,
        "runs": [asdict(run) for run in runs],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{path.relative_to(ROOT)} after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
