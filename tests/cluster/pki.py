"""Certificates and kubeconfigs of the test cluster, made by openssl; good for one month."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster import layout
from tests.cluster.commands import run

_DAYS = "30"
_EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
# Who may call the API server, as Kubernetes' own roles know them: name -> (user, group).
CLIENTS = {
    "admin": ("taas-test-admin", "system:masters"),
    # The API server itself, when it calls kubelets for logs and exec.
    "kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    **{node.name: (f"system:node:{node.name}", "system:nodes") for node in layout.NODES},
}


def create() -> None:
    """Writes a new authority, everybody's certificate and everybody's kubeconfig."""
    layout.PKI.mkdir(parents=True, mode=0o700)
    layout.CONFIG.mkdir(parents=True, mode=0o700)
    ca: list[str | Path] = [
        "-keyout",
        layout.PKI / "ca.key",
        "-out",
        layout.PKI / "ca.crt",
        "-subj",
        "/CN=taas-test",
    ]
    run("openssl", "req", "-x509", *_EC, "-days", _DAYS, *ca)
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
    addresses = [layout.HOST_IP, layout.API_SERVICE_IP, "127.0.0.1"]
    alternatives = [f"DNS:{n}" for n in names] + [f"IP:{a}" for a in addresses]
    _sign("apiserver", "/CN=kube-apiserver", f"subjectAltName={','.join(alternatives)}")
    for name, (user, group) in CLIENTS.items():
        _sign(name, (f"/O={group}" if group else "") + f"/CN={user}", "extendedKeyUsage=clientAuth")
        _kubeconfig(name)
    run("openssl", "genrsa", "-out", layout.PKI / "service-accounts.key", "2048")


def _sign(name: str, subject: str, extension: str) -> None:
    files: list[str | Path] = [
        "-keyout",
        layout.PKI / f"{name}.key",
        "-out",
        layout.PKI / f"{name}.crt",
    ]
    authority: list[str | Path] = ["-CA", layout.PKI / "ca.crt", "-CAkey", layout.PKI / "ca.key"]
    what = ["-days", _DAYS, "-subj", subject, "-addext", extension]
    constraint = ["-addext", "basicConstraints=critical,CA:FALSE"]
    run("openssl", "req", "-x509", *_EC, *authority, *what, *constraint, *files)


def _kubeconfig(name: str) -> None:
    """JSON, which is YAML too; certificates by path."""
    cluster = {"server": layout.API_URL, "certificate-authority": str(layout.PKI / "ca.crt")}
    user = {
        "client-certificate": str(layout.PKI / f"{name}.crt"),
        "client-key": str(layout.PKI / f"{name}.key"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "taas-test", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "taas-test", "context": {"cluster": "taas-test", "user": name}}],
        "current-context": "taas-test",
    }
    path = layout.CONFIG / f"{name}.kubeconfig"
    path.write_text(json.dumps(document, indent=1))
    path.chmod(0o600)
