"""Brings the whole test cluster up and takes it down. Both may be run again at any moment.

`down` asks no memory what there is: it ends what is in the cluster's control group and removes
what is under STATE, so a run that was killed half-way is cleaned up like any other.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster import cgroups, control_plane, images, layout, nodes, pki, programs
from tests.cluster.commands import run, say, wait_until
from tests.cluster.images import Images
from trainer import procfs

# The kubelet sets these for the whole machine; `down` puts them back.
_TUNED = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_KERNEL = Path("/proc/sys")
_REMEMBERED = layout.STATE / "sysctl.json"
# The group of whoever brings the cluster up or down, and of the programs that help.
_WORK = "work"
_IMAGES = layout.STATE / "images.json"
_GPUS = layout.STATE / "gpus.json"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One `up` or `down` at a time on this machine."""
    if os.geteuid() != 0:
        raise PermissionError("the test cluster makes namespaces and mounts: run this as root")
    layout.CACHE.mkdir(parents=True, exist_ok=True)
    # A name that the kernel keeps: it is free again when its holder dies, and is no file.
    with socket.socket(socket.AF_UNIX) as lock:

        def held() -> bool:
            with contextlib.suppress(OSError):
                lock.bind(f"\0{layout.CGROUP}")
                return True
            return False

        if not held():
            say("waiting for another `up` or `down` to end")
            wait_until("another `up` or `down` to end", held, timeout_s=3600)
        with cgroups.inside(_WORK):
            yield
        if not layout.STATE.exists():
            cgroups.remove()


def up() -> Images:
    """Both nodes Ready and the images of the present code on them; from any state before."""
    with _alone():
        built = _prepared()
        if layout.STATE.exists() and not healthy():
            say("what is left of an earlier cluster is not whole: taking it down first")
            _down()
        if not layout.STATE.exists():
            _create()
        for node in layout.NODES:
            images.update(node, built)
        _IMAGES.write_text(json.dumps([*built]))
        say("waiting for the nodes to be Ready")
        wait_until("both nodes to be Ready", _all_ready, timeout_s=180)
        say("the cluster is up")
    return built


def prepare() -> Images:
    """What `up` needs, the images of the present code among it, in the cache; needs no cluster."""
    with _alone():
        return _prepared()


def _prepared() -> Images:
    programs.install()
    # To compile takes the processors, most of what images need comes over the network.
    with ThreadPoolExecutor(1) as aside:
        programs_built = aside.submit(programs.build)
        built = images.prepare()
        programs_built.result()
    return built


def images_there() -> Images:
    """The images that the running cluster has, which may be of the code as it was at `up`."""
    return Images(*json.loads(_IMAGES.read_text()))


def healthy() -> bool:
    """Whether every part of the cluster runs and the API server answers."""
    parts = [control_plane.running(name) for name in control_plane.ALL]
    parts += [nodes.running(node) for node in layout.NODES]
    return all(parts) and layout.SHARED.exists() and control_plane.api_answers()


def status() -> dict[str, bool]:
    """Which parts run."""
    found = {name: control_plane.running(name) for name in control_plane.ALL}
    return found | {node.name: nodes.running(node) for node in layout.NODES}


def down() -> None:
    """Ends and removes everything but the cache."""
    with _alone():
        _down()


def _create() -> None:
    layout.LOGS.mkdir(parents=True)
    tuned = {name: (_KERNEL / name).read_text() for name in _TUNED if (_KERNEL / name).exists()}
    partial = _REMEMBERED.with_suffix(".partial")
    partial.write_text(json.dumps(tuned))
    partial.rename(_REMEMBERED)
    say("making certificates and the network")
    pki.create()
    nodes.create_network()
    say("starting the control plane")
    control_plane.start(control_plane.ETCD)
    control_plane.start(control_plane.API_SERVER)
    layout.SMALL_DISK.mkdir()
    size = f"size={layout.SMALL_DISK_MB}m,mode=1777"
    # Before the nodes, which take over what is mounted when they start.
    run("mount", "-t", "tmpfs", "-o", size, layout.CGROUP, layout.SMALL_DISK)
    say("starting the nodes")
    for node in layout.NODES:
        nodes.start(node)
    control_plane.wait_for_api()
    control_plane.start(control_plane.CONTROLLER_MANAGER)
    control_plane.start(control_plane.SCHEDULER)
    control_plane.start(control_plane.NAMES)
    # Written last: whoever finds it finds a cluster that was made to its end.
    layout.SHARED.mkdir()
    layout.SHARED.chmod(0o1777)


