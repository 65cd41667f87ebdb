"""Gets the programs that the cluster is made of: Debian's through apt, Kubernetes from source."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path

from tests.cluster import layout
from tests.cluster.commands import background, run, say

# Program to look for, and Debian's package that has it.
PACKAGES = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "ip": "iproute2",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
    "nsenter": "util-linux",
}
KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
_VERSION = "k8s.io/component-base/version"
# Without a version the API server calls itself v0.0.0, and clients refuse it.
LINKER_FLAGS = (
    f"-s -w -X {_VERSION}.gitVersion={layout.KUBERNETES} "
    f"-X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=34"
)
_building = threading.Lock()
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = f"#!/bin/sh\n# {layout.CGROUP}: packages start no services\nexit 101\n"


def install() -> None:
    """Installs the packages that are missing. Debian's own services are not started."""
    missing = sorted({p for program, p in PACKAGES.items() if shutil.which(program) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise LookupError(f"install {', '.join(missing)}: this machine has no apt-get to do it")
    say(f"installing {', '.join(missing)}")
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text(_POLICY_TEXT)
        _POLICY.chmod(0o755)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(*background(["apt-get", "update", "-q"]), env=quiet)
        install_command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
        run(*background(install_command), env=quiet)
    finally:
        if ours:
            forget_policy()


def forget_policy() -> None:
    """Removes the policy file that a killed `install` left behind, and no other."""
    if _POLICY.exists() and _POLICY.read_text() == _POLICY_TEXT:
        _POLICY.unlink()


def folder() -> Path:
    """Where the built programs are; its name changes with whatever goes into them."""
    digest = hashlib.sha256(LINKER_FLAGS.encode())
    for name in ("go.mod", "go.sum", "names/main.go", "probe/main.go"):
        digest.update((layout.BINARIES / name).read_bytes())
    return layout.CACHE / f"kubernetes-{digest.hexdigest()[:12]}"


def build() -> Path:
    """The folder with Kubernetes' programs and our own, built if they are not there yet. May be
    called by several threads; the later ones wait for the first."""
    target = folder()
    with _building:
        if not target.is_dir():
            _build(target)
    return target


def _build(target: Path) -> None:
    if shutil.which("go") is None:
        raise LookupError("install Go 1.24 or newer from https://go.dev/dl: it builds Kubernetes")
    say(f"building Kubernetes {layout.KUBERNETES}; the first time takes about ten minutes")
    # Renamed when complete, so that a build that was killed is never taken for one.
    partial = layout.CACHE / "kubernetes.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    packages = [f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_PROGRAMS]
    packages += ["./names", "./probe"]
    go = ["go", "build", "-trimpath", "-buildvcs=false"]
    go += ["-gcflags=all=-dwarf=false", "-ldflags", LINKER_FLAGS]
    # Static, so that the probe runs in an empty image. To collect garbage less often, and to
    # describe nothing to debuggers, saves the compiler a quarter of its time.
    static = {**os.environ, "CGO_ENABLED": "0", "GOGC": "400"}
    try:
        command = background([*go, "-o", f"{partial}/", *packages])
        run(*command, cwd=layout.BINARIES, env=static)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
