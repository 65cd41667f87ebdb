"""Brings nodes up and down: their network, their configuration, their process 1."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path

from tests.cluster import cgroups, images, layout, programs
from tests.cluster.commands import CommandFailed, run, wait_until
from tests.cluster.layout import Node


def create_network() -> None:
    """A switch that the host and the nodes are plugged into.

    It is a bridge in a network namespace of its own, out of reach of the host's firewall.
    """
    run("ip", "link", "add", layout.LINK, "type", "veth", "peer", "name", "host")
    layout.SWITCH.parent.mkdir(parents=True, exist_ok=True)
    _new_namespace(layout.SWITCH)
    run("ip", "link", "set", "host", "netns", layout.SWITCH)
    inside = ["nsenter", f"--net={layout.SWITCH}", "ip"]
    run(*inside, "link", "add", "switch", "type", "bridge")
    run(*inside, "link", "set", "switch", "up")
    run(*inside, "link", "set", "host", "master", "switch", "up")
    run("ip", "address", "add", f"{layout.HOST_IP}/24", "dev", layout.LINK)
    run("ip", "link", "set", layout.LINK, "up")
    for node in layout.NODES:
        run("ip", "route", "add", node.pod_network, "via", node.ip, "dev", layout.LINK)
    # Tests that run on the host reach Services through the first node's kube-proxy.
    first = layout.NODES[0].ip
    run("ip", "route", "add", layout.SERVICE_NETWORK, "via", first, "dev", layout.LINK)


def remove_network() -> None:
    """Removes all namespaces; the interfaces in them, and our end of the cable, go with them."""
    for file in (layout.SWITCH, *(node.network for node in layout.NODES)):
        _drop_namespace(file)
    # The kernel clears a namespace in its own time; by name the interface goes at once.
    with contextlib.suppress(CommandFailed):
        run("ip", "link", "delete", layout.LINK)


def _new_namespace(file: Path) -> None:
    file.touch()
    run("unshare", f"--net={file}", "true")


def _drop_namespace(file: Path) -> None:
    while file.exists():
        with contextlib.suppress(CommandFailed):
            run("umount", file)
            continue
        file.unlink()


def start(node: Node) -> None:
    """Boots the node. Images and finished work on its disk are as they were."""
    if running(node):
        return
    stop(node)
    for own in ("run", "config"):
        shutil.rmtree(node.folder / own, ignore_errors=True)
    for own in ("run", "config", "var-log", "var-lib"):
        (node.folder / own).mkdir(parents=True, exist_ok=True)
    if not (node.folder / "var-lib" / "containerd").exists():
        images.copy_store(node.folder / "var-lib" / "containerd")
    _configure(node)
    _plug_in(node)
    group = cgroups.create(f"{node.name}/system")
    log = layout.log(node)
    script = f'echo $$ > {group}/cgroup.procs && exec "$@" </dev/null >>{log} 2>&1'
    namespaces = ["nsenter", f"--net={node.network}", "unshare", "--mount", "--propagation=private"]
    namespaces += ["--pid", "--fork", "--mount-proc", "--kill-child"]
    program = [sys.executable, "-m", "tests.cluster.node", node.name, str(programs.build())]
    run("setsid", "--fork", "sh", "-c", script, "sh", *namespaces, *program, cwd=layout.PROJECT)

    def booted() -> bool:
        if node.containerd.exists():
            return True
        if log.exists() and "Traceback" in log.read_text():
            raise CommandFailed(f"{node.name} did not start:\n{log.read_text()}")
        return False

    wait_until(f"{node.name} to start, see {log}", booted)


def stop(node: Node) -> None:
    """Takes the power from the node: everything that runs on it is gone at once."""
    cgroups.kill(node.name)
    cgroups.remove(node.name)
    _drop_namespace(node.network)


def running(node: Node) -> bool:
    """Whether its process 1 is there."""
    return bool(cgroups.members(f"{node.name}/system"))


def _plug_in(node: Node) -> None:
    """A new network namespace for the node, with a cable to the switch and routes to the others."""
    _new_namespace(node.network)
    inside = ["nsenter", f"--net={node.network}", "ip"]
    in_switch = ["nsenter", f"--net={layout.SWITCH}", "ip"]
    run(*inside, "link", "add", "eth0", "type", "veth", "peer", "name", node.name)
    run(*inside, "link", "set", node.name, "netns", layout.SWITCH)
    run(*in_switch, "link", "set", node.name, "master", "switch", "up")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "add", f"{node.ip}/24", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "route", "add", "default", "via", layout.HOST_IP)
    for other in layout.NODES:
        if other != node:
            run(*inside, "route", "add", other.pod_network, "via", other.ip)
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    run("nsenter", f"--net={node.network}", "sh", "-c", forward)


def _configure(node: Node) -> None:
    config = node.folder / "config"
    (config / "cni").mkdir(parents=True)
    (config / "cni" / "10-bridge.conflist").write_text(json.dumps(_cni(node), indent=1))
    (config / "containerd.toml").write_text(_containerd(config))
    (config / "kubelet.json").write_text(json.dumps(_kubelet(node), indent=1))
    (config / "kube-proxy.json").write_text(json.dumps(_kube_proxy(node), indent=1))


def _cni(node: Node) -> dict[str, object]:
    ranges = [[{"subnet": node.pod_network}]]
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        # A pod that asks a Service may be given itself.
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}


def _containerd(config: Path) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
[{cri}]
  sandbox_image = "{images.probe_name()}"
  # Without the right to lower an OOM score, which containers of root lack in many a virtual
  # machine, no sandbox would start.
  restrict_oom_score_adj = true
[{cri}.cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{config}/cni"
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def _kubelet(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        # Without a root of its own it would end the other node's pods as orphans.
        "cgroupRoot": f"/{layout.CGROUP}/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [layout.HOST_IP],
        "clusterDomain": layout.CLUSTER_DOMAIN,
        "resolvConf": "",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        # A developer's full disk is no reason to evict pods, nor to delete images.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        # What an operator sets against bombs of forks; a worker with TensorFlow takes up to 200.
        "podPidsLimit": layout.POD_PIDS,
        # Who fills a disk is noticed in seconds instead of minutes.
        "volumeStatsAggPeriod": "5s",
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 8,
    }


def _kube_proxy(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(layout.CONFIG / "kube-proxy.kubeconfig")},
        "hostnameOverride": node.name,
        "clusterCIDR": layout.POD_NETWORK,
        # These are limits of the whole kernel, which a node must leave alone.
        "conntrack": {
            "maxPerCore": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
