"""The group: joins MultiWorkerMirroredStrategy, and tells a lost peer from a fault of the program.

Besides the ring, the only file that touches TensorFlow's private coordination settings.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from trainer import contract, together
from trainer.ring import group

# A worker that is silent this long counts as lost. Below about 4 s, workers whose CPU is
# throttled would be lost now and then.
HEARTBEAT_MS = 5_000
# How long members wait for each other. The controller starts a generation only when all are
# there, so this bounds the start of processes, not the arrival of pods.
REGISTER_MS = 60_000
SHUTDOWN_MS = 5_000
# How long a member waits for the others before it leaves. They are at most one reduction behind.
PART_MS = 10_000

# Where the chief leaves its word at the coordination service, which is of one generation.
_WORD_KEY = "taas/word-of-chief"

_PEER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
)
_PEER_MESSAGES = ("Collective ops is aborted", "oordination service", "CoordinationService")


class PeerLost(Exception):
    """Another member of the group is not there (any more)."""


def join(assignment: contract.Assignment) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Join the group and return its strategy. Call once in a process, before any operation.

    Its variables have each member's own first values, see trainer.together. Raises PeerLost if the
    other members do not come.
    """
    prepare(assignment)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    quicken(strategy, assignment)
    together.own_first_values(strategy)
    return strategy


def alone() -> tf.distribute.MirroredStrategy:
    """Return a strategy of this process alone, on all GPUs that it has."""
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    return tf.distribute.MirroredStrategy(gpus or ["CPU:0"])


def prepare(assignment: contract.Assignment) -> None:
    """Do what must come before the strategy is built. Raises PeerLost as `join` does."""
    os.environ["TF_CONFIG"] = assignment.tf_config()
    members = len(assignment.cluster)
    if members > 1:
        _configure_coordination(members)
        if not assignment.is_chief:
            _await_leader(assignment.cluster[0], REGISTER_MS / 1000)


def quicken(strategy: Any, assignment: contract.Assignment) -> None:
    """Have the strategy reduce over the ring, if it can. Call on every member, once it is built,
    before anything is reduced. Raises PeerLost as `join` does."""
    if len(assignment.cluster) < 2:
        return
    try:
        group.attach(strategy, assignment, silence_s=HEARTBEAT_MS / 1000)
    except OSError as error:
        raise PeerLost(f"the ring of the workers does not close: {error}") from error


def _configure_coordination(members: int) -> None:
    """Make a lost peer noticed in seconds, and a peer that never comes an error that names it.

    The strategy has no public settings for this and leaves an existing configuration alone.
    """
    ctx: Any = context.context()
    # Its own module has moved between TensorFlow's versions.
    messages: Any = context.coordination_config_pb2
    ctx.configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        heartbeat_timeout_in_ms=HEARTBEAT_MS,
        cluster_register_timeout_in_ms=REGISTER_MS,
        shutdown_barrier_timeout_in_ms=SHUTDOWN_MS,
        coordinated_jobs=[messages.CoordinatedJob(name="worker", num_tasks=members)],
    )
    config = ctx._coordination_service_config
    # Without it the leader waits for ever for a member that never comes; TensorFlow 2.16 has no
    # such setting, and the job's progress deadline ends the wait.
    if "cluster_register_with_barrier" in config.DESCRIPTOR.fields_by_name:
        config.cluster_register_with_barrier = True


def _await_leader(address: str, timeout_s: float) -> None:
    """Wait until the leader's port accepts; TensorFlow would wait a whole second between tries."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + timeout_s
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
                return
        except OSError as error:
            if time.monotonic() > until:
                raise PeerLost(f"the chief at {address} does not answer: {error}") from error
            time.sleep(0.02)


def word_of_chief(members: int, is_chief: bool, values: list[int]) -> list[int]:
    """Return the chief's values on every member; those of the others are not looked at. Call once
    in a process, on all members. Quicker than a collective, which has to be traced first."""
    if members < 2:
        return values
    board = group.CoordinationBoard()
    if is_chief:
        board.put(_WORD_KEY, json.dumps(values))
        return values
    said: list[int] = json.loads(board.get(_WORD_KEY))
    return said


def part(members: int) -> None:
    """Wait until every member is done with the last collective; then each may leave.

    A reduction ends at one member while another still reads from it, so a member that leaves
    at once takes the result from the other. If the others do not come they are lost, and then
    there is nothing to wait for.
    """
    if members < 2:
        return
    ctx: Any = context.context()
    with contextlib.suppress(tf.errors.OpError):
        ctx.wait_at_barrier("part", PART_MS)


def peer_lost(error: BaseException, members: int) -> bool:
    """Tell whether an error comes from a member that went away, not from this process."""
    if isinstance(error, PeerLost):
        return True
    if members < 2 or not isinstance(error, tf.errors.OpError):
        return False
    return isinstance(error, _PEER_ERRORS) or any(m in str(error) for m in _PEER_MESSAGES)
