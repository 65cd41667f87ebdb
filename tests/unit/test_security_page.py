"""docs/security.md names a test for each attack, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.fuzz import test_fuzz

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "security.md"
# A file below tests/, with or without a test in it.
_TEST = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")
_FUZZ = re.compile(r"fuzz `([\w-]+)`")


def rows() -> list[tuple[str, str]]:
    """Return the attacks and what is said to show them."""
    (section,) = re.findall(r"^## Attacks\n(.*?)^## ", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    assert {len(row) for row in cells} == {3}
    return [(row[0].strip("| "), row[2].strip("| ")) for row in cells[2:]]


@pytest.mark.parametrize(("attack", "shown"), rows(), ids=[attack[:40] for attack, _ in rows()])
def test_what_shows_an_attack_is_there(attack: str, shown: str) -> None:
    named = _TEST.findall(shown)
    assert named, f"no test shows what becomes of: {attack}"
    for path, name in named:
        tree = ast.parse((TESTS / path).read_text())
        functions = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        assert not name or name in functions, f"{path} has no {name}"
    assert set(_FUZZ.findall(shown)) <= {*test_fuzz.NAMES, *test_fuzz.RPCS}


def test_there_is_something_to_check() -> None:
    assert len(rows()) > 25
