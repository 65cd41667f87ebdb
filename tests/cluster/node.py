"""Process 1 of a simulated machine: mounts its folders and runs containerd, kubelet, kube-proxy.

It is started inside of the node's own network, mount and process namespaces. When it ends, the
kernel ends everything else of the node and drops its mounts, as a machine does that loses power.

A service that ends is started again, as an init system does for a real node. That is also the
order in which they come up: a kubelet that finds no containerd yet ends with an error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster import layout
from tests.cluster.commands import say

# Before a service is started again, so that one that cannot run leaves the machine some air.
_PAUSE_S = 0.5


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def _mount_folders(node: layout.Node) -> None:
    """Gives the node a /run, a /var/lib and a /var/log of its own.

    So programs use their usual paths, and what they leave there is under STATE.
    """
    # Volumes that a pod mounts for others must travel within the node, not out of it.
    _mount("--make-rshared", "/")
    for own, usual in (("run", "/run"), ("var-log", "/var/log"), ("var-lib", "/var/lib")):
        if layout.STATE.is_relative_to(usual):
            # The mount below is about to hide STATE; take it along, to the same place.
            inside = node.folder / own / layout.STATE.relative_to(usual)
            inside.mkdir(parents=True, exist_ok=True)
            _mount("--rbind", layout.STATE, inside)
        _mount("--rbind", node.folder / own, usual)


def _start(name: str, command: list[str], node: layout.Node) -> subprocess.Popen[bytes]:
    with layout.log(node, name).open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _services(node: layout.Node, programs: str) -> dict[str, list[str]]:
    config = node.folder / "config"
    kubelet = [
        f"{programs}/kubelet",
        f"--config={config}/kubelet.json",
        f"--kubeconfig={layout.CONFIG}/{node.name}.kubeconfig",
        f"--hostname-override={node.name}",
        f"--node-ip={node.ip}",
    ]
    return {
        "containerd": ["containerd", "--config", f"{config}/containerd.toml"],
        "kubelet": kubelet,
        "kube-proxy": [f"{programs}/kube-proxy", f"--config={config}/kube-proxy.json"],
    }


def main(name: str, programs: str) -> None:
    """Runs the node until a signal ends it."""
    node = layout.node(name)
    _mount_folders(node)
    # Process 1 has no default actions: it must say itself that it can be ended.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    services = _services(node, programs)
    running = {label: _start(label, command, node) for label, command in services.items()}
    while True:
        with contextlib.suppress(InterruptedError):
            # Also reaps what the node's containers leave behind.
            pid, status = os.wait()
            for label in [label for label, process in running.items() if process.pid == pid]:
                say(f"{label} ended with {os.waitstatus_to_exitcode(status)}; starting it again")
                time.sleep(_PAUSE_S)
                running[label] = _start(label, services[label], node)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
