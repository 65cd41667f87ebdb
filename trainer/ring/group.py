"""Puts the ring under a MultiWorkerMirroredStrategy.

The strategy keeps deciding what is reduced and when, in which packs, and what a mean is; only the
operation that adds up one pack is another. TensorFlow's own stays for GPUs, for several devices
in one worker, for sparse gradients, and where a program asks for it by CommunicationOptions.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import cross_device_utils
from tensorflow.python.eager import context

from trainer import contract
from trainer.ring import meeting, native

_AUTO = tf.distribute.experimental.CommunicationImplementation.AUTO
_DTYPES = frozenset({tf.bfloat16, tf.float16, tf.float32, tf.float64, tf.int32, tf.int64})

# Whether this process has met the others, which it does once; the operation if they have a ring.
_met = False
_operation: Any = None


def attach(
    strategy: Any,
    assignment: contract.Assignment,
    *,
    silence_s: float,
    patience: meeting.Patience | None = None,
) -> None:
    """Have a strategy that was just built reduce over the ring; if it cannot, the chief says why.

    Every member calls this after each strategy that it builds; the first joins the ring. A member
    that says nothing for `silence_s` counts as lost from then on. Raises OSError or
    tf.errors.OpError if another is lost.
    """
    global _met, _operation
    if not tf.compat.v1.executing_eagerly_outside_functions():
        return  # As in TensorFlow 1 there is no coordination service to meet at.
    if not _met:
        _met = True
        try:
            _operation = _join(
                strategy, assignment, silence_s=silence_s, patience=patience or meeting.Patience()
            )
        except meeting.NoRing as reason:
            if assignment.is_chief:
                sys.stderr.write(f"gradients go over TensorFlow's own ring: {reason}\n")
    if _operation is None:
        return
    extended = strategy.extended
    for ops in (extended._cross_device_ops, extended._host_cross_device_ops):
        ops._launchers = [_Launcher(launcher, _operation) for launcher in ops._launchers]


def _join(
    strategy: Any,
    assignment: contract.Assignment,
    *,
    silence_s: float,
    patience: meeting.Patience,
) -> Any:
    """Return the operation of a ring that this process has joined. Raises NoRing."""
    lacking = _unsuited(strategy)
    operation: Any = None
    if not lacking:
        try:
            # In this order: TensorFlow sees what is defined while it loads a library.
            operation = native.operation()
            library = native.load()
        except native.NativeError as error:
            lacking = str(error)
    host = assignment.address.rpartition(":")[0].strip("[]")
    members = len(assignment.cluster)
    place = meeting.Place(assignment.position, members, host)
    left, right = meeting.meet(place, CoordinationBoard(), patience, lacking)
    ring = library.ring_open(
        assignment.position, members, left.detach(), right.detach(), int(silence_s * 1000)
    )
    if not ring:
        raise OSError("no memory or threads for the ring")
    library.ring_use(ring)
    return operation


def _unsuited(strategy: Any) -> str:
    """Return why this member's reductions are not the ring's, "" if they are."""
    if os.environ.get(contract.ENV_RING) == "off":
        return f"{contract.ENV_RING} is off"
    try:
        devices = strategy.extended.worker_devices
        launchers = [
            *strategy.extended._cross_device_ops._launchers,
            *strategy.extended._host_cross_device_ops._launchers,
        ]
    except AttributeError as error:
        return f"TensorFlow {tf.__version__} is built otherwise: {error}"
    if len(devices) > 1 or "CPU" not in devices[0]:
        return f"it trains on {len(devices)} devices, of which the first is {devices[0]}"
    if any(launcher._get_ordering_token() is None for launcher in launchers):
        return f"TensorFlow {tf.__version__} does not order its reductions"
    return ""


class CoordinationBoard:
    """Words that the members leave at TensorFlow's coordination service. That is of one
    generation, and refuses processes that do not belong to it."""

    def put(self, key: str, value: str) -> None:
        """Leave a word."""
        ctx: Any = context.context()
        ctx.set_config_key_value(key, value)

    def get(self, key: str, timeout_s: float = math.inf) -> str:
        """Return a word as soon as it is there. Raises TimeoutError if it does not come, and
        tf.errors.OpError if the chief, who keeps the service, is not there any more."""
        ctx: Any = context.context()
        # With 0 TensorFlow waits for ever.
        timeout_ms = 0 if timeout_s == math.inf else max(int(timeout_s * 1000), 1)
        try:
            value: str = ctx.get_config_key_value(key, timeout_ms)
        except tf.errors.DeadlineExceededError as error:
            raise TimeoutError(f"{key}: {error.message}") from error
        return value


class _Launcher(cross_device_utils.CollectiveReplicaLauncher):
    """Launches the collectives of one replica, reductions over the ring."""

    def __init__(self, before: Any, operation: Any) -> None:
        """Take the place of the launcher `before`."""
        super().__init__(
            before._group_key,
            before._group_size,
            before._collective_keys,
            before._device,
            before._options,
        )
        self._operation = operation

    def all_reduce(self, input_tensor: Any, control_input: Any = None, options: Any = None) -> Any:
        """Return the sum of a tensor over all replicas."""
        tensor = tf.convert_to_tensor(input_tensor)
        if not self._ours([tensor], options):
            return super().all_reduce(tensor, control_input, options)
        with self._control_input(control_input):
            return self._sum([tensor])[0]

    def batch_all_reduce(self, input_tensor_packs: Any, options: Any = None) -> Any:
        """Return the sums of all tensors of all packs, in order.

        A pack needs no buffer of its own: the ring goes from one tensor to the next.
        """
        packs = [[tf.convert_to_tensor(tensor) for tensor in pack] for pack in input_tensor_packs]
        if not self._ours([tensor for pack in packs for tensor in pack], options):
            return super().batch_all_reduce(packs, options)
        return [total for pack in packs for total in self._sum_mixed(pack)]

    def _ours(self, tensors: list[Any], options: Any) -> bool:
        merged = self._options.merge(options)
        return (
            merged.implementation is _AUTO
            and not merged.timeout_seconds
            and all(tensor.dtype in _DTYPES for tensor in tensors)
        )

    def _sum_mixed(self, tensors: list[Any]) -> list[Any]:
        sums: dict[int, Any] = {}
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [i for i, tensor in enumerate(tensors) if tensor.dtype == dtype]
            sums.update(zip(alike, self._sum([tensors[i] for i in alike]), strict=True))
        return [sums[i] for i in range(len(tensors))]

    def _sum(self, tensors: list[Any]) -> Any:
        instance = self._next_instance_key()
        with tf.device(self._device):
            return self._operation(
                instance=instance,
                token=self._get_ordering_token(),
                inputs=tensors,
                group=self._group_key,
            )
