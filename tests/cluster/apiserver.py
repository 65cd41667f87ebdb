"""An API server alone: etcd and kube-apiserver on loopback, up in seconds, for adapter tests.

No scheduler, no kubelet, no garbage collector: what they would do, a test does itself. It needs
no root and touches nothing but a folder.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import layout, programs
from tests.cluster.commands import run, wait_until

_CRD = layout.PROJECT / "deploy" / "base" / "crd.yaml"


class ApiServer:
    """An API server with the TrainingJob resource, for as long as the `with` block runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._etcd_port, self._etcd_peer_port, self._port = _free_ports(3)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.kubeconfig = folder / "kubeconfig"
        # Of users who may do what is granted to them, and no more.
        self.kubeconfig_of_somebody = folder / "kubeconfig-of-somebody"
        self.kubeconfig_of_nobody = folder / "kubeconfig-of-nobody"

    def __enter__(self) -> ApiServer:
        programs.install()
        programs.build()
        self._folder.mkdir(parents=True, exist_ok=True)
        key = self._folder / "service-accounts.key"
        run("openssl", "genrsa", "-out", key, "2048")
        self._write_users()
        try:
            self.start()
            self._prepare()
        except BaseException:
            self._end_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end_all()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start what does not run, and wait until it answers. To be called from the main thread:
        the kernel ends these processes with the thread that started them."""
        for name, command in (("etcd", self._etcd()), ("kube-apiserver", self._api_server())):
            if name not in self._processes:
                log = (self._folder / f"{name}.log").open("ab")
                # Ends with the tests, also when those are killed.
                words = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
                self._processes[name] = subprocess.Popen(words, stdout=log, stderr=log)
                log.close()
        wait_until(f"the API server to answer, see {self._folder}", self._answers)

    def kill(self) -> None:
        """End the API server at once, as a crash would; etcd stays."""
        self._end("kube-apiserver")

    def forget_history(self) -> None:
        """Let etcd forget all but the present. What the API server itself remembers goes when it
        is killed; watches of the past then end with 410."""
        revision = self._ask_etcd("maintenance/status", {})["header"]["revision"]
        self._ask_etcd("kv/compaction", {"revision": revision, "physical": True})

    def _ask_etcd(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._etcd_port}/v3/{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, data=json.dumps(body).encode(), timeout=30) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl says as administrator. Raises CommandFailed with its complaint."""
        cache = f"--cache-dir={self._folder}/kubectl-cache"
        command = [programs.build() / "kubectl", f"--kubeconfig={self.kubeconfig}", cache, *words]
        return run(*command, stdin=stdin)

    def _prepare(self) -> None:
        definition = yaml.safe_load(_CRD.read_text()) if _CRD.exists() else _bare_definition()
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(definition))
        self.kubectl("wait", "--for=condition=Established", "crd/trainingjobs.taas.dev")
        wait_until("namespace default", lambda: "default" in self.kubectl("get", "ns"))
        self.kubectl("create", "namespace", "other")

    def _answers(self) -> bool:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        asked = urllib.request.Request(
            f"https://127.0.0.1:{self._port}/readyz",
            headers={"Authorization": f"Bearer {_token('admin')}"},
        )
        try:
            with urllib.request.build_opener(*handlers).open(asked, timeout=5) as reply:
                return bool(reply.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def _end_all(self) -> None:
        for name in [*self._processes]:
            self._end(name)

    def _etcd(self) -> list[str | Path]:
        client = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._etcd_peer_port}"
        return [
            "etcd",
            "--name=test",
            f"--data-dir={self._folder}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            "--unsafe-no-fsync",
        ]

    def _api_server(self) -> list[str | Path]:
        key = self._folder / "service-accounts.key"
        return [
            programs.build() / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            # The server makes its own certificate there.
            f"--cert-dir={self._folder}",
            f"--token-auth-file={self._folder}/tokens.csv",
            "--authorization-mode=RBAC",
            # Nobody here makes the service accounts of namespaces.
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
        ]

    def _write_users(self) -> None:
        users = {
            "admin": (self.kubeconfig, ",system:masters"),
            "somebody": (self.kubeconfig_of_somebody, ""),
            "nobody": (self.kubeconfig_of_nobody, ""),
        }
        lines = []
        for name, (kubeconfig, groups) in users.items():
            self._write_kubeconfig(kubeconfig, _token(name))
            lines.append(f"{_token(name)},{name},{name}{groups}\n")
        (self._folder / "tokens.csv").write_text("".join(lines))

    def _write_kubeconfig(self, path: Path, token: str) -> None:
        cluster = {
            "server": f"https://127.0.0.1:{self._port}",
            "certificate-authority": str(self._folder / "apiserver.crt"),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(document))


def _token(user: str) -> str:
    return f"token-of-{user}"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _bare_definition() -> dict[str, object]:
    """The TrainingJob resource without any rule, for a tree whose own is not generated."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": anything, "status": anything},
            }
        },
    }
    names = {"kind": "TrainingJob", "plural": "trainingjobs", "singular": "trainingjob"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "trainingjobs.taas.dev"},
        "spec": {
            "group": "taas.dev",
            "scope": "Namespaced",
            "names": {**names, "shortNames": ["tj"]},
            "versions": [version],
        },
    }
