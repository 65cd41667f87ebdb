"""Records and curves when the storage takes nothing for a while: training does not notice."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainer.progress import Curves, Records, Reports, closing_all
from trainer.snapshot import StorageError


@contextmanager
def full_disk(at: int) -> Iterator[None]:
    """Within, no file can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def lines(text: str) -> list[str]:
    return [json.loads(line)["notice"]["message"] for line in text.splitlines()]


def test_records_wait_for_room_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records" / "g000001.jsonl"
    reader, writer = os.pipe()
    records = Records(path, generation=1, reports=Reports(writer))
    records.notice("Told", "first")
    with full_disk(at=path.stat().st_size + 20):
        records.notice("Told", "second")
        records.notice("Told", "third")
        assert not path.read_text().endswith("\n")
    records.notice("Told", "fourth")
    records.close()
    os.close(writer)
    with os.fdopen(reader) as reports:
        reported = [json.loads(line)["record"]["notice"]["message"] for line in reports]
    assert lines(path.read_text()) == reported == ["first", "second", "third", "fourth"]
    indexes = [int(json.loads(line).get("index", 0)) for line in path.read_text().splitlines()]
    assert indexes == [0, 1, 2, 3]


def test_records_that_never_find_room_are_an_error_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "g000001.jsonl"
    records = Records(path, generation=1, reports=Reports(None))
    with full_disk(at=0):
        records.notice("Told", "first")
        with pytest.raises(StorageError, match=r"g000001\.jsonl: File too large"):
            records.close()


def test_curves_that_cannot_be_written_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[str] = []
    curves = Curves(tmp_path / "file" / "tensorboard", on_failed=told.append)
    for step in range(3):
        curves.point("train", step, {"loss": 1.0})
        curves.flush()
    curves.close()
    (message,) = told
    assert str(tmp_path / "file" / "tensorboard") in message


def test_curves_go_on_when_there_is_room_again(tmp_path: Path) -> None:
    told: list[str] = []
    curves = Curves(tmp_path / "tensorboard", on_failed=told.append)
    with full_disk(at=0):
        curves.point("train", 0, {"loss": 1.0})
        curves.flush()
    assert told
    curves.point("train", 1, {"loss": 1.0})
    curves.close()
    files = list((tmp_path / "tensorboard" / "train").iterdir())
    assert any(file.stat().st_size for file in files)


class Losing:
    """Tells a record of what it loses when it is closed, and fails."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def close(self) -> None:
        self._records.notice("Told", "lost")
        raise StorageError(Path("curves"), "no room")


def test_what_is_lost_in_closing_is_in_the_records_that_are_closed_last(tmp_path: Path) -> None:
    path = tmp_path / "records" / "g000001.jsonl"
    records = Records(path, generation=1, reports=Reports(None))
    with pytest.raises(StorageError, match="no room"), closing_all(Losing(records), records):
        records.notice("Told", "first")
    assert lines(path.read_text()) == ["first", "lost"]
