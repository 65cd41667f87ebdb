"""Packing: the same content gives the same archive, and what cannot be packed is named."""

from __future__ import annotations

import gzip
import os
import socket
import tarfile
from pathlib import Path

import pytest

from taas import pack
from taas.errors import InvalidRequest, LimitExceeded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to pack."""
    root = tmp_path / "task"
    (root / "data").mkdir(parents=True)
    (root / "task.py").write_text("print()\n")
    (root / "data" / "a.csv").write_text("1,2\n")
    return root


def names_in(source: Path) -> list[str]:
    """Pack and list."""
    with pack.pack(source) as packed, tarfile.open(packed.path) as archive:
        return [member.name for member in archive]


def test_same_content_same_digest(folder: Path) -> None:
    with pack.pack(folder) as first:
        pass
    os.utime(folder / "task.py", (1, 1))
    (folder / "task.py").chmod(0o600)
    with pack.pack(folder) as second:
        assert second.size_bytes == second.path.stat().st_size
    assert first.digest == second.digest
    assert not second.path.exists()
    (folder / "task.py").chmod(0o700)
    with pack.pack(folder) as third:
        assert third.digest != first.digest


def test_members_say_nothing_of_this_machine(folder: Path) -> None:
    with pack.pack(folder) as packed:
        assert packed.files == 2
        with gzip.open(packed.path) as unpacked:
            unpacked.read()
            assert unpacked.mtime == 0
        with tarfile.open(packed.path) as archive:
            members = archive.getmembers()
    assert [m.name for m in members] == ["data", "data/a.csv", "task.py"]
    assert all((m.mtime, m.uid, m.gid, m.uname, m.gname) == (0, 0, 0, "", "") for m in members)
    assert [oct(m.mode) for m in members] == ["0o755", "0o644", "0o644"]


def test_ignore_files(folder: Path) -> None:
    for name in (".git", "__pycache__", ".venv"):
        (folder / name).mkdir()
        (folder / name / "x").write_text("x")
    (folder / ".gitignore").write_text("*.csv\n")
    assert names_in(folder) == [".gitignore", "data", "task.py"]
    (folder / ".taasignore").write_text("data/\n.*ignore\n")
    assert names_in(folder) == ["task.py"]


def test_bad_pattern_is_named(folder: Path) -> None:
    (folder / ".taasignore").write_text("!\n")
    with pytest.raises(InvalidRequest, match=r"\.taasignore: .*correct the pattern"):
        pack.pack(folder)


def test_one_file(folder: Path) -> None:
    assert names_in(folder / "task.py") == ["task.py"]


def test_link_inside_is_packed_as_its_content(folder: Path) -> None:
    (folder / "link.csv").symlink_to("data/a.csv")
    with pack.pack(folder) as packed, tarfile.open(packed.path) as archive:
        member = archive.getmember("link.csv")
        assert member.isreg()
        content = archive.extractfile(member)
        assert content is not None
        assert content.read() == b"1,2\n"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        pytest.param("/etc/hostname", "leads out of the folder", id="outside"),
        pytest.param("gone", "leads nowhere", id="broken"),
        pytest.param("link", "leads nowhere", id="to itself"),
        pytest.param("data", "is a link to a folder", id="folder"),
    ],
)
def test_other_links_are_refused(folder: Path, target: str, why: str) -> None:
    (folder / "link").symlink_to(target)
    with pytest.raises(InvalidRequest, match=f"link.* {why}") as caught:
        pack.pack(folder)
    assert caught.value.violations[0].field == "source"
    (folder / ".taasignore").write_text("link\n")
    assert "link" not in names_in(folder)


def test_special_files_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidRequest, match="pipe is a device, pipe or socket"):
        pack.pack(folder)


def test_socket_is_refused(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        with pytest.raises(InvalidRequest, match="s is a device, pipe or socket"):
            pack.pack(folder)


def test_file_that_vanishes_is_named(folder: Path) -> None:
    def vanish(done: int, total: int) -> None:
        (folder / "task.py").unlink(missing_ok=True)

    with pytest.raises(InvalidRequest, match=r"task\.py cannot be read"):
        pack.pack(folder, progress=vanish)


def test_too_big_names_the_biggest_before_packing(folder: Path) -> None:
    with (folder / "data" / "big.bin").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(
        LimitExceeded, match=r"holds 3\.0 GB.*data/big\.bin \(3\.0 GB\).*\.taasignore"
    ):
        pack.pack(folder)


def test_archive_over_the_limit_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    (folder / "noise").write_bytes(os.urandom(200_000))
    with pytest.raises(LimitExceeded, match=r"packs to more than 97\.7 kB.*noise"):
        pack.pack(folder, max_bytes=100_000)
    assert list(scratch.iterdir()) == []


def test_too_many_files(folder: Path) -> None:
    with pytest.raises(LimitExceeded, match="more than 1 files"):
        pack.pack(folder, max_files=1)


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_nothing_to_pack(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match=name):
        pack.pack(tmp_path / name)


def test_name_that_is_not_utf8(folder: Path) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff"))).write_text("x")
    with pytest.raises(InvalidRequest, match=r"bad\\udcff' is not UTF-8"):
        pack.pack(folder)
