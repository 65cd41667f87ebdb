"""Event files grow here as they grow there."""

from __future__ import annotations

from pathlib import Path

import pytest

from taas import eventfiles
from taas.client import Client
from taas.errors import InternalError, NotFound
from tests.client.double import Running

TRAIN = "tensorboard/train/events.1"


def test_what_is_new_is_fetched_and_added(
    client: Client, running: Running, job: str, tmp_path: Path
) -> None:
    output = running.double.jobs[job].output
    assert eventfiles.refresh(client, "mnist", tmp_path / "mnist") == 0
    output |= {TRAIN: b"a" * 100_000, "tensorboard/validation/events.2": b"b"}
    assert eventfiles.refresh(client, "mnist", tmp_path / "mnist") == 100_001
    place = tmp_path / "mnist" / "train" / "events.1"
    with place.open("rb") as reading:
        assert len(reading.read()) == 100_000
        output[TRAIN] += b"more"
        assert eventfiles.refresh(client, "mnist", tmp_path / "mnist") == 4
        assert reading.read() == b"more"
    assert eventfiles.refresh(client, "mnist", tmp_path / "mnist") == 0
    # Another file under the same name.
    output[TRAIN] = b"new"
    assert eventfiles.refresh(client, "mnist", tmp_path / "mnist") == 3
    assert place.read_bytes() == b"new"
    assert {p.name for p in (tmp_path / "mnist").iterdir()} == {"train", "validation"}


def test_a_path_that_leads_out_is_refused(
    client: Client, running: Running, job: str, tmp_path: Path
) -> None:
    running.double.jobs[job].output["tensorboard/../../x"] = b"x"
    with pytest.raises(InternalError, match="outside its tree"):
        eventfiles.refresh(client, "mnist", tmp_path / "mnist")
    with pytest.raises(NotFound):
        eventfiles.refresh(client, "gone", tmp_path / "gone")
