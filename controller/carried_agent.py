"""The agent for images that know nothing of the service: an init container brings it. Pure.

Any image with TensorFlow has what the agent needs besides its own code, gRPC and protobuf
included, so the code alone is copied from the installation's trainer image into a volume. It is
thereby always of the controller's version.
"""

from __future__ import annotations

from typing import Any

from controller.restricted import own_rights

NAME = "taas-agent"
# Where the trainer image has the code, and where the pod gets it.
CODE = "/opt/taas/code"
PATH = "/taas/agent"
# The shell keeps what the image itself has on the path; Kubernetes cannot refer to that. Python
# looks for modules in the present folder first, where the image may have a `trainer` of its own.
_START = (
    f'cd {PATH} && PYTHONPATH="{PATH}${{PYTHONPATH:+:$PYTHONPATH}}" exec python3 -m trainer.carried'
)


def carried(container: str, image: str) -> dict[str, Any]:
    """Return the layer of a pod whose `container` runs another image than the trainer `image`."""
    return {
        "spec": {
            "initContainers": [
                {
                    "name": NAME,
                    "image": image,
                    "command": ["cp", "-R", f"{CODE}/.", PATH],
                    "securityContext": own_rights(),
                    "volumeMounts": [{"name": NAME, "mountPath": PATH}],
                }
            ],
            "containers": [
                {
                    "name": container,
                    "command": ["/bin/sh", "-c", _START],
                    "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
                    "volumeMounts": [{"name": NAME, "mountPath": PATH, "readOnly": True}],
                }
            ],
            "volumes": [{"name": NAME, "emptyDir": {}}],
        }
    }
