"""Starts the agent in an image that was made without it, or says what the image lacks.

    python3 -m trainer.carried

What it says is the end of the container's log, which Kubernetes gives as the reason. Written for
any Python 3, so that an old one can say that it is too old.
"""

import sys
from importlib import metadata, util

_OLDEST = (3, 11)
_OLDEST_PROTOBUF = (4, 25)
# What the agent's own code imports and TensorFlow brings, as (module, package).
_NEEDED = (
    ("tensorflow", "tensorflow"),
    ("numpy", "numpy"),
    ("grpc", "grpcio"),
    ("google.protobuf", "protobuf"),
)
_REMEDY = "; use an image with Python 3.11 or newer and TensorFlow 2.16 or newer"


def lacking() -> str:
    """Return what this interpreter lacks for a worker, "" if nothing."""
    if sys.version_info[:2] < _OLDEST:
        return "its python3 is {}.{}".format(*sys.version_info) + _REMEDY
    for module, package in _NEEDED:
        if not _has(module):
            return f"its python3 has no {package}{_REMEDY}"
    protobuf = metadata.version("protobuf")
    if tuple(int(part) for part in protobuf.split(".")[:2]) < _OLDEST_PROTOBUF:
        return f"it has protobuf {protobuf}; install 4.25 or newer"
    return ""


def _has(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    _lacking = lacking()
    if _lacking:
        sys.exit(f"this image cannot run workers: {_lacking}")
    import os

    from trainer.agent import main

    sys.exit(main(dict(os.environ)))
