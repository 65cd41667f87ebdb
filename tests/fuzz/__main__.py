"""Fuzzes for as long as one likes: `python -m tests.fuzz --inputs 100000 [TARGET ...]`.

Every finding is written below tests/fuzz/corpus/TARGET/, where the tests find it from then on.
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

from tests.fuzz import rpc, serving_targets, targets
from tests.fuzz.engine import CORPUS, Target, fuzz


def main() -> int:
    """Fuzz and return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="new inputs for each target")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="the same finds the same")
    parser.add_argument("names", nargs="*", help="targets; by default all")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taas-")))
        every = [*targets.targets(folder), *serving_targets.targets()]
        every += stack.enter_context(rpc.targets(folder))
        if not options.names or any(name.startswith("data-") for name in options.names):
            # TensorFlow takes seconds to load.
            from tests.fuzz import data_targets

            every += data_targets.targets(folder)
        for target in every:
            if not options.names or target.name in options.names:
                found += _run(target, options.inputs, options.seed)
    return 1 if found else 0


def _run(target: Target, inputs: int, seed: int) -> int:
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
        folder = CORPUS / target.name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / hashlib.sha256(finding.data).hexdigest()[:16]
        path.write_bytes(finding.data)
        print(f"  {path.name}: {finding.what}", flush=True)
    return len(tally.findings)


if __name__ == "__main__":
    sys.exit(main())
