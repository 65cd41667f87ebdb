"""A worker's pod as a Kubernetes manifest, and its job's part of the assignment. Pure.

A pod is put together of layers: what makes it this worker (core), what every pod of a Kubernetes
installation has (platform), what the job's template says (overlay), and the core again, because
the template must not change it. Into another image than the installation's own the agent is
brought. The local backend starts a process from the core alone: the
command and the environment of its one container, with what `valueFrom` refers to filled in.
That it is a pod of this job, by labels and owner, is said by the cluster that creates it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from controller import overlay
from controller.carried_agent import carried
from controller.model import EVALUATOR, Command, Job, PodOptions, Program, Script, Task
from controller.restricted import restricted
from trainer import contract

LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "taas"
LABEL_JOB = "taas.dev/job"
LABEL_JOB_UID = "taas.dev/job-uid"
LABEL_WORKER = "taas.dev/worker"
# Set on a job, these put its pods into a queue of Kueue.
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
LABEL_QUEUE_PRIORITY = "kueue.x-k8s.io/priority-class"
LABEL_POD_GROUP = "kueue.x-k8s.io/pod-group-name"
ANNOTATION_POD_GROUP_SIZE = "kueue.x-k8s.io/pod-group-total-count"
ANNOTATION_CONTAINER = "kubectl.kubernetes.io/default-container"

CONTAINER = "worker"
WORKER_APP = "taas-worker"

# Where a pod has what it needs.
STORAGE_PATH = "/taas/storage"
SCRATCH_PATH = "/taas/scratch"
TOKEN_FOLDER = "/taas/token"
# For the stream of the workers alone: with it nobody can act as the pod's service account.
TOKEN_AUDIENCE = "workers.taas.dev"
TOKEN_NAME = "token"
_TOKEN_S = 3600


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What pods of this installation have in common.

    controller: gRPC target that agents dial. storage_root: root of the shared storage.
    scratch_root: folder below which each pod has its own. python: the interpreter.
    trainer_image: that of workers whose job names none; None on the local backend.
    controller_ca: certificates, as PEM, by which agents know the controller; "" where it is called
    without TLS.
    """

    controller: str
    storage_root: str
    scratch_root: str = "/scratch"
    python: str = "python"
    trainer_image: str | None = None
    controller_ca: str = ""


def kubernetes_settings(controller: str, trainer_image: str, controller_ca: str) -> PodSettings:
    """Return the settings of an installation on Kubernetes."""
    return PodSettings(
        controller, STORAGE_PATH, SCRATCH_PATH, "python3", trainer_image, controller_ca
    )


def pod_name(job: Job, index: int) -> str:
    """Return the name of a worker's pod: always the same, so that creating twice is once."""
    return f"{job.key.name}-{'evaluator' if index == EVALUATOR else index}"


def render(job: Job, index: int, settings: PodSettings) -> dict[str, Any]:
    """Return the manifest of a worker's pod."""
    core = _core(job, index, settings)
    if settings.trainer_image is None:
        return core
    pod = overlay.merge(core, _platform(job, index, settings.trainer_image))
    if job.spec.pod.template:
        pod = overlay.merge(pod, json.loads(job.spec.pod.template))
    pod = overlay.merge(pod, core)
    if _image(pod) != settings.trainer_image:
        pod = overlay.merge(pod, carried(CONTAINER, settings.trainer_image))
    return pod


def _image(pod: dict[str, Any]) -> Any:
    return next(c["image"] for c in pod["spec"]["containers"] if c["name"] == CONTAINER)


def assignment(job: Job, generation: int) -> contract.Assignment:
    """Return what the trainers of a generation are to run; place and folders come later."""
    policy, program = job.spec.checkpoints, job.spec.program
    init, rewind = job.spec.init_from, job.spec.rewind
    return contract.Assignment(
        namespace=job.key.namespace,
        job=job.key.name,
        job_uid=job.uid,
        generation=generation,
        module=_file_of(program),
        script=_script_of(program),
        command=program.words if isinstance(program, Command) else (),
        source_digest=job.spec.source.digest if job.spec.source else "",
        parameters=dict(job.spec.parameters),
        env=dict(job.spec.env),
        checkpointing=contract.Checkpointing(
            every_steps=policy.every_steps,
            every_seconds=policy.every_seconds,
            keep_last=policy.keep_last,
            best_metric=policy.best_metric,
            best_mode=policy.best_mode,
            keep_every_steps=policy.keep_every_steps,
        ),
        furthest_step=job.status.ledger.furthest_step,
        init_job=init.job if init else "",
        init_step=init.step if init else 0,
        rewind_step=rewind.step if rewind else 0,
        rewind_after=rewind.generation if rewind else 0,
        evaluator=job.spec.evaluator,
    )


def _file_of(program: Program) -> str:
    match program:
        case Task(module):
            return module
        case Script(path):
            return path
        case Command():
            return ""


def _script_of(program: Program) -> contract.Script | None:
    if not isinstance(program, Script):
        return None
    return contract.Script(
        arguments=program.arguments,
        distribute=program.distribute,
        own_checkpoints=program.own_checkpoints,
    )


