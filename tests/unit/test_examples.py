"""The examples as files: their data is what their scripts write, and the index names them all."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from taas import documents

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("table", "options"),
    [
        pytest.param("parts.csv", [], id="to train on"),
        pytest.param("new_parts.csv", ["--rows", "20", "--seed", "7"], id="to ask about"),
    ],
)
def test_the_parts_are_those_that_the_script_writes(table: str, options: list[str]) -> None:
    folder = EXAMPLES / "parts_inspection"
    written = subprocess.run(
        [sys.executable, str(folder / "make_parts.py"), *options], capture_output=True, check=True
    )
    assert written.stdout == (folder / table).read_bytes()


def test_all_irises_are_there() -> None:
    header, *rows = (EXAMPLES / "iris/iris.csv").read_text().splitlines()
    assert header == "sepal_length,sepal_width,petal_length,petal_width,species"
    species = [row.rpartition(",")[2] for row in rows]
    assert {name: species.count(name) for name in species} == {
        "setosa": 50,
        "versicolor": 50,
        "virginica": 50,
    }


def test_the_index_names_every_example() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()} - {"__pycache__"}
    named = re.findall(r"^\| \[(\w+)\]\(\1\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert set(named) == folders


@pytest.mark.parametrize(
    "document", [pytest.param(p, id=p.parent.name) for p in EXAMPLES.glob("*/job.yaml")]
)
def test_a_document_sends_its_program_and_the_digits(document: Path) -> None:
    job = documents.load(document)
    assert job.source is not None
    assert (job.source / job.spec.task.module).resolve() == document.with_name("task.py")
    assert (job.source / "mnist_lenet5/data").is_dir()
