"""The two sides of `service_overhead`: the demo's training through the service, and a bare loop."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

import taas
from protos.taas.v1.job_pb2 import PHASE_RUNNING
from taas.service import LocalService

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "examples/mnist_lenet5"
WORKERS = 2
TRAINERS = "trainers"
# Of a hung program only.
_BOUND_S = 600

# Every Python process of a worker runs this before anything else: agent, warm process and
# trainer inherit the core, as in a container that has one.
_PINNING = """\
import os
if (worker := os.environ.get("TAAS_WORKER_INDEX")) is not None:
    from benchmarks.bare_loop import pin
    pin(int(worker))
"""


class Stamps:
    """The ends of a program's calls, as a thread of its own takes them in."""

    def __init__(self) -> None:
        self._stamps: list[tuple[float, float]] = []
        self._changed = threading.Condition()
        self._ended: str | None = None

    def add(self, at: float, step: int) -> None:
        """Note that so many steps were done at `at`, seconds since the epoch."""
        with self._changed:
            self._stamps.append((at, step))
            self._changed.notify_all()

    def end(self, why: str) -> None:
        """Note that no more will come."""
        with self._changed:
            self._ended = why
            self._changed.notify_all()

    def all(self) -> Sequence[tuple[float, float]]:
        """Return them all; fails if the program ended by itself, which none should."""
        with self._changed:
            if self._ended is not None:
                raise SystemExit(f"a side ended before its time: {self._ended}")
            return list(self._stamps)

    def wait_for(self, step: int) -> None:
        """Wait until so many steps are done."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._ended is not None or (self._stamps and self._stamps[-1][1] >= step),
                _BOUND_S,
            )
        if not done or self._ended is not None:
            raise SystemExit(f"no step {step} within {_BOUND_S} s: {self._ended or 'it hangs'}")


class Service:
    """The demo's training through a service of its own, watched by a client."""

    name = "service"

    name = "service"

    def __init__(self, source: Path, scratch: Path, parameters: Mapping[str, str]) -> None:
        self._home = scratch / "home"
        self._service = LocalService(self._home)
        self._service.start()
        info = self._service.info()
        assert info is not None
        self._controller = psutil.Process(info.pid)
        self._stamps = Stamps()
        self.checkpoint_times: list[float] = []
        self._client = taas.Client(self._service.target)
        self._job = self._client.submit(
            source, name="bench", workers=WORKERS, parameters=parameters
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            for event in self._client.watch(self._job.name):
                record = event.record
                at = record.time.seconds + record.time.nanos / 1e9
                if record.HasField("progress"):
                    self._stamps.add(at, record.progress.step)
                elif record.HasField("checkpoint"):
                    self.checkpoint_times.append(at)
            self._stamps.end("the job did")
        except taas.TaasError as error:
            self._stamps.end(str(error))

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """The controller, and below it agents, warm processes and trainers."""
        return [("controller", self._controller), *self._workers()]

    def _workers(self) -> Iterator[tuple[str, psutil.Process]]:
        for process in self._controller.children(recursive=True):
            with suppress(psutil.Error):
                yield (TRAINERS if process.name() == "taas-trainer" else "agents"), process

    def stamps(self) -> Sequence[tuple[float, float]]:
        """When the chief said how many steps were done."""
        return self._stamps.all()

    def wait_for(self, step: int) -> None:
        """Wait until so many steps are done."""
        self._stamps.wait_for(step)

    def check(self) -> None:
        """Fail unless the job trained through without a restart."""
        status = self._client.get(self._job.name).status
        if status.phase != PHASE_RUNNING or status.restarts:
            raise SystemExit(f"the job was disturbed: {status}")

    def close(self) -> None:
        """End it all; nobody asks for its model."""
        self._client.delete(self._job.name)
        self._client.close()
        self._service.stop()
        shutil.rmtree(self._home, ignore_errors=True)


class BareLoop:
    """Two processes of `bare_loop`."""

    name = "bare loop"

    def __init__(self, source: Path, scratch: Path, parameters: Mapping[str, str]) -> None:
        cluster = ",".join(f"127.0.0.1:{port}" for port in _free_ports(WORKERS))
        options = [text for key, value in parameters.items() for text in ("-p", f"{key}={value}")]
        command = [sys.executable, "-m", "benchmarks.bare_loop", str(source)]
        self._log = scratch / "bare.log"
        self._stamps = Stamps()
        with self._log.open("ab") as log:
            self._workers = [
                subprocess.Popen(
                    [*command, str(position), cluster, *options],
                    cwd=ROOT,
                    env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
                    stdout=subprocess.PIPE if position == 0 else log,
                    stderr=log,
                    text=True,
                )
                for position in range(WORKERS)
            ]
        self._seen = [(TRAINERS, psutil.Process(worker.pid)) for worker in self._workers]
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        lines = self._workers[0].stdout
        assert lines is not None
        with lines:
            for line in lines:
                told = json.loads(line)
                self._stamps.add(told["time"], told["step"])
        self._stamps.end(self._log.read_text()[-3000:])

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """Its two workers."""
        return self._seen

    def stamps(self) -> Sequence[tuple[float, float]]:
        """When the chief said how many steps were done."""
        return self._stamps.all()

    def wait_for(self, step: int) -> None:
        """Wait until so many steps are done."""
        self._stamps.wait_for(step)

    def close(self) -> None:
        """End it."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.wait()


def check_pinning(side: Service | BareLoop) -> None:
    """Refuse to compare unless each trainer has a core, and the two sides the same."""
    found = sorted(p.cpu_affinity() for kind, p in side.processes() if kind == TRAINERS)
    cores = sorted(os.sched_getaffinity(0))
    wanted = sorted([cores[i % len(cores)]] for i in range(WORKERS))
    if found != wanted:
        raise SystemExit(f"{side.name}: the trainers are on cores {found}, not on {wanted}")


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


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return ports
