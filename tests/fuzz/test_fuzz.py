"""A short run of the fuzzers: what was once found, and some new inputs, the same every time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import file_targets, rpc, serving_targets, targets
from tests.fuzz.engine import CORPUS, Target, fuzz

INPUTS = 300
SERVING = serving_targets.targets()
FILES = (targets.targets, file_targets.targets)
_ANYWHERE = Path(tempfile.mkdtemp(prefix="taas-"))
NAMES = [target.name for make in FILES for target in make(_ANYWHERE)]
NAMES += [target.name for target in SERVING]
RPCS = ["rpc", "gateway-rpc"]


@pytest.fixture(scope="module")
def every() -> Iterator[dict[str, Target]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taas-")))
        found = [*SERVING, *stack.enter_context(rpc.targets(folder))]
        found += [target for make in FILES for target in make(folder)]
        yield {target.name: target for target in found}


@pytest.mark.parametrize("name", [*NAMES, *RPCS])
def test_nothing_is_found(every: dict[str, Target], name: str) -> None:
    tally = fuzz(every[name], INPUTS, seed=1)
    assert not tally.findings
    # Or it does not get beyond the door.
    assert len(tally.answers) > 1 or not every[name].allowed


def test_every_kept_input_belongs_to_a_target() -> None:
    kept = {path.name for path in CORPUS.iterdir()} if CORPUS.is_dir() else set()
    assert {name for name in kept if not name.startswith("data-")} <= {*NAMES, *RPCS}
