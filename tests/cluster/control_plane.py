"""etcd, API server, controller manager, scheduler and name server: processes of this machine.

Each sits in a control group of its own, so it is found, ended and started again by its name.
"""

from __future__ import annotations

import contextlib
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from tests.cluster import cgroups, layout, programs
from tests.cluster.commands import run, wait_until

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
NAMES = "names"
ALL = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER, NAMES)


def start(name: str) -> None:
    """Starts one of ALL, unless it runs already. Does not wait until it works."""
    if running(name):
        return
    group = cgroups.create(f"control-plane/{name}")
    log = layout.LOGS / f"{name}.log"
    # It joins the group before it becomes the program: there is no moment at which a process
    # of ours could be missed by `down`. setsid makes it nobody's child.
    script = f'echo $$ > {group}/cgroup.procs && exec "$@" </dev/null >>{log} 2>&1'
    run("setsid", "--fork", "sh", "-c", script, "sh", *_command(name))
    wait_until(f"{name} to start, see {log}", lambda: running(name))


def stop(name: str) -> None:
    """Ends one of ALL at once, as a crash would."""
    cgroups.kill(f"control-plane/{name}")


def running(name: str) -> bool:
    """Whether its process is there."""
    return bool(cgroups.members(f"control-plane/{name}"))


def api_answers() -> bool:
    """Whether the API server says that it is ready."""
    context = ssl.create_default_context(cafile=str(layout.PKI / "ca.crt"))
    context.load_cert_chain(layout.PKI / "admin.crt", layout.PKI / "admin.key")
    # No proxy: it stands between this machine and the world, not between it and itself.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with contextlib.suppress(OSError), opener.open(f"{layout.API_URL}/readyz", timeout=5) as reply:
        return bool(reply.status == 200)
    return False


def wait_for_api() -> None:
    """Returns when the API server is ready."""
    wait_until(f"the API server to be ready, see {layout.LOGS}", api_answers)


def _command(name: str) -> list[str | Path]:
    if name == ETCD:
        return _etcd()
    arguments = {
        API_SERVER: _api_server,
        CONTROLLER_MANAGER: _controller_manager,
        SCHEDULER: _scheduler,
        NAMES: _names,
    }[name]()
    return [programs.build() / name, *arguments]


def _etcd() -> list[str | Path]:
    return [
        "etcd",
        "--name=test",
        f"--data-dir={layout.STATE}/etcd",
        f"--listen-client-urls={layout.ETCD_CLIENT}",
        f"--advertise-client-urls={layout.ETCD_CLIENT}",
        f"--listen-peer-urls={layout.ETCD_PEER}",
        f"--initial-advertise-peer-urls={layout.ETCD_PEER}",
        f"--initial-cluster=test={layout.ETCD_PEER}",
        # The cluster does not outlive the machine, so nothing needs to survive a power cut.
        "--unsafe-no-fsync",
    ]


def _api_server() -> list[str]:
    pki = layout.PKI
    return [
        f"--etcd-servers={layout.ETCD_CLIENT}",
        f"--bind-address={layout.HOST_IP}",
        f"--advertise-address={layout.HOST_IP}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={layout.SERVICE_NETWORK}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        # Nobody here resolves the names of nodes.
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/service-accounts.key",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
    ]


def _controller_manager() -> list[str]:
    config = layout.CONFIG / "controller-manager.kubeconfig"
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={layout.PKI}/ca.crt",
        f"--service-account-private-key-file={layout.PKI}/service-accounts.key",
        # A lost node is noticed in seconds, so that tests of it are short.
        "--node-monitor-period=1s",
        "--node-monitor-grace-period=8s",
        # A claim that is seen before its volume is looked at again only then, by default in 15 s.
        "--pvclaimbinder-sync-period=1s",
    ]


def _scheduler() -> list[str]:
    config = layout.CONFIG / "scheduler.kubeconfig"
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ]


def _names() -> list[str]:
    return [str(layout.KUBECONFIG), f"{layout.HOST_IP}:53", layout.CLUSTER_DOMAIN]
