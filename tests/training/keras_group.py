"""Runs features of Keras in one process, and in groups of trainer processes.

Starting TensorFlow costs seconds, so a group runs many features one after the other and leaves
what each has found in a file.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.training import groups

# A bound for a broken program only; many features share it.
TIMEOUT_S = 1200
# The seed of every feature, as the service seeds a program alike on all workers.
SEED = 7

Found = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What one process is to do; without a cluster it is alone and has no strategy."""

    features: Sequence[str]
    folder: str
    cluster: Sequence[str] = ()
    position: int = 0

    @property
    def result(self) -> Path:
        """Where the findings are left."""
        return Path(self.folder, f"found-{self.position}.pickle")

    @property
    def log(self) -> Path:
        """Where the output of the process goes."""
        return Path(self.folder, f"log-{self.position}.txt")


class Group:
    """Processes that have been started to find out about features."""

    def __init__(
        self, features: Sequence[str], workers: int, folder: Path, packages: Sequence[Path] = ()
    ) -> None:
        """Start one process without a strategy (workers 0) or a group; packages go first."""
        cluster = [f"127.0.0.1:{port}" for port in groups.free_ports(workers)]
        self.orders = [
            Order(features, str(folder), cluster, position) for position in range(max(1, workers))
        ]
        self._processes = [_start(order, packages) for order in self.orders]

    def found(self) -> list[Found]:
        """Wait for the end and return what each process has found."""
        until = time.monotonic() + TIMEOUT_S
        for process in self._processes:
            process.join(max(0, until - time.monotonic()))
        for process in self._processes:
            process.kill()
            process.join()
        return [
            pickle.loads(o.result.read_bytes()) if o.result.exists() else {} for o in self.orders
        ]

    def logs(self) -> str:
        """Return the beginning and the end of each process's output."""
        texts = [order.log.read_text() for order in self.orders]
        return "\n".join(t if len(t) < 6000 else f"{t[:2000]}\n...\n{t[-4000:]}" for t in texts)


def _start(order: Order, packages: Sequence[Path]) -> Any:
    # With a Keras of its own a process has to import it; the others are forked with theirs.
    context = multiprocessing.get_context("spawn") if packages else groups.context
    process = context.Process(target=_child, args=(order, [str(folder) for folder in packages]))
    process.start()
    return process


def _child(order: Order, path: Sequence[str]) -> None:
    groups.begin(str(order.log))
    sys.path[:0] = path
    _carry_out(order)


def _carry_out(order: Order) -> None:
    os.environ.update(CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="1")
    code = 1
    try:
        _find(order)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _find(order: Order) -> None:
    from trainer import keras_compat

    keras_compat.install()
    import keras
    import tensorflow as tf

    scope: Any = contextlib.nullcontext
    if order.cluster:
        groups.pin(order.position)
        task = {"type": "worker", "index": order.position}
        cluster = {"worker": list(order.cluster)}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        scope = tf.distribute.MultiWorkerMirroredStrategy().scope
    from tests.training.features import FEATURES

    found: Found = {"keras": keras.__version__}
    for name in order.features:
        keras.utils.set_random_seed(SEED)
        folder = Path(order.folder, name)
        folder.mkdir(exist_ok=True)
        found[name] = FEATURES[name](scope, folder)
        order.result.write_bytes(pickle.dumps(found))
