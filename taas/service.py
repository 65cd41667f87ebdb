"""Finds, starts and stops the service of this user on this machine.

Everything of it lies under one state folder; one unix socket in it (or, when that path is too
long for a socket, in a private folder under /tmp) is where it listens.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from protos.taas.v1.training_service_pb2 import ServiceInfo
from taas import locks
from taas.client import Client
from taas.errors import InternalError, ServiceUnavailable
from taas.location import check_private, socket_path, state_folder, target_of

_LOG_LIMIT_BYTES = 10 << 20
_START_S = 60.0
# The service answers its open calls and closes its files; workers are not waited for.
_STOP_S = 30.0
# Workers save before they go; the longest grace a job may ask for is for the service to know.
_STOP_WORKERS_S = 600.0
# What the holder of the lock is at.
_STARTING = "start"
_STOPPING = "stop"

# Told once why a call waits for another process.
OnWait = Callable[[str], None]


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
        # There when the service was started by a `taas run` and is to end with the last of them.
        self.marker = self.home / "started-by-run"
        self._command = list(command or module_command("controller"))

    def info(self) -> ServiceInfo | None:
        """Return what the service says of itself, None if none answers."""
        if not self.socket.exists():
            return None
        with Client(self.target, retry_for_s=0) as client:
            try:
                return client.service_info()
            except ServiceUnavailable as error:
                if error.answered:
                    raise
                return None

    def start(self, *, lasting: bool | None = None, on_wait: OnWait | None = None) -> bool:
        """Make sure that the service runs; return True if this call started it.

        With `lasting` it stays until it is stopped; with False, if this call starts it, it ends
        with the last run (`stop_after_runs`); with None that is as it was. A stop that goes on
        is waited for, and `on_wait` told. Raises ServiceUnavailable, with the end of the
        service's log, if it cannot be started.
        """
        self._make_folders()
        with self._lock(_STARTING, on_wait):
            if lasting:
                self.marker.unlink(missing_ok=True)
            if self.info() is not None:
                return False
            if lasting is False:
                # Before the service is there, so that no interruption leaves it without.
                with locks.opened(self.marker):
                    pass
            self._spawn()
        return True

    def stop(self, *, keep_jobs: bool = False, on_wait: OnWait | None = None) -> bool:
        """Stop the service, and its workers unless keep_jobs; return False if there was nothing.

        Workers save first. Jobs that were not final go on when the service is started again.
        Until all of that is done nobody can start it.
        """
        if not self.home.exists():
            return False
        with self._lock(_STOPPING, on_wait):
            return self._stop(keep_jobs=keep_jobs)

    @contextlib.contextmanager
    def in_use_by_run(self) -> Iterator[None]:
        """Count as a run that needs the service, in this and all other processes."""
        self._make_folders()
        # Held alone only for the moment in which a run finds out that it is the last.
        with locks.shared(self._runs):
            yield

    def stop_after_runs(self, is_idle: Callable[[], bool], *, on_wait: OnWait | None) -> bool:
        """Stop the service if a run started it, no run uses it any more, and it is idle.

        Returns False if it goes on for a job. Call it after `in_use_by_run`: of several runs
        that end at once, the last one to get here stops it.
        """
        # Whatever keeps it from being looked at, nothing was started from here.
        if not os.path.exists(self.marker):
            return True
        with self._lock(_STOPPING, on_wait):
            if not self.marker.exists() or self._has_runs() or self.info() is None:
                return True
            if not is_idle():
                return False
            return self._stop(keep_jobs=False)

    @property
    def _runs(self) -> Path:
        return self.home / "runs.lock"

    def _has_runs(self) -> bool:
        with locks.opened(self._runs) as file:
            return not locks.taken(file)

    def _stop(self, *, keep_jobs: bool) -> bool:
        info = self.info()
        if info is not None:
            _end_process(info.pid)
        if not keep_jobs:
            self._stop_workers()
        self.marker.unlink(missing_ok=True)
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
        try:
            self._await(process, begin)
        except BaseException:
            # Also on Ctrl-C: a service that comes up later would be one that nobody knows of.
            process.kill()
            raise

    def _await(self, process: subprocess.Popen[bytes], begin: int) -> None:
        """Wait until the service answers; its words in the log start at `begin`."""
        deadline = time.monotonic() + _START_S
        while self.info() is None:
            if process.poll() is not None:
                raise ServiceUnavailable(self._death_notice(process.returncode, begin))
            if time.monotonic() > deadline:
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
            raise InternalError(
                f"workers are still running after {_STOP_WORKERS_S:.0f} s; "
                f"their logs are below {self.home}"
            ) from error
        if done.returncode != 0:
            tail = "\n".join(f"    {line}" for line in done.stderr.strip().splitlines()[-12:])
            raise InternalError(
                f"stopping the workers failed (exit code {done.returncode}):\n{tail}"
            )

    @contextlib.contextmanager
    def _lock(self, word: str, on_wait: OnWait | None) -> Iterator[None]:
        """Be the only one who starts or stops the service; say once if that takes a stop to end."""
        said = False

        def waiting(for_word: str) -> None:
            nonlocal said
            # A start takes seconds, which nobody need be told about.
            if on_wait is not None and not said and for_word != _STARTING:
                said = True
                on_wait("waiting for a `taas down` to let the workers save")

        with locks.alone(self.home / "start.lock", word, waiting):
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
