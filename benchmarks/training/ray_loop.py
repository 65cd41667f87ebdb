"""The bare loop in Ray Train's TensorflowTrainer, which starts the workers and sets TF_CONFIG.

    python -m benchmarks.training.ray_loop SOURCE SCRATCH --workers 2 [-p KEY=VALUE ...]

The workers tell their steps through a named pipe; this process passes them on.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import bare_loop
from benchmarks.sides.pinning import pin
from benchmarks.sides.stamps import Teller

# Nothing is put into Ray's object store; this is about the least that it takes.
_OBJECT_STORE_BYTES = 100 << 20


def main(argv: Sequence[str]) -> None:
    """Train until somebody ends it."""
    parser = argparse.ArgumentParser(prog="benchmarks.training.ray_loop")
    parser.add_argument("source", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--steps-a-call", type=int, required=True)
    parser.add_argument("-p", action="append", default=[], dest="parameters")
    options = parser.parse_args(argv)
    pipe = options.scratch / "told"
    os.mkfifo(pipe)
    threading.Thread(target=_pass_on, args=(pipe, os.dup(1)), daemon=True).start()
    os.dup2(2, 1)
    _fit(options, pipe)


def _pass_on(pipe: Path, out: int) -> None:
    """Copy what workers tell; each line is there in one piece, for it fits a pipe's buffer."""
    # Opened for writing too: so it is open at once, and never at its end.
    reader = os.open(pipe, os.O_RDWR)
    while told := os.read(reader, 1 << 16):
        os.write(out, told)


def _fit(options: argparse.Namespace, pipe: Path) -> None:
    import ray  # type: ignore[import-not-found]
    from ray.train import RunConfig, ScalingConfig  # type: ignore[import-not-found]
    from ray.train.tensorflow import TensorflowTrainer  # type: ignore[import-not-found]

    ray.init(
        num_cpus=options.workers,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=str(options.scratch / "ray"),
    )
    TensorflowTrainer(
        _loop,
        train_loop_config={
            "source": str(options.source),
            "parameters": dict(text.split("=", 1) for text in options.parameters),
            "workers": options.workers,
            "steps_a_call": options.steps_a_call,
            "pipe": str(pipe),
        },
        scaling_config=ScalingConfig(num_workers=options.workers),
        run_config=RunConfig(storage_path=str(options.scratch / "results")),
    ).fit()


def _loop(config: dict[str, Any]) -> None:
    """Train one worker's part. Runs in a process of Ray's."""
    import ray.train

    position = ray.train.get_context().get_world_rank()
    # Before TensorFlow is imported, which makes as many threads as it may use cores.
    pin(position)
    teller = Teller.at(Path(config["pipe"]))
    teller.trainer()
    bare_loop.train(
        Path(config["source"]),
        config["parameters"],
        position,
        workers=config["workers"],
        steps_a_call=config["steps_a_call"],
        tell=teller.step,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
