"""Builds the images that the tests run, without a registry, and puts them into containerd.

An image's tag is a digest of what goes into it, so an image that is there is the right one.
Layers travel one by one: a change of the project's code moves its own small layer only.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.cluster import cgroups, layout, programs, registry
from tests.cluster.commands import CommandFailed, background, run, say, wait_until

FOLDER = layout.CACHE / "images"
# A containerd root with every image unpacked; each node starts from hard links to it.
STORE = FOLDER / "store"
_PUSHED = FOLDER / "pushed"
_DOCKERFILES = layout.PROJECT / "deploy" / "images"
_BASE = "localhost/taas/base:bookworm"
# The trainer's layers below our code: what a user's own image is made on. No pod runs it as it is.
_TENSORFLOW = "localhost/taas/tensorflow:latest"
_MNIST = layout.PROJECT / "examples" / "jobs" / "Dockerfile.mnist"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_DATABASES = ("meta.db", "metadata.db")


@dataclass(frozen=True, slots=True)
class Images:
    """Names that pods use."""

    probe: str
    trainer: str
    controller: str
    # A user's own, with TensorFlow and the program of examples/jobs/mnist.yaml; no agent in it.
    mnist: str
    serving: str

    def __iter__(self) -> Iterator[str]:
        """An image comes after the one it is built on."""
        return iter((self.probe, self.trainer, self.controller, self.mnist, self.serving))


def _digest(*parts: Path) -> str:
    """A digest of files, and of those below folders except compiled ones; names included."""
    total = hashlib.sha256()
    for part in parts:
        files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
        for file in files:
            if "__pycache__" not in file.parts:
                place = file.relative_to(layout.PROJECT)
                total.update(f"{place}\0{file.stat().st_mode & 0o111}\0".encode())
                total.update(file.read_bytes())
    return total.hexdigest()[:12]


def probe_name() -> str:
    """The image of the probe, which is the pods' pause container as well."""
    return f"localhost/taas/probe:{_digest(layout.BINARIES / 'probe')}"


def names() -> Images:
    """The images of the code as it is now; computed, so nothing needs to be built for it."""
    packages = {
        "trainer": ("protos", "trainer"),
        "controller": ("protos", "trainer", "taas", "controller"),
        "serving": ("taas", "serving"),
    }
    digests = {
        kind: _digest(
            layout.PROJECT / "requirements.lock",
            _DOCKERFILES / f"Dockerfile.{kind}",
            *(layout.PROJECT / package for package in copied),
        )
        for kind, copied in packages.items()
    }
    mnist = _digest(_MNIST, layout.PROJECT / "examples" / "mnist_lenet5")
    return Images(
        probe=probe_name(),
        trainer=f"localhost/taas/trainer:{digests['trainer']}",
        controller=f"localhost/taas/controller:{digests['controller']}",
        mnist=f"localhost/taas/mnist:{digests['trainer']}-{mnist}",
        serving=f"localhost/taas/serving:{digests['trainer']}-{digests['serving']}",
    )


def prepare() -> Images:
    """Builds what is missing and unpacks it into STORE; leaves one version of each image."""
    wanted = names()
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = [name for name in wanted if name not in _stored()]
    if missing:
        # That of the probe last: it waits for the programs.
        for name in sorted(missing, key=lambda name: name == wanted.probe):
            _build(name)
        with _store_daemon() as socket:
            for name in missing:
                load(socket, name, STORE)
            _forget_all_but(socket, wanted)
        _write_stored([*wanted])
    return wanted


def _stored() -> list[str]:
    listing = STORE / "images.json"
    return cast("list[str]", json.loads(listing.read_text())) if listing.exists() else []


def _write_stored(wanted: list[str]) -> None:
    (STORE / "images.json").write_text(json.dumps(wanted))


