"""The test cluster's command line: `python -m tests.cluster up|down|test|status|env|prepare`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from typing import IO

from tests.cluster import access, layout, lifecycle, programs
from tests.cluster.commands import CommandFailed, say

_ACTIONS = {
    "up": "bring two nodes up; prints what `env` prints",
    "down": "take everything down; only the cache of programs and images stays",
    "test": "run all tests that need a cluster or an API server, on this one or on KUBECONFIG's",
    "status": "say which parts run; fails unless all do",
    "env": "print shell lines that let kubectl and the tests use the cluster",
    "prepare": "put what `up` needs into the cache, and print the names of the images",
}


def _print_environment() -> None:
    sys.stdout.write(f"export KUBECONFIG={layout.KUBECONFIG}\n")
    # So that what kubectl caches goes with the cluster.
    sys.stdout.write(f"export KUBECACHEDIR={layout.STATE}/kubectl-cache\n")
    sys.stdout.write(f"export PATH={programs.folder()}:$PATH\n")


def _test() -> int:
    """Runs the tests, those with an API server of their own beside the others; the worse exit code
    of the two. A cluster that was down is taken down again."""
    own = access.kubeconfig_of_user() is None
    stays = not own or lifecycle.healthy()
    try:
        if own:
            # The first time takes minutes: here it can be seen.
            lifecycle.up()
        with tempfile.TemporaryFile() as said, _pytest("cluster and not nodes", said) as aside:
            with _pytest("cluster and nodes", None) as shown:
                codes = [shown.wait(), aside.wait()]
            said.seek(0)
            sys.stdout.write(said.read().decode(errors="replace"))
        return max(codes)
    finally:
        if not stays:
            lifecycle.down()


def _pytest(marks: str, output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", "-q", "-m", marks, "tests"]
    return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT if output else None)


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
        elif action == "test":
            return _test()
        elif action == "env":
            _print_environment()
        elif action == "prepare":
            for name in lifecycle.prepare():
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
