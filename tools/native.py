"""Builds the native library of the ring: `python -m tools.native`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from trainer.ring import native

_FOLDER = native.LIBRARY.parent
_SOURCES = ("add.c", "job.c", "engine.c", "op.c")
# Nothing of the machine that builds: images and other machines take the same file.
_FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread")

# The C library of manylinux2014, the oldest that TensorFlow's packages are made for.
_TARGET = f"{platform.machine()}-linux-gnu.2.17"


def stale() -> bool:
    """Tell whether the library is missing or older than what it is made of."""
    made_of = [*_FOLDER.glob("*.c"), *_FOLDER.glob("*.h")]
    return not native.LIBRARY.exists() or native.LIBRARY.stat().st_mtime < max(
        file.stat().st_mtime for file in made_of
    )


def compiler() -> list[str] | None:
    """Return the C compiler as a command, None if there is none: $CC, else Zig's, else cc."""
    words = shlex.split(os.environ.get("CC", ""))
    if not words and importlib.util.find_spec("ziglang"):
        # Zig brings every C library: what it makes loads wherever a TensorFlow does.
        return [sys.executable, "-m", "ziglang", "cc", "-target", _TARGET]
    words = words or ["cc"]
    return words if shutil.which(words[0]) else None


def build(target: Path = native.LIBRARY) -> None:
    """Build the library. Raises FileNotFoundError without a compiler, CalledProcessError if it
    fails; what it says is on the standard error."""
    words = compiler()
    if words is None:
        raise FileNotFoundError("no C compiler: install ziglang, gcc or clang, or set CC")
    # Whoever has the old one loaded keeps it.
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, target.name)
        sources = [str(_FOLDER / source) for source in _SOURCES]
        subprocess.run([*words, *_FLAGS, *sources, "-o", str(made), "-ldl"], check=True)
        made.replace(target)


def main() -> int:
    """Build it if there is a compiler. Without one everything works, but slower."""
    try:
        build()
    except FileNotFoundError as error:
        sys.stderr.write(f"{error}; until then gradients go over TensorFlow's own ring\n")
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
