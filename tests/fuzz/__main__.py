"""Fuzzes for as long as one likes: `python -m tests.fuzz --inputs 100000 [TARGET ...]`.

Every finding is written below tests/fuzz/corpus/TARGET/, where the tests find it from then on; with
--keep N so are the smallest inputs of that many kinds of answers.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import file_targets, rpc, serving_targets, targets
from tests.fuzz.engine import CORPUS, Tally, Target, fuzz

_MOST_KEPT_BYTES = 2000


def main() -> int:
    """Fuzz and return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="new inputs for each target")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="the same finds the same")
    parser.add_argument("--keep", type=int, default=0, help="inputs of each target to keep")
    parser.add_argument("names", nargs="*", help="targets; by default all")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taas-")))
        every = [*targets.targets(folder), *file_targets.targets(folder)]
        every += serving_targets.targets()
        every += stack.enter_context(rpc.targets(folder))
        if not options.names or any(name.startswith("data-") for name in options.names):
            # TensorFlow takes seconds to load.
            from tests.fuzz import data_targets

            every += data_targets.targets(folder)
        for target in every:
            if not options.names or target.name in options.names:
                tally = _run(target, options.inputs, options.seed)
                _keep(target, tally, options.keep)
                found += len(tally.findings)
    return 1 if found else 0


def _run(target: Target, inputs: int, seed: int) -> Tally:
    began = time.monotonic()
    tally = fuzz(target, inputs, seed)
    took_s = time.monotonic() - began
    read = tally.answers.get("read", 0)
    print(
        f"{target.name:14} {tally.inputs:9} inputs  {read:9} read  {len(tally.answers):5} answers  "
        f"{tally.inputs / took_s:8.0f}/s  {len(tally.findings)} findings",
        flush=True,
    )
    for finding in tally.findings:
        print(f"  {_written(target, finding.data)}: {finding.what}", flush=True)
    return tally


def _keep(target: Target, tally: Tally, most: int) -> None:
    """Keep the smallest inputs, of as many kinds of answers, but no large ones."""
    small = sorted((d for d in tally.examples.values() if len(d) <= _MOST_KEPT_BYTES), key=len)
    for data in small[:most]:
        _written(target, data)


def _written(target: Target, data: bytes) -> str:
    """Put an input into the corpus and return its name there."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path.name


if __name__ == "__main__":
    sys.exit(main())
