"""Settings of the controller, from the command line. Nothing else reads arguments."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """A controller whose workers are processes of this machine.

    home: folder of all state. socket: unix socket it listens on. stop_workers: end the workers
    that a former controller left, instead of serving.
    """

    home: Path
    socket: Path
    stop_workers: bool = False


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """A controller whose workers are pods.

    listen, health: HOST:PORT of the API and of the probes. namespace, pod: where this process
    lives. worker_target: how agents reach the leader. trainer_image: of jobs that name none.
    controller_image: of storage gateways. kubeconfig: None for the pod's service account.
    """

    listen: str
    health: str
    namespace: str
    pod: str
    worker_target: str
    trainer_image: str
    controller_image: str
    kubeconfig: Path | None = None


def parse_arguments(arguments: list[str]) -> LocalConfig | KubernetesConfig:
    """Parse the command line. Exits with a usage message on a mistake."""
    if "--kubernetes" in arguments:
        return _kubernetes(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m controller",
        description="Serves training jobs with workers on this machine; --kubernetes for pods.",
    )
    parser.add_argument("--home", type=Path, required=True, help="folder of all state")
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to listen on")
    parser.add_argument(
        "--stop-workers",
        action="store_true",
        help="let the local workers save and leave, then exit; for use when no controller runs",
    )
    options = parser.parse_args(arguments)
    return LocalConfig(options.home.absolute(), options.socket.absolute(), options.stop_workers)


def _kubernetes(arguments: list[str]) -> KubernetesConfig:
    parser = argparse.ArgumentParser(
        prog="python -m controller --kubernetes",
        description="Serves training jobs with pods as workers.",
    )
    parser.add_argument("--kubernetes", action="store_true", required=True)
    parser.add_argument("--listen", default="[::]:8470", help="HOST:PORT of the API")
    parser.add_argument("--health", default="[::]:8472", help="HOST:PORT of the probes")
    parser.add_argument("--namespace", required=True, help="namespace of this pod")
    parser.add_argument("--pod", required=True, help="name of this pod")
    parser.add_argument("--worker-target", required=True, help="how workers reach the leader")
    parser.add_argument("--trainer-image", required=True, help="image of jobs that name none")
    parser.add_argument("--controller-image", required=True, help="image of storage gateways")
    parser.add_argument("--kubeconfig", type=Path, help="by default the pod's service account")
    options = vars(parser.parse_args(arguments))
    del options["kubernetes"]
    return KubernetesConfig(**options)
