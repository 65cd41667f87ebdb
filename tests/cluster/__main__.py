"""The test cluster's command line: `python -m tests.cluster up|down|status|env|images`."""

from __future__ import annotations

import argparse
import sys

from tests.cluster import layout, lifecycle, programs
from tests.cluster.commands import CommandFailed, say

_ACTIONS = {
    "up": "bring two nodes up; prints what `env` prints",
    "down": "take everything down; only the cache of programs and images stays",
    "status": "say which parts run; fails unless all do",
    "env": "print shell lines that let kubectl and the tests use the cluster",
    "images": "build the images of the present code into the cache, and print their names",
}


def _print_environment() -> None:
    sys.stdout.write(f"export KUBECONFIG={layout.KUBECONFIG}\n")
    # So that what kubectl caches goes with the cluster.
    sys.stdout.write(f"export KUBECACHEDIR={layout.STATE}/kubectl-cache\n")
    sys.stdout.write(f"export PATH={programs.folder()}:$PATH\n")


def main() -> int:
    """Runs one action; the exit code of the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name, text in _ACTIONS.items():
        actions.add_parser(name, help=text, description=text)
    action = parser.parse_args().action
    try:
        if action == "up":
            lifecycle.up()
            _print_environment()
        elif action == "down":
            lifecycle.down()
        elif action == "env":
            _print_environment()
        elif action == "images":
            built = lifecycle.build_images()
            for name in built:
                sys.stdout.write(f"{name}\n")
        else:
            found = lifecycle.status()
            for name, runs in found.items():
                sys.stdout.write(f"{name}: {'runs' if runs else 'down'}\n")
            return 0 if all(found.values()) else 1
    except (CommandFailed, LookupError, OSError) as error:
        say(f"failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
