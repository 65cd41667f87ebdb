"""Entry point of a storage gateway: `python -m controller.gateway --root --listen --token-file`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import grpc

from controller.gateway.server import serving
from controller.gateway.token import TokenFile

_log = logging.getLogger("controller.gateway")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line. Exits with a usage message on a mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m controller.gateway", description="Serves one claim to the controller."
    )
    parser.add_argument("--root", type=Path, required=True, help="where the claim is mounted")
    parser.add_argument("--listen", required=True, help="HOST:PORT; any free port for 0")
    parser.add_argument(
        "--token-file", type=Path, required=True, help="holds the token that callers send"
    )
    parser.add_argument("--certificate", type=Path, required=True, help="PEM file")
    parser.add_argument("--key", type=Path, required=True, help="PEM file, of the certificate")
    parser.add_argument("--health", required=True, help="HOST:PORT of the probes, without TLS")
    return parser.parse_args(arguments)


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    token = TokenFile(options.token_file)
    token.check()
    pair = (options.key.read_bytes(), options.certificate.read_bytes())
    async with serving(
        options.root,
        options.listen,
        token,
        credentials=grpc.ssl_server_credentials([pair]),
        health_address=options.health,
    ) as address:
        _log.info("serving %s at %s", options.root, address)
        await stop.wait()


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    options = parse(sys.argv[1:])
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Workers of the claim's namespace share what is written here, by their group.
    os.umask(0o007)
    try:
        asyncio.run(_serve(options))
    except (OSError, ValueError) as error:
        _log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