def _build(name: str) -> None:
    """Builds one image and writes its layers and manifest below _PUSHED."""
    say(f"building {name}")
    if "/probe:" in name:
        context = programs.build()
        text = 'FROM scratch\nCOPY probe /probe\nUSER 65532:65532\nENTRYPOINT ["/probe"]\n'
        _bud(name, text, context)
    elif "/mnist:" in name:
        _build_from("trainer", _TENSORFLOW, target="tensorflow")
        argument = f"BASE_IMAGE={_TENSORFLOW}"
        _bud(name, _MNIST.read_text(), layout.PROJECT, arguments=(argument,))
    else:
        _build_from(name.split("/")[-1].split(":")[0], name)
    with registry.serving(_PUSHED) as address:
        options = ["--tls-verify=false", "--compression-format", "zstd", "--compression-level", "1"]
        target = f"docker://{address}/{name.removeprefix('localhost/')}"
        _buildah("push", "-q", *options, name, target)


def _build_from(kind: str, name: str, target: str = "") -> None:
    """Builds what a Dockerfile of the project makes, or one of its stages."""
    dockerfile = _DOCKERFILES / f"Dockerfile.{kind}"
    below = f"TRAINER_IMAGE={names().trainer}" if kind == "serving" else f"BASE_IMAGE={_base()}"
    # Behind a proxy that signs with a certificate of its own, pip needs the host's list.
    arguments = (below, f"PIP_CERT={_CERTIFICATES}")
    text = dockerfile.read_text()
    _bud(name, text, layout.PROJECT, arguments=arguments, ignore=dockerfile, target=target)


