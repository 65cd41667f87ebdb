"""A worker's pod as a Kubernetes manifest, and its job's part of the assignment. Pure.

The local backend starts a process from the same manifest: the command and the environment of
its one container, with what `valueFrom` refers to filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.model import Job
from trainer import contract

LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_JOB = "taas.dev/job"
LABEL_JOB_UID = "taas.dev/job-uid"
LABEL_WORKER = "taas.dev/worker"

CONTAINER = "worker"


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What pods of this installation have in common.

    controller: gRPC target that agents dial. storage_root: root of the shared storage.
    scratch_root: folder below which each pod has its own. python: the interpreter.
    """

    controller: str
    storage_root: str
    scratch_root: str = "/scratch"
    python: str = "python"


def pod_name(job: Job, index: int) -> str:
    """Return the name of a worker's pod: always the same, so that creating twice is once."""
    return f"{job.key.name}-{index}"


def render(job: Job, index: int, settings: PodSettings) -> dict[str, Any]:
    """Return the manifest of a worker's pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(job, index),
            "namespace": job.key.namespace,
            "labels": {
                LABEL_NAME: "taas-worker",
                LABEL_MANAGED_BY: "taas",
                LABEL_JOB: job.key.name,
                LABEL_JOB_UID: job.uid,
                LABEL_WORKER: str(index),
            },
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": job.spec.grace_s,
            "containers": [
                {
                    "name": CONTAINER,
                    "command": [settings.python, "-m", "trainer.agent"],
                    "env": _env(job, index, settings),
                }
            ],
        },
    }


def assignment(job: Job, generation: int) -> contract.Assignment:
    """Return what the trainers of a generation are to run; place and folders come later."""
    policy = job.spec.checkpoints
    return contract.Assignment(
        namespace=job.key.namespace,
        job=job.key.name,
        job_uid=job.uid,
        generation=generation,
        module=job.spec.module,
        source_digest=job.spec.source.digest,
        parameters=dict(job.spec.parameters),
        env=dict(job.spec.env),
        checkpointing=contract.Checkpointing(
            every_steps=policy.every_steps,
            every_seconds=policy.every_seconds,
            keep_last=policy.keep_last,
            best_metric=policy.best_metric,
            best_mode=policy.best_mode,
        ),
    )


def _env(job: Job, index: int, settings: PodSettings) -> list[dict[str, Any]]:
    """Return the environment of the agent. The user's goes to the trainer by the assignment."""
    scratch = f"{settings.scratch_root}/{job.key.namespace}/{pod_name(job, index)}"
    fixed = {
        contract.ENV_NAMESPACE: job.key.namespace,
        contract.ENV_JOB: job.key.name,
        contract.ENV_JOB_UID: job.uid,
        contract.ENV_WORKER_INDEX: str(index),
        contract.ENV_CONTROLLER: settings.controller,
        contract.ENV_STORAGE: settings.storage_root,
        contract.ENV_SCRATCH: scratch,
        contract.ENV_GRACE_S: str(job.spec.grace_s),
    }
    of_the_pod = {contract.ENV_POD_UID: "metadata.uid", contract.ENV_POD_IP: "status.podIP"}
    return [
        *({"name": name, "value": value} for name, value in fixed.items()),
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in of_the_pod.items()
        ),
    ]
