"""What a user's program puts in the place of files that the service reads is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from controller.errors import LimitExceeded
from controller.local import lines, tree_files
from controller.local.lines import LineFiles
from trainer import storage
from trainer.storage import JobPaths, Manifest, committed, read_fences, read_small

SOUND: dict[str, Any] = {
    "step": 7,
    "generation": 1,
    "time": 1.0,
    "files": [{"path": "variables.index", "size": 3, "sha256": "0" * 64}],
    "metrics": {"loss": 0.5},
}


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    paths = JobPaths(tmp_path, "n", "j", "u")
    for folder in (paths.checkpoints, paths.fences, paths.records):
        folder.mkdir(parents=True)
    return paths


def place(path: Path, kind: str, tmp_path: Path) -> None:
    """Put something else in the place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            target = tmp_path / "elsewhere"
            target.write_text(json.dumps(SOUND))
            path.symlink_to(target)
        case "loop":
            path.symlink_to(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        case "bytes":
            path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "loop", "huge", "bytes"])
def test_what_is_no_manifest_is_passed_over(paths: JobPaths, tmp_path: Path, kind: str) -> None:
    place(paths.checkpoints / "step-0000000007.g000001" / storage.MANIFEST, kind, tmp_path)
    place(paths.fences / "g000002.json", kind, tmp_path)
    assert committed(paths) == ()
    assert read_fences(paths) == ()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_left_open(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    place(path, kind, tmp_path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError, match="no regular file"):
        read_small(path)
    assert os.listdir("/proc/self/fd") == before


def test_a_checkpoint_that_is_a_link_is_none(paths: JobPaths, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / storage.MANIFEST).write_text(json.dumps(SOUND))
    link = paths.checkpoints / "step-0000000007.g000001"
    link.symlink_to(other)
    assert committed(paths) == ()
    link.unlink()
    other.rename(link)
    assert [m.id for m in committed(paths)] == [link.name]


@pytest.mark.parametrize(
    "change",
    [
        {"step": 1e999},
        {"step": -1},
        {"step": 2**63},
        {"generation": float("nan")},
        {"time": float("inf")},
        {"time": 10**400},
        {"files": {"path": "x"}},
        {"files": [{"path": "../x", "size": 1, "sha256": ""}]},
        {"files": [{"path": "/x", "size": 1, "sha256": ""}]},
        {"files": [{"path": "a\0b", "size": 1, "sha256": ""}]},
        {"files": [{"path": "x", "size": -1, "sha256": ""}]},
        {"files": [{"path": "x", "size": 1e999, "sha256": ""}]},
        {"metrics": [1]},
        {"metrics": {"x": "y"}},
        {"metrics": {"x": 10**400}},
    ],
    ids=str,
)
def test_a_forged_manifest_is_a_value_error(change: dict[str, Any]) -> None:
    assert Manifest.from_json(json.dumps(SOUND)).step == 7
    with pytest.raises(ValueError, match="manifest"):
        Manifest.from_json(json.dumps(SOUND | change))


@pytest.mark.parametrize("text", ["", "null", "[]", "7", "[" * 100_000, '{"files": ' * 5000])
def test_a_document_of_another_kind_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="manifest"):
        Manifest.from_json(text)


def test_small_means_small(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x" * 10)
    assert read_small(path, 10) == "x" * 10
    with pytest.raises(ValueError, match="larger than 9 bytes"):
        read_small(path, 9)


# --- Record files


def read(path: Path, start: int, limit: int) -> list[str]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return LineFiles().read(("u", 1), fd, start, limit)
    finally:
        os.close(fd)


def test_a_line_without_end_costs_what_is_kept_of_it(tmp_path: Path) -> None:
    path = tmp_path / "records"
    long = lines._MOST_LINE_BYTES
    path.write_bytes(b"a\n" + b"x" * (3 * long) + b"\nb\n" + b"torn")
    assert read(path, 0, 9) == ["a", "x" * long, "b"]
    assert read(path, 2, 9) == ["b"]
    with path.open("ab") as file:
        file.truncate(1 << 40)  # a terabyte of zeros
    assert read(path, 2, 9) == ["b"]


# --- Listings


def test_a_tree_too_large_to_list_is_an_error_that_says_how_much(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    names = ["n" * 250 + f"{number}" for number in range(40)]
    for name in names:
        (tree / name).touch()
    assert len(tree_files.listing(tmp_path, tree)) == 40
    for files, chars in ((tree_files.MOST_FILES + 1, 0), (1, 1 << 30)):
        with pytest.raises(LimitExceeded, match="100000 files"):
            tree_files.check_listable(files, chars)
