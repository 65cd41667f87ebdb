"""One worker of `benchmarks.collective`: does what it reads, and says how many seconds it took.

    python -m benchmarks.collective_member POSITION ADDRESS,ADDRESS

Reads JSON lines ["reduce", side, bytes, rounds] and ["train", side, network, rounds], and answers
each with the seconds of one round. Without a second worker nothing is reduced.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.sides.pinning import pin
from benchmarks.sides.stamps import Teller
from benchmarks.training import networks
from trainer.contract import Assignment
from trainer.ring import meeting


def main(argv: Sequence[str]) -> None:
    """Serve until the standard input ends."""
    position, cluster = int(argv[0]), tuple(argv[1].split(","))
    # Before the import: TensorFlow makes as many threads as it may use cores.
    pin(position)
    answers = Teller.on_standard_output()
    worker = _Worker(position, cluster)
    for line in sys.stdin:
        kind, side, what, rounds = json.loads(line)
        run = worker.function(kind, side, what)
        run(1)
        began = time.perf_counter()
        run(rounds)
        answers.say((time.perf_counter() - began) / rounds)
    worker.leave()
    # An orderly end of the interpreter takes long with TensorFlow in it.
    os._exit(0)


class _Worker:
    def __init__(self, position: int, cluster: tuple[str, ...]) -> None:
        from trainer import strategy

        self._members = len(cluster)
        assignment = Assignment("", "", "", 1, "", "", cluster=cluster, position=position)
        self._strategy = strategy.join(assignment)
        self._made: dict[tuple[Any, ...], Callable[[int], None]] = {}
        self._ends: tuple[socket.socket, socket.socket] | None = None
        if self._members > 1:
            place = meeting.Place(position, self._members, "127.0.0.1")
            self._ends = meeting.meet(place, _Board(), meeting.Patience())

    def function(self, kind: str, side: str, what: Any) -> Callable[[int], None]:
        """Return what runs so many rounds; made and traced once."""
        key = (kind, side, what)
        if key not in self._made:
            if side == "sockets":
                self._made[key] = self._exchange(what)
            elif kind == "reduce":
                self._made[key] = self._reduce(side, what)
            else:
                self._made[key] = self._train(side, what)
        return self._made[key]

    def leave(self) -> None:
        """Wait for the others."""
        from trainer import strategy

        strategy.part(self._members)

    def _options(self, side: str) -> Any:
        import tensorflow as tf

        kinds = tf.distribute.experimental.CommunicationImplementation
        return tf.distribute.experimental.CommunicationOptions(
            implementation=kinds.RING if side == "tensorflow" else kinds.AUTO
        )

    def _reduce(self, side: str, size: int) -> Callable[[int], None]:
        import tensorflow as tf

        options, share = self._options(side), 1 / self._members

        def step(values: Any) -> Any:
            # So that it stays what it is; a gradient is made anew in each step, too.
            values = values * share
            return tf.distribute.get_replica_context().all_reduce("SUM", [values], options)[0]

        @tf.function(autograph=False)
        def many(rounds: Any) -> Any:
            def body(done: Any, values: Any) -> Any:
                return done + 1, self._strategy.run(step, args=(values,))

            return tf.while_loop(lambda done, _: done < rounds, body, [0, tf.ones([size // 4])])[0]

        return lambda rounds: many(tf.constant(rounds)).numpy()

    def _exchange(self, size: int) -> Callable[[int], None]:
        """Move what one member of a ring sends and receives, and add nothing."""
        assert self._ends
        left, right = self._ends
        length = 2 * (self._members - 1) * size // self._members
        out, into = memoryview(bytearray(256 << 10)), memoryview(bytearray(256 << 10))
        left.setblocking(False)
        right.setblocking(False)

        def once() -> None:
            sent = received = 0
            while sent < length or received < length:
                writes = [right] if sent < length else []
                reads = [left] if received < length else []
                readable, writable, _ = select.select(reads, writes, [])
                if writable:
                    sent += right.send(out[: length - sent])
                if readable:
                    received += left.recv_into(into[: length - received])

        def run(rounds: int) -> None:
            for _ in range(rounds):
                once()

        return run

    def _train(self, side: str, network: str) -> Callable[[int], None]:
        import keras
        import tensorflow as tf

        options = self._options(side)
        batch = int(network.rsplit(" ", 1)[1])
        with self._strategy.scope():
            model = networks.build(keras, "lenet5" if network.startswith("LeNet") else "dense")
            variables = [v.value for v in model.trainable_variables]
            speeds = [tf.Variable(tf.zeros_like(v)) for v in variables]
            pictures = tf.random.stateless_uniform([batch, 28, 28, 1], (1, 2))
            labels = tf.range(batch) % 10
        losses = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        def step() -> None:
            with tf.GradientTape() as tape:
                loss = losses(labels, model(pictures, training=True))
            gradients = tape.gradient(loss, variables)
            if self._members > 1:
                context = tf.distribute.get_replica_context()
                gradients = context.all_reduce("MEAN", gradients, options)
            for variable, speed, gradient in zip(variables, speeds, gradients, strict=True):
                speed.assign(0.9 * speed + gradient)
                variable.assign_sub(0.01 * speed)

        @tf.function(autograph=False)
        def many(rounds: Any) -> Any:
            def body(done: Any) -> Any:
                self._strategy.run(step)
                return done + 1

            return tf.while_loop(lambda done: done < rounds, body, [0])

        return lambda rounds: [t.numpy() for t in many(tf.constant(rounds))] and None


class _Board:
    """The words of the sockets that are measured, beside those of the ring."""

    def put(self, key: str, value: str) -> None:
        from tensorflow.python.eager import context

        context.context().set_config_key_value(f"benchmark/{key}", value)

    def get(self, key: str, timeout_s: float) -> str:
        from tensorflow.python.eager import context

        value: str = context.context().get_config_key_value(
            f"benchmark/{key}", int(timeout_s * 1000)
        )
        return value


if __name__ == "__main__":
    main(sys.argv[1:])
