"""Says what is in the images: `python -m tools.sbom controller` writes a bill of materials as
CycloneDX, `python -m tools.sbom licences` a list of packages with their licences.

It goes by the packages that a Dockerfile names, what they require, and the lock file's versions
and hashes; licences are what the installed packages say.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from protos import __version__

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("controller", "trainer", "serving")
# What an image is built on.
_BASES = {"serving": "trainer"}
_PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[.*\])?==(\S+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# Longer than any name of a licence: some packages put the text there.
_MOST_LICENCE_CHARS = 60

# Of packages that do not say it in their metadata: as their repositories have it.
_UNSAID = {"namex": "Apache-2.0"}


def named(image: str) -> tuple[str, ...]:
    """Return the packages that an image's Dockerfile installs, and those of what it is built on."""
    text = (ROOT / "deploy" / "images" / f"Dockerfile.{image}").read_text()
    text = text.replace("\\\n", " ")
    found = re.search(r"--constraint \S+(.*?)&&", text, re.DOTALL)
    assert found is not None, f"Dockerfile.{image} installs nothing that is constrained"
    words = found[1].replace('"${TENSORFLOW}"', "tensorflow-cpu").split()
    below = named(_BASES[image]) if image in _BASES else ()
    return (*below, *map(canonicalize_name, words))


def closure(names: Iterable[str]) -> tuple[str, ...]:
    """Return the packages of these names and all that they require here, sorted."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for text in metadata.requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(wanted.name))
    return tuple(sorted(found))


def locked() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return version and hashes of each package in the lock file."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for entry in re.split(r"\n(?=[a-z])", (ROOT / "requirements.lock").read_text()):
        pinned = _PINNED.match(entry)
        if pinned is not None:
            found[canonicalize_name(pinned[1])] = (pinned[2], tuple(_HASH.findall(entry)))
    return found


def licence(name: str) -> str:
    """Return the licence of an installed package, as it says itself."""
    about = metadata.metadata(name)
    for field in ("License-Expression", "License"):
        text = str(about.get(field) or "").strip()
        if text and len(text) <= _MOST_LICENCE_CHARS and "\n" not in text and text != "UNKNOWN":
            return text
    if name in _UNSAID:
        return _UNSAID[name]
    kinds = [text for text in about.get_all("Classifier") or () if text.startswith("License ::")]
    return ", ".join(text.rpartition(" :: ")[2] for text in kinds)


def document(image: str) -> dict[str, Any]:
    """Return the bill of materials of an image."""
    versions = locked()
    components = []
    for name in closure(named(image)):
        version, hashes = versions[name]
        components.append(
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/{name}@{version}",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name}@{version}",
                "licenses": [{"license": {"name": licence(name)}}],
                # Of every file of that version, one of which is installed.
                "properties": [
                    {"name": "taas:locked:sha256", "value": digest} for digest in sorted(hashes)
                ],
            }
        )
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "name": f"taas-{image}", "version": __version__}
        },
        "components": components,
    }


def main(arguments: list[str]) -> int:
    """Write to standard output."""
    match arguments:
        case [image] if image in IMAGES:
            print(json.dumps(document(image), indent=1))
        case ["licences"]:
            everything = closure(name for image in IMAGES for name in named(image))
            for name in everything:
                print(f"{name:28} {locked()[name][0]:12} {licence(name)}")
        case _:
            sys.stderr.write(f"usage: python -m tools.sbom {'|'.join(IMAGES)}|licences\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
