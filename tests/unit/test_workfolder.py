"""What a program writes beside itself reaches the output, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer import workfolder
from trainer.storage import JobPaths


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    return JobPaths(tmp_path / "storage", "team", "job", "uid-1")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "data").mkdir(parents=True)
    (folder / "train.py").write_text("# trains")
    (folder / "data" / "rows.csv").write_text("1,2")
    (folder / "model.keras").write_text("of last week")
    return folder


def write(path: Path, text: str) -> None:
    """Write as programs do, at a time that no file of the source has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(1, 1))


def collected(paths: JobPaths) -> dict[str, str]:
    """Return what is in the output folder, by path."""
    files = (p for p in paths.output.rglob("*") if p.is_file())
    return {str(p.relative_to(paths.output)): p.read_text() for p in files}


def test_new_and_changed_files_are_collected_and_the_source_is_not(
    paths: JobPaths, source: Path
) -> None:
    work = workfolder.prepare_chief(paths, source)
    assert (work / "data" / "rows.csv").read_text() == "1,2"
    workfolder.collect(paths)
    assert collected(paths) == {}
    write(work / "model.keras", "new")
    write(work / "logs" / "a.log", "line")
    write(work / "__pycache__" / "x.pyc", "")
    (work / "link").symlink_to("/etc/passwd")
    workfolder.collect(paths)
    assert collected(paths) == {"model.keras": "new", "logs/a.log": "line"}
    assert (source / "model.keras").read_text() == "of last week"


def test_a_restart_finds_what_was_written_and_the_output_follows(
    paths: JobPaths, source: Path
) -> None:
    work = workfolder.prepare_chief(paths, source)
    write(work / "backup" / "state", "1")
    write(work / "log", "short")
    workfolder.collect(paths)
    assert workfolder.prepare_chief(paths, source) == work
    assert (work / "backup" / "state").read_text() == "1"
    (work / "backup" / "state").unlink()
    write(work / "log", "much longer")
    workfolder.collect(paths)
    workfolder.collect(paths)
    assert collected(paths) == {"log": "much longer"}


def test_what_the_program_put_into_the_output_itself_is_left_alone(
    paths: JobPaths, source: Path
) -> None:
    work = workfolder.prepare_chief(paths, source)
    write(paths.output / "model.keras", "mine")
    write(work / "model.keras", "other")
    workfolder.collect(paths)
    (work / "model.keras").unlink()
    workfolder.collect(paths)
    assert collected(paths) == {"model.keras": "mine"}


def test_a_preparation_that_was_interrupted_begins_anew(paths: JobPaths, source: Path) -> None:
    write(paths.work.with_name("work.new") / "half", "")
    write(paths.work / "old", "")
    work = workfolder.prepare_chief(paths, source)
    assert sorted(p.name for p in work.iterdir()) == ["data", "model.keras", "train.py"]


def test_a_program_in_the_image_begins_in_an_empty_folder(paths: JobPaths) -> None:
    assert list(workfolder.prepare_chief(paths, None).iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"source": 1, "collected": []}',
        '{"source": {}, "collected": 5}',
        '{"source": {}, "collected": ["a\\u0000b"]}',
        '{"source": {}, "collected": ["\\ud800"]}',
        "[" * 9999,
    ],
)
def test_an_index_that_the_program_wrote_over_is_named(
    paths: JobPaths, source: Path, text: str
) -> None:
    workfolder.prepare_chief(paths, source)
    paths.work_index.write_text(text)
    with pytest.raises(OSError, match=r"work\.json is not as the service wrote it"):
        workfolder.collect(paths)


def test_a_pipe_in_place_of_the_index_is_not_waited_for(paths: JobPaths, source: Path) -> None:
    workfolder.prepare_chief(paths, source)
    paths.work_index.unlink()
    os.mkfifo(paths.work_index)
    with pytest.raises(OSError, match="no regular file"):
        workfolder.collect(paths)


def test_a_pipe_where_the_index_is_written_is_not_waited_for(paths: JobPaths, source: Path) -> None:
    work = workfolder.prepare_chief(paths, source)
    write(work / "result", "1")
    os.mkfifo(paths.work_index.with_name("work.json.tmp"))
    workfolder.collect(paths)
    assert collected(paths) == {"result": "1"}
