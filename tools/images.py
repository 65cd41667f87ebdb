"""Builds the images with Docker or buildah: `python -m tools.images`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tools import native

_FOLDER = Path("deploy/images")
# The last one is built on the one before it.
_IMAGES = ("controller", "trainer", "serving")


def command(builder: str, image: str, tag: str, arguments: list[str]) -> list[str]:
    """Return the command that builds an image, to be run in the root of the repository."""
    file = _FOLDER / f"Dockerfile.{image}"
    words = ["--file", str(file), "--tag", f"taas-{image}:{tag}"]
    if image == "serving":
        words += ["--build-arg", f"TRAINER_IMAGE=taas-trainer:{tag}"]
    for argument in arguments:
        words += ["--build-arg", argument]
    if builder == "docker":
        return ["docker", "build", *words, "."]
    # Without a daemon: in a changed root, with this machine's network.
    isolation = ["--layers", "--isolation", "chroot", "--network", "host"]
    ignored = ["--ignorefile", f"{file}.dockerignore"]
    return ["buildah", "bud", *isolation, *ignored, *words, "."]


def main() -> int:
    """Build them; the exit code is the builder's."""
    parser = argparse.ArgumentParser(prog="python -m tools.images", description=__doc__)
    parser.add_argument("--tag", default="latest")
    parser.add_argument("--builder", choices=("docker", "buildah"))
    parser.add_argument(
        "--build-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for example BASE_IMAGE=python:3.12-slim or TENSORFLOW=tensorflow[and-cuda]",
    )
    options = parser.parse_args()
    builder = options.builder or next(filter(shutil.which, ("docker", "buildah")), None)
    if builder is None:
        sys.stderr.write("neither docker nor buildah is installed; install one of them\n")
        return 1
    # The trainer image takes it along.
    if native.stale() and native.main():
        return 1
    for image in _IMAGES:
        done = subprocess.run(command(builder, image, options.tag, options.build_arg), check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
