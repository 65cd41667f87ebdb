"""The service of this machine: found, started once, stopped."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from pathlib import Path

import pytest

from taas import location
from taas.errors import ServiceUnavailable, TaasError
from taas.service import LocalService


def test_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.delenv("TAAS_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert location.state_folder() == Path("/home/u/.local/state/taas")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert location.state_folder() == Path("/state/taas")
    monkeypatch.setenv("TAAS_HOME", "~/t")
    assert location.state_folder() == Path("/home/u/t")


def test_socket_path() -> None:
    assert location.socket_path(Path("/h")) == Path("/h/taas.sock")
    deep = Path("/") / ("x" * 120)
    path = location.socket_path(deep)
    assert path.parent == Path(f"/tmp/taas-{os.getuid()}")
    assert path != location.socket_path(deep / "y")
    assert len(str(path)) < 100


def test_folder_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ServiceUnavailable, match="yours alone"):
        location.check_private(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ServiceUnavailable, match="yours alone"):
        location.check_private(tmp_path / "link")
    tmp_path.chmod(0o700)
    location.check_private(tmp_path)


def test_start_and_stop(local: LocalService) -> None:
    assert local.info() is None
    assert local.start()
    info = local.info()
    assert info is not None
    assert not local.start()
    # It is in a session of its own, so that Ctrl-C here is not for it.
    assert os.getsid(info.pid) != os.getsid(0)
    assert local.stop()
    assert local.info() is None
    assert (local.home / "workers-stopped").exists()
    assert not local.stop()


def test_stop_can_keep_jobs(local: LocalService) -> None:
    local.start()
    assert local.stop(keep_jobs=True)
    assert not (local.home / "workers-stopped").exists()


def test_two_starters_start_one(local: LocalService) -> None:
    other = LocalService(local.home, command=local._command)
    started: list[bool] = []
    threads = [
        threading.Thread(target=lambda s=s: started.append(s.start())) for s in (local, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(started) == [False, True]


def test_killed_service_is_started_again(local: LocalService) -> None:
    local.start()
    info = local.info()
    assert info is not None
    os.kill(info.pid, signal.SIGKILL)
    assert local.start()


def test_service_that_dies_is_reported(tmp_path: Path) -> None:
    program = "import sys; print('about to fail'); sys.exit('no such port')"
    service = LocalService(tmp_path / "home", command=[sys.executable, "-c", program])
    with pytest.raises(ServiceUnavailable, match=r"(?s)exit code 1.*about to fail|no such port"):
        service.start()
    assert stat.S_IMODE(service.home.stat().st_mode) == 0o700


def test_workers_that_do_not_stop_are_reported(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    service = LocalService(
        tmp_path / "home", command=[sys.executable, "-c", "import sys; sys.exit('worker 0 hangs')"]
    )
    with pytest.raises(TaasError, match="worker 0 hangs"):
        service.stop()


def test_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceUnavailable, match="set TAAS_HOME"):
        LocalService(tmp_path / "file" / "home").start()