def agent_command(python: str) -> list[str]:
    """Return what a worker's container runs."""
    return [python, "-P", "-m", "trainer.agent"]


def _core(job: Job, index: int, settings: PodSettings) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(job, index),
            "namespace": job.key.namespace,
            "labels": {LABEL_NAME: WORKER_APP, LABEL_WORKER: str(index)},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": job.spec.grace_s,
            "containers": [
                {
                    "name": CONTAINER,
                    "command": agent_command(settings.python),
                    "env": _env(job, index, settings),
                }
            ],
        },
    }


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
    if settings.trainer_image is not None:
        fixed[contract.ENV_TOKEN_FILE] = f"{TOKEN_FOLDER}/{TOKEN_NAME}"
    if settings.controller_ca:
        fixed[contract.ENV_CONTROLLER_CA] = settings.controller_ca
    of_the_pod = {contract.ENV_POD_UID: "metadata.uid", contract.ENV_POD_IP: "status.podIP"}
    return [
        *({"name": name, "value": value} for name, value in fixed.items()),
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in of_the_pod.items()
        ),
    ]


def _platform(job: Job, index: int, trainer_image: str) -> dict[str, Any]:
    """Return what every pod on Kubernetes has. Passes the `restricted` Pod Security Standard."""
    labels, annotations = _queue(job, index)
    return {
        "metadata": {
            "labels": labels,
            "annotations": {ANNOTATION_CONTAINER: CONTAINER, **annotations},
        },
        "spec": restricted(
            {
                **_placement(job),
                "containers": [_container(job.spec.pod, trainer_image)],
                "volumes": _volumes(job.spec.storage_claim),
            }
        ),
    }


def _queue(job: Job, index: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return labels and annotations by which Kueue admits all workers of a job together.

    The evaluator is admitted by itself: it is made once they train, and a group waits for all.
    """
    asked = dict(job.labels)
    if LABEL_QUEUE not in asked:
        return {}, {}
    labels = {k: asked[k] for k in (LABEL_QUEUE, LABEL_QUEUE_PRIORITY) if k in asked}
    if index == EVALUATOR:
        return labels, {}
    # With the uid, because a group that Kueue has seen finished admits no new pods.
    labels[LABEL_POD_GROUP] = f"{job.key.name}-{job.uid[:8]}"
    return labels, {ANNOTATION_POD_GROUP_SIZE: str(job.spec.workers)}


def _placement(job: Job) -> dict[str, Any]:
    """Return where the scheduler may put a pod: by default spread over the nodes."""
    pod = job.spec.pod
    placement: dict[str, Any] = {
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {LABEL_JOB_UID: job.uid}},
            }
        ]
    }
    if pod.gpus:
        # GPU nodes are commonly tainted with the name of the resource that they offer.
        placement["tolerations"] = [
            {"key": pod.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}
        ]
    if pod.node_selector:
        placement["nodeSelector"] = dict(pod.node_selector)
    if pod.priority_class_name:
        placement["priorityClassName"] = pod.priority_class_name
    if pod.service_account_name:
        placement["serviceAccountName"] = pod.service_account_name
    return placement


def _container(pod: PodOptions, trainer_image: str) -> dict[str, Any]:
    policy = {"imagePullPolicy": pod.image_pull_policy} if pod.image_pull_policy else {}
    return {
        "name": CONTAINER,
        "image": pod.image or trainer_image,
        **policy,
        # A container that cannot even start the agent has nothing else to explain it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # The root file system cannot be written, and libraries insist on a home.
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": _resources(pod),
        "volumeMounts": [
            {"name": "taas-storage", "mountPath": STORAGE_PATH},
            {"name": "taas-scratch", "mountPath": SCRATCH_PATH},
            {"name": "taas-token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "taas-tmp", "mountPath": "/tmp"},
            {"name": "taas-shm", "mountPath": "/dev/shm"},
        ],
    }


def _resources(pod: PodOptions) -> dict[str, Any]:
    # Kubernetes wants extended resources as limits and takes the requests from there.
    gpus = {pod.gpu_resource: str(pod.gpus)} if pod.gpus else {}
    resources = {"requests": dict(pod.requests), "limits": {**dict(pod.limits), **gpus}}
    return {kind: amounts for kind, amounts in resources.items() if amounts}


def _volumes(claim: str) -> list[dict[str, Any]]:
    token = {"audience": TOKEN_AUDIENCE, "expirationSeconds": _TOKEN_S, "path": TOKEN_NAME}
    return [
        {"name": "taas-storage", "persistentVolumeClaim": {"claimName": claim}},
        {"name": "taas-scratch", "emptyDir": {}},
        {"name": "taas-tmp", "emptyDir": {}},
        # NCCL moves data between the GPUs of a pod through it; a container's own has 64 MiB.
        {"name": "taas-shm", "emptyDir": {"medium": "Memory"}},
        # The only token: it says who the pod is, to the controller alone.
        {"name": "taas-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
    ]
