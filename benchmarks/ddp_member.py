"""One worker of PyTorch's DistributedDataParallel on gloo, as `benchmarks.collective` asks for it.

    python3 -m benchmarks.ddp_member POSITION ADDRESS,ADDRESS

Answers as collective_member does, for ["train", side, network, rounds] alone. It runs under another
Python than the rest (see benchmarks.debian_torch), so it takes nothing of the project but this
package's own plain modules.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.sides.pinning import pin


def main(argv: Sequence[str]) -> None:
    """Serve until the standard input ends."""
    position, cluster = int(argv[0]), argv[1].split(",")
    # Before the import: it makes as many threads as it may use cores.
    pin(position)
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    if len(cluster) > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"tcp://{cluster[0]}", rank=position, world_size=len(cluster)
        )
    made: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        _, _, network, rounds = json.loads(line)
        if network not in made:
            made[network] = _step(torch, network, len(cluster))
        once = made[network]
        once()
        began = time.perf_counter()
        for _ in range(rounds):
            once()
        print(json.dumps((time.perf_counter() - began) / rounds), flush=True)
    os._exit(0)


def _step(torch: Any, network: str, members: int) -> Callable[[], None]:
    """Return what makes one step of a network, the same that the other sides make."""
    nn = torch.nn
    batch = int(network.rsplit(" ", 1)[1])
    model = nn.Sequential(*(_lenet5(nn) if network.startswith("LeNet") else _dense(nn)))
    if members > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = nn.CrossEntropyLoss()
    pictures, labels = torch.rand(batch, 1, 28, 28), torch.arange(batch) % 10

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        losses(model(pictures), labels).backward()
        optimizer.step()

    return step


def _lenet5(nn: Any) -> list[Any]:
    """Return the layers of `benchmarks.training.networks`, in PyTorch's words."""
    return [
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, 10),
    ]


def _dense(nn: Any) -> list[Any]:
    return [
        *(nn.Flatten(), nn.Linear(784, 1500), nn.ReLU(), nn.Linear(1500, 1400), nn.ReLU()),
        nn.Linear(1400, 10),
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