def _base() -> str:
    """Debian with Python, in the place of the python:slim that a user's build starts from."""
    with contextlib.suppress(CommandFailed):
        _buildah("inspect", "--type", "image", _BASE)
        return _BASE
    say("building the base image with mmdebstrap")
    archive = FOLDER / "base.tar"
    wanted = "--include=python3,python3-venv,ca-certificates"
    # Where this machine's own packages come from.
    sites = run("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)")
    mirror = next(line.split()[0] for line in sites.splitlines() if line.endswith(" bookworm"))
    command: list[str | Path] = [
        "mmdebstrap",
        "--variant=minbase",
        wanted,
        "bookworm",
        archive,
        mirror,
    ]
    try:
        run(*background(command), env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
        _bud(_BASE, "FROM scratch\nADD base.tar /\nENV PATH=/usr/bin:/bin\n", FOLDER)
    finally:
        archive.unlink(missing_ok=True)
    return _BASE


def _bud(
    name: str,
    text: str,
    context: Path,
    *,
    arguments: Sequence[str] = (),
    ignore: Path | None = None,
    target: str = "",
) -> None:
    options = ["--layers", "--isolation", "chroot", "--network", "host", "--timestamp", "0"]
    for argument in arguments:
        options += ["--build-arg", argument]
    if target:
        options += ["--target", target]
    if ignore is not None:
        options += ["-v", f"{_CERTIFICATES.parent}:{_CERTIFICATES.parent}:ro"]
        options += ["--ignorefile", f"{ignore}.dockerignore"]
    _buildah("bud", "-q", *options, "-t", name, "-f", "-", str(context), stdin=text)


def _buildah(*words: str, stdin: str | None = None) -> str:
    """Buildah with storage and caches of our own, in a mount namespace, which leaves no mounts."""
    caches = FOLDER / "buildah-caches"
    caches.mkdir(exist_ok=True)
    # Where it remembers which layers it has pushed compressed has no option.
    usual = "/var/lib/containers"
    script = f'mkdir -p {usual} && mount --bind {caches} {usual} && exec buildah "$@"'
    place = f"--root={FOLDER}/buildah", f"--runroot={FOLDER}/buildah-run"
    shell = ["unshare", "--mount", "sh", "-c", script, "sh"]
    return run(*background([*shell, *place, "--storage-driver=overlay", *words]), stdin=stdin)


@contextlib.contextmanager
def _store_daemon() -> Iterator[Path]:
    """A containerd on STORE, for as long as images are put into it; yields its socket."""
    STORE.mkdir(parents=True, exist_ok=True)
    # One that a killed run left behind still holds the store.
    cgroups.create("store")
    cgroups.kill("store")
    place = FOLDER / "store-run"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    socket = place / "containerd.sock"
    (place / "config.toml").write_text(
        f'version = 2\nroot = "{STORE}"\nstate = "{place}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{socket}"\n'
    )
    group = cgroups.create("store")
    enter = f'echo $$ > {group}/cgroup.procs && exec unshare --mount "$@"'
    with (place / "log").open("w") as log:
        daemon = subprocess.Popen(
            ["sh", "-c", enter, "sh", "containerd", "--config", str(place / "config.toml")],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(f"containerd to answer, see {place}/log", lambda: _answers(socket))
        yield socket
    finally:
        # It ends by itself when asked, and its database is then complete on disk.
        daemon.terminate()
        daemon.wait(timeout=60)
        cgroups.remove("store")


def _answers(socket: Path) -> bool:
    with contextlib.suppress(CommandFailed):
        _ctr(socket, "version")
        return True
    return False


def _ctr(socket: Path, *words: str) -> str:
    return run("ctr", "--address", socket, "--namespace", "k8s.io", *words)


def load(socket: Path, name: str, root: Path) -> None:
    """Gives an image built here to the containerd at `socket`, whose files are under `root`."""
    say(f"loading {name}")
    digest = registry.manifests(_PUSHED)[name]
    text = registry.blob(_PUSHED, digest).read_bytes()
    manifest = json.loads(text)
    entry = {
        "mediaType": manifest["mediaType"],
        "digest": digest,
        "size": len(text),
        "annotations": {"io.containerd.image.name": name},
    }
    blobs = [digest, manifest["config"]["digest"]]
    blobs += [layer["digest"] for layer in manifest["layers"]]
    there = root / "io.containerd.content.v1.content"
    command = ["ctr", "--address", str(socket), "--namespace", "k8s.io", "images", "import", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as ctr:
        assert ctr.stdin is not None
        assert ctr.stdout is not None
        with (
            contextlib.suppress(BrokenPipeError),
            tarfile.open(mode="w|", fileobj=ctr.stdin) as tar,
        ):
            index = {"schemaVersion": 2, "manifests": [entry]}
            _add_text(tar, "oci-layout", '{"imageLayoutVersion":"1.0.0"}')
            _add_text(tar, "index.json", json.dumps(index))
            for digest in blobs:
                if not registry.blob(there, digest).exists():
                    file = registry.blob(_PUSHED, digest)
                    tar.add(file, f"blobs/sha256/{file.name}")
        with contextlib.suppress(BrokenPipeError):
            ctr.stdin.close()
        said = ctr.stdout.read().decode()
    if ctr.returncode:
        raise CommandFailed(f"ctr images import of {name} ended with {ctr.returncode}:\n{said}")


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _forget_all_but(socket: Path, wanted: Images) -> None:
    """Drops older versions from STORE, buildah and _PUSHED, so that the cache does not grow."""
    keep = set(wanted)
    for name in _ctr(socket, "images", "list", "-q").split():
        if name.startswith("localhost/taas/") and name not in keep:
            _ctr(socket, "images", "remove", "--sync", name)
    for name in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        if (
            name.startswith("localhost/taas/")
            and name not in keep
            and name not in (_BASE, _TENSORFLOW)
        ):
            _buildah("rmi", "--force", name)
    pushed = {n: d for n, d in registry.manifests(_PUSHED).items() if n in keep}
    registry.write_manifests(_PUSHED, pushed)
    used: set[str] = set()
    for digest in pushed.values():
        manifest = json.loads(registry.blob(_PUSHED, digest).read_text())
        used |= {digest, manifest["config"]["digest"]}
        used |= {layer["digest"] for layer in manifest["layers"]}
    for file in (_PUSHED / "blobs" / "sha256").iterdir():
        if f"sha256:{file.name}" not in used:
            file.unlink()


def copy_store(target: Path) -> None:
    """A containerd root for a node: hard links to STORE, but databases of its own.

    Unpacked layers and blobs never change in place, so they can be shared; databases do.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        run("cp", "--archive", "--link", STORE, target)
    except CommandFailed:
        # Another file system: slower, and takes the space twice.
        shutil.rmtree(target, ignore_errors=True)
        run("cp", "--archive", STORE, target)
    for database in target.rglob("*.db"):
        if database.name in _DATABASES and database.is_relative_to(target):
            text = database.read_bytes()
            database.unlink()
            database.write_bytes(text)


def update(node: layout.Node, wanted: Images) -> None:
    """Gives a running node those of the images that it lacks."""
    there = _ctr(node.containerd, "images", "list", "-q").split()
    for name in wanted:
        if name not in there:
            load(node.containerd, name, node.folder / "var-lib" / "containerd")
