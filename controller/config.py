"""Settings of the controller, from the command line. Nothing else reads arguments."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.limits import CallLimits, Limits


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """A controller whose workers are processes of this machine.

    home: folder of all state. socket: unix socket it listens on for callers. stop_workers: end the
    workers that a former controller left, instead of serving. metrics: HOST:PORT for Prometheus,
    "" for none.
    """

    home: Path
    socket: Path
    stop_workers: bool = False
    metrics: str = ""

    @property
    def workers_socket(self) -> Path:
        """The unix socket it listens on for workers, beside the other."""
        return self.socket.with_suffix(".pods")


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """A controller whose workers are pods.

    listen, listen_workers, health: HOST:PORT for callers, for workers and for probes. namespace,
    pod: where this process lives. worker_target: how agents reach the leader. trainer_image: of
    jobs that name none. controller_image: of storage gateways. kubeconfig: None for the pod's own
    service account.
    tls_secret: Secret with the certificate of the API, made if it is not there. server_names: by
    which more names clients know the service. audiences: a caller's token must be for one.
    limits: what callers and namespaces may ask for. metrics: HOST:PORT for Prometheus, "" for
    none.
    """

    listen: str
    listen_workers: str
    health: str
    namespace: str
    pod: str
    worker_target: str
    trainer_image: str
    controller_image: str
    kubeconfig: Path | None = None
    tls_secret: str = "taas-tls"
    server_names: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ("taas.dev",)
    limits: Limits = field(default_factory=Limits)
    metrics: str = ""


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
    _add_metrics(parser)
    options = parser.parse_args(arguments)
    return LocalConfig(
        options.home.absolute(), options.socket.absolute(), options.stop_workers, options.metrics
    )


def _kubernetes(arguments: list[str]) -> KubernetesConfig:
    parser = argparse.ArgumentParser(
        prog="python -m controller --kubernetes",
        description="Serves training jobs with pods as workers.",
    )
    parser.add_argument("--kubernetes", action="store_true", required=True)
    parser.add_argument("--listen", default="[::]:8470", help="HOST:PORT of the API")
    parser.add_argument("--listen-workers", default="[::]:8474", help="HOST:PORT for workers")
    parser.add_argument("--health", default="[::]:8472", help="HOST:PORT of the probes")
    parser.add_argument("--namespace", required=True, help="namespace of this pod")
    parser.add_argument("--pod", required=True, help="name of this pod")
    parser.add_argument("--worker-target", required=True, help="how workers reach the leader")
    parser.add_argument("--trainer-image", required=True, help="image of jobs that name none")
    parser.add_argument("--controller-image", required=True, help="image of storage gateways")
    parser.add_argument("--kubeconfig", type=Path, help="by default the pod's service account")
    parser.add_argument(
        "--tls-secret",
        default="taas-tls",
        help="Secret of this namespace with the certificate; made if there is none",
    )
    parser.add_argument(
        "--server-name",
        dest="server_names",
        action="append",
        default=[],
        help="a further name by which clients call, for a certificate made here; repeatable",
    )
    parser.add_argument(
        "--audience",
        dest="audiences",
        action="append",
        default=[],
        help='what callers\' tokens are for ("taas.dev"); repeatable',
    )
    _add_metrics(parser)
    _add_limits(parser)
    options = vars(parser.parse_args(arguments))
    del options["kubernetes"]
    options["limits"] = _limits(options)
    options["server_names"] = tuple(options["server_names"])
    options["audiences"] = tuple(options["audiences"]) or ("taas.dev",)
    return KubernetesConfig(**options)


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        default="",
        help="HOST:PORT where Prometheus gets /metrics, without TLS; by default nowhere",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    most = Limits()

    def add(option: str, default: int, what: str) -> None:
        parser.add_argument(option, type=_positive, default=default, help=f"{what} ({default})")

    add("--max-workers", most.max_workers, "workers of one job")
    add("--max-source-bytes", most.max_source_bytes, "bytes of one source")
    add("--max-jobs", most.max_jobs, "unfinished jobs of a namespace")
    add("--max-namespace-workers", most.max_namespace_workers, "workers of them together")
    add("--max-upload-bytes", most.max_upload_bytes, "bytes that a caller may upload in an hour")
    add("--max-streams", most.calls.streams, "streams that a caller may have open")


def _limits(options: dict[str, Any]) -> Limits:
    """Take the limits out of the options."""
    calls = CallLimits(streams=options.pop("max_streams"))
    names = [option for option in options if option.startswith("max_")]
    return Limits(calls=calls, **{name: options.pop(name) for name in names})


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
