"""Process 1 of a simulated machine: mounts its folders and runs containerd, kubelet, kube-proxy.

It is started inside of the node's own network, mount and process namespaces. When it ends, the
kernel ends everything else of the node and drops its mounts, as a machine does that loses power.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster import layout
from tests.cluster.commands import say


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
            _mount("--bind", layout.STATE, inside)
        _mount("--rbind", node.folder / own, usual)


def _start(name: str, command: list[str], node: layout.Node) -> subprocess.Popen[bytes]:
    with (layout.LOGS / f"{node.name}-{name}.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def main(name: str, programs: str) -> int:
    """Runs the node until a signal or the death of one of its services ends it."""
    node = layout.node(name)
    _mount_folders(node)
    config = node.folder / "config"
    kubelet = [
        f"{programs}/kubelet",
        f"--config={config}/kubelet.json",
        f"--kubeconfig={layout.CONFIG}/{node.name}.kubeconfig",
        f"--hostname-override={node.name}",
        f"--node-ip={node.ip}",
    ]
    services = {
        _start(label, command, node).pid: label
        for label, command in (
            ("containerd", ["containerd", "--config", f"{config}/containerd.toml"]),
            ("kubelet", kubelet),
            ("kube-proxy", [f"{programs}/kube-proxy", f"--config={config}/kube-proxy.json"]),
        )
    }
    # Process 1 has no default actions: it must say itself that it can be ended.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        with contextlib.suppress(InterruptedError):
            pid, status = os.wait()
            if pid in services:
                code = os.waitstatus_to_exitcode(status)
                say(f"{services[pid]} ended with {code}; the node goes down")
                return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