def _down() -> None:
    programs.forget_policy()
    for name in cgroups.names():
        # The group of this very work is left and removed when it is done.
        if name != _WORK:
            say(f"ending {name}")
            cgroups.kill(name)
            cgroups.remove(name)
    nodes.remove_network()
    if _REMEMBERED.exists():
        for name, value in json.loads(_REMEMBERED.read_text()).items():
            (_KERNEL / name).write_text(value)
    if layout.STATE.exists():
        say(f"removing {layout.STATE}")
        _unmount_below(layout.STATE)
        shutil.rmtree(layout.STATE)


def _unmount_below(folder: Path) -> None:
    """Drops what is still mounted there, so that nothing is deleted through a mount."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4]) for line in mounts]
    for point in reversed(points):
        if point.is_relative_to(folder):
            run("umount", "--lazy", point)


def kubectl_command() -> list[str]:
    """The words that start kubectl as the cluster's administrator."""
    # Its discovery cache would otherwise be a folder in the caller's home.
    cache = f"--cache-dir={layout.STATE}/kubectl-cache"
    return [str(programs.build() / "kubectl"), f"--kubeconfig={layout.KUBECONFIG}", cache]


def kubectl(*words: str) -> str:
    """What kubectl says as the cluster's administrator. Raises CommandFailed."""
    return run(*kubectl_command(), *words)


def node_ready(name: str) -> bool:
    """Whether the API server has the node as Ready."""
    query = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return kubectl("get", "node", name, "--ignore-not-found", "-o", query) == "True"


def _last_heard(name: str) -> str:
    """When the node's kubelet last spoke, or nothing."""
    query = "jsonpath={.status.conditions[?(@.type=='Ready')].lastHeartbeatTime}"
    return kubectl("get", "node", name, "--ignore-not-found", "-o", query)


def _all_ready() -> bool:
    return all(node_ready(node.name) for node in layout.NODES)


def set_gpus(name: str, count: int) -> None:
    """Lets the node offer so many GPUs, which are not there: pods get nothing but the number."""
    known: dict[str, int] = json.loads(_GPUS.read_text()) if _GPUS.exists() else {}
    _GPUS.write_text(json.dumps(known | {name: count}))
    _offer_gpus(name, count)


def _offer_gpus(name: str, count: int) -> None:
    offered = {layout.GPU: str(count)}
    patch = json.dumps({"status": {"capacity": offered, "allocatable": offered}})
    kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)


def kill_node(name: str) -> None:
    """A power cut: kubelet, containerd and all pods of the node are gone without a word."""
    say(f"taking the power from {name}")
    nodes.stop(layout.node(name))


def kill_service(name: str, service: str) -> None:
    """Ends one of layout.NODE_SERVICES on a node, which starts it again."""
    group = f"{name}/system"
    found = [pid for pid in cgroups.members(group) if _program(pid) == service]
    if len(found) != 1:
        raise LookupError(f"{name} runs {len(found)} processes called {service}")
    os.kill(found[0], signal.SIGKILL)


def _program(pid: int) -> str:
    """The name of what a process runs, or nothing if it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return procfs.name(pid)
    return ""


def processes_of_pod(uid: str) -> list[int]:
    """Process ids of all that runs in a pod, on whatever node it is."""
    top = cgroups.registry()
    groups = [str(group.relative_to(top)) for group in top.rglob(f"pod{uid}")]
    return [pid for group in groups for pid in cgroups.members(group)]


def kill_pod(uid: str) -> None:
    """Ends what runs in a pod, without a word to it or to its kubelet."""
    for pid in processes_of_pod(uid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def start_node(name: str) -> None:
    """Boots a node that was killed and waits until it is Ready, with the GPUs it had."""
    say(f"booting {name}")
    # "Ready" may be what the node said before it was killed; a later word is its own.
    before = _last_heard(name)
    nodes.start(layout.node(name))
    wait_until(f"{name} to be Ready", lambda: node_ready(name) and _last_heard(name) != before)
    known: dict[str, int] = json.loads(_GPUS.read_text()) if _GPUS.exists() else {}
    if count := known.get(name):
        # A kubelet that starts withdraws resources that no device plugin offers.
        _offer_gpus(name, count)
