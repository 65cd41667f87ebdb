"""Entry point of the controller: `python -m controller`, on one machine or on Kubernetes."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import suppress

from controller import process, run_local
from controller.config import KubernetesConfig, LocalConfig, parse_arguments
from controller.errors import TaasError


async def _run(config: LocalConfig | KubernetesConfig) -> None:
    """Run until SIGTERM or SIGINT; the workers live on."""
    if isinstance(config, LocalConfig):
        running = asyncio.create_task(run_local.run(config))
    else:
        # On one machine the Kubernetes client need not be installed.
        from controller import run_kubernetes

        running = asyncio.create_task(run_kubernetes.run(config))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


def main() -> int:
    """Run the controller and return its exit code."""
    config = parse_arguments(sys.argv[1:])
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    process.prepare()
    try:
        asyncio.run(_run(config))
    except TaasError as error:
        logging.getLogger("controller").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
