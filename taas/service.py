"""Finds, starts and stops the service of this user on this machine.

Everything of it lies under one state folder; one unix socket in it (or, when that path is too
long for a socket, in a private folder under /tmp) is where it listens.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from protos.taas.v1.training_service_pb2 import ServiceInfo
from taas.client import Client
from taas.errors import ServiceUnavailable, TaasError
from taas.location import check_private, socket_path, state_folder, target_of

_LOG_LIMIT_BYTES = 10 << 20
_START_S = 60.0
# The service answers its open calls and closes its files; workers are not waited for.
_STOP_S = 30.0
# Workers save before they go; the longest grace a job may ask for is for the service to know.
_STOP_WORKERS_S = 600.0


def module_command(module: str) -> list[str]:
    """Return the command that runs one of this project's modules with this interpreter.

    -P: the working folder may hold a module of the same name, so it is not searched.
    """
    return [sys.executable, "-P", "-m", module]


def module_environment() -> dict[str, str]:
    """Return the environment for `module_command`; it also works from a checkout."""
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parent.parent)
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{inherited}" if inherited else root
    return environment


class LocalService:
    """The service of one state folder on this machine."""

    def __init__(self, home: Path | None = None, *, command: Sequence[str] | None = None) -> None:
        self.home = home or state_folder()
        self.socket = socket_path(self.home)
        self.target = target_of(self.home)
        self.log = self.home / "controller.log"
        self._command = list(command or module_command("controller"))

    def info(self) -> ServiceInfo | None:
        """Return what the service says of itself, None if none answers."""
        if not self.socket.exists():
            return None
        with Client(self.target, retry_for_s=0) as client:
            try:
                return client.service_info()
            except ServiceUnavailable:
                return None

    def start(self) -> bool:
        """Make sure that the service runs; return True if this call started it.

        Raises ServiceUnavailable, with the end of the service's log, if it cannot be started.
        """
        if self.info() is not None:
            return False
        self._make_folders()
        with self._lock():
            # Somebody else may have started it while this process waited for the lock.
            if self.info() is not None:
                return False
            self._spawn()
        return True

    def stop(self, *, keep_jobs: bool = False) -> bool:
        """Stop the service, and its workers unless keep_jobs; return False if there was nothing.

        Workers save first. Jobs that were not final go on when the service is started again.
        """
        info = self.info()
        if info is not None:
            _end_process(info.pid)
        if not keep_jobs and self.home.exists():
            self._stop_workers()
        return info is not None

    def _make_folders(self) -> None:
        for folder in (self.home, self.socket.parent):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ServiceUnavailable(
                    f"{folder}: {error.strerror}; set TAAS_HOME to a folder of yours"
                ) from error
        if not os.access(self.home, os.W_OK | os.X_OK):
            raise ServiceUnavailable(
                f"{self.home} is not writable; set TAAS_HOME to a folder of yours"
            )
        if self.socket.parent != self.home:
            check_private(self.socket.parent)

    def _spawn(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            begin = log.tell()
            process = subprocess.Popen(
                [*self._command, "--home", str(self.home), "--socket", str(self.socket)],
                cwd=self.home,
                env=module_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in this terminal is not for the service
            )
        # Reaps the service should it end before this process does.
        threading.Thread(target=process.wait, name="reap service", daemon=True).start()
        deadline = time.monotonic() + _START_S
        while self.info() is None:
            if process.poll() is not None:
                raise ServiceUnavailable(self._death_notice(process.returncode, begin))
            if time.monotonic() > deadline:
                process.kill()
                raise ServiceUnavailable(
                    f"the service did not come up within {_START_S:.0f} s; its log: {self.log}"
                )
            time.sleep(0.05)

    def _death_notice(self, code: int, begin: int) -> str:
        with self.log.open("rb") as log:
            log.seek(begin)
            text = log.read().decode("utf-8", "replace")
        lines = [line for line in text.splitlines() if line.strip()][-12:]
        notice = f"the service ended at once (exit code {code}); the end of {self.log}:"
        hint = ""
        if "ModuleNotFoundError" in text and importlib.util.find_spec("grpc_health") is None:
            hint = '\nfor a service on this machine: pip install "taas[controller,trainer]"'
        return "\n".join([notice, *(f"    {line}" for line in lines)]) + hint

    def _stop_workers(self) -> None:
        command = [*self._command, "--home", str(self.home), "--socket", str(self.socket)]
        try:
            done = subprocess.run(
                [*command, "--stop-workers"],
                cwd=self.home,
                env=module_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_STOP_WORKERS_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TaasError(
                f"workers are still running after {_STOP_WORKERS_S:.0f} s; "
                f"their logs are below {self.home}"
            ) from error
        if done.returncode != 0:
            tail = "\n".join(f"    {line}" for line in done.stderr.strip().splitlines()[-12:])
            raise TaasError(f"stopping the workers failed (exit code {done.returncode}):\n{tail}")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.home / "start.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _end_process(pid: int) -> None:
    """End the service's own process with SIGTERM, with SIGKILL if it does not listen."""
    if pid <= 0:
        raise ServiceUnavailable("the service does not say its process id; stop it by hand")
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            if not _alive(pid):
                return
            time.sleep(0.02)
    raise ServiceUnavailable(f"process {pid} of the service cannot be ended")


def _alive(pid: int) -> bool:
    """Say whether the process runs; one that ended and was not reaped yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        return False
    return state.split()[0] not in ("Z", "X")
