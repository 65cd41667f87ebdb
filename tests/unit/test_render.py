"""The manifest of a worker's pod and the assignment of its trainer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.model import EVALUATOR, CheckpointPolicy, Command, PodOptions, Script, Source, Task
from controller.render import PodSettings, assignment, kubernetes_settings, render
from tests.builders import job
from trainer import contract

SETTINGS = PodSettings(controller="unix:/run/taas.sock", storage_root="/storage", python="py")
JOB = job(
    parameters=(("rate", "0.1"),),
    env=(("DEBUG", "1"),),
    grace_s=45,
    checkpoints=CheckpointPolicy(every_steps=5, keep_last=2, best_metric="accuracy"),
)


def test_manifest() -> None:
    assert render(JOB, 1, SETTINGS) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "job-1",
            "namespace": "default",
            "labels": {
                "app.kubernetes.io/name": "taas-worker",
                "taas.dev/worker": "1",
            },
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 45,
            "containers": [
                {
                    "name": "worker",
                    "command": ["py", "-P", "-m", "trainer.agent"],
                    "env": [
                        {"name": "TAAS_NAMESPACE", "value": "default"},
                        {"name": "TAAS_JOB", "value": "job"},
                        {"name": "TAAS_JOB_UID", "value": "uid-1"},
                        {"name": "TAAS_WORKER_INDEX", "value": "1"},
                        {"name": "TAAS_CONTROLLER", "value": "unix:/run/taas.sock"},
                        {"name": "TAAS_STORAGE", "value": "/storage"},
                        {"name": "TAAS_SCRATCH", "value": "/scratch/default/job-1"},
                        {"name": "TAAS_GRACE_S", "value": "45"},
                        {
                            "name": "TAAS_POD_UID",
                            "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}},
                        },
                        {
                            "name": "TAAS_POD_IP",
                            "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
                        },
                    ],
                }
            ],
        },
    }


def test_manifest_is_plain_json_and_the_same_every_time() -> None:
    assert json.dumps(render(JOB, 0, SETTINGS)) == json.dumps(render(JOB, 0, SETTINGS))


def test_what_the_user_sets_does_not_reach_the_agent() -> None:
    (container,) = render(JOB, 0, SETTINGS)["spec"]["containers"]
    assert "DEBUG" not in {entry["name"] for entry in container["env"]}


def test_assignment() -> None:
    spec = replace(JOB.spec, source=Source("ab" * 32, 10))
    assert assignment(replace(JOB, spec=spec), 7) == contract.Assignment(
        namespace="default",
        job="job",
        job_uid="uid-1",
        generation=7,
        module="task.py",
        source_digest="ab" * 32,
        parameters={"rate": "0.1"},
        env={"DEBUG": "1"},
        checkpointing=contract.Checkpointing(
            every_steps=5, every_seconds=60, keep_last=2, best_metric="accuracy", best_mode="max"
        ),
    )


def test_assignment_of_a_program_in_the_image() -> None:
    job_ = replace(JOB, spec=replace(JOB.spec, source=None, program=Task("/opt/task.py")))
    made = assignment(job_, 1)
    assert (made.module, made.source_digest) == ("/opt/task.py", "")


def test_assignment_of_a_script_and_of_a_command() -> None:
    script = Script("a/train.py", ("--rate", "0.1"), distribute=True, own_checkpoints=True)
    made = assignment(replace(JOB, spec=replace(JOB.spec, program=script)), 1)
    assert made.module == "a/train.py"
    assert made.script == contract.Script(("--rate", "0.1"), distribute=True, own_checkpoints=True)
    made = assignment(replace(JOB, spec=replace(JOB.spec, program=Command(("python", "x")))), 1)
    assert (made.module, made.script, made.command) == ("", None, ("python", "x"))
    assert contract.Assignment.from_json(made.to_json()) == made


# --- On Kubernetes

KUBERNETES = kubernetes_settings("taas.taas-system.svc:8474", "taas-trainer:1", "CERTIFICATES")
GOLDEN = Path(__file__).parent / "golden"
FULL = PodOptions(
    image="team/trainer:2",
    image_pull_policy="Always",
    requests=(("cpu", "2"), ("memory", "4Gi")),
    limits=(("memory", "8Gi"),),
    gpus=2,
    gpu_resource="amd.com/gpu",
    node_selector=(("disk", "fast"),),
    priority_class_name="high",
    service_account_name="trainer",
    template=json.dumps(
        {
            "metadata": {"labels": {"team": "vision"}},
            "spec": {
                "tolerations": [{"key": "spot", "operator": "Exists"}],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "photos"}},
                    {"name": "taas-shm", "emptyDir": {"sizeLimit": "8Gi"}},
                ],
                "containers": [
                    {
                        "name": "worker",
                        "env": [
                            {
                                "name": "KEY",
                                "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}},
                            }
                        ],
                        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
                    },
                    {"name": "side", "image": "side:1"},
                ],
            },
        }
    ),
)


def plain(**spec: Any) -> dict[str, Any]:
    return render(job(**spec), 1, KUBERNETES)


def test_the_least_that_a_pod_has() -> None:
    assert plain() == json.loads((GOLDEN / "pod_least.json").read_text())


def test_everything_that_a_pod_can_have() -> None:
    queued = replace(
        job(pod=FULL, storage_claim="fast"), labels=(("kueue.x-k8s.io/queue-name", "gpus"),)
    )
    assert render(queued, 1, KUBERNETES) == json.loads((GOLDEN / "pod_full.json").read_text())


def test_local_pods_know_nothing_of_kubernetes() -> None:
    assert render(job(pod=FULL), 0, SETTINGS) == render(job(), 0, SETTINGS)


def test_a_template_cannot_change_what_makes_a_worker() -> None:
    template = {
        "metadata": {"name": "other", "labels": {"taas.dev/worker": "other"}},
        "spec": {
            "restartPolicy": "Always",
            "containers": [
                {
                    "name": "worker",
                    "command": ["sh"],
                    "env": [{"name": "TAAS_WORKER_INDEX", "value": "0"}],
                }
            ],
        },
    }
    assert plain(pod=PodOptions(template=json.dumps(template))) == plain()


def brought(pod: dict[str, Any]) -> list[str]:
    return [each["image"] for each in pod["spec"].get("initContainers", ())]


def test_any_other_image_gets_the_agent_from_the_installations_own() -> None:
    by_template = {"spec": {"containers": [{"name": "worker", "image": "team/tensorflow:1"}]}}
    assert not brought(plain())
    assert not brought(plain(pod=PodOptions(image="taas-trainer:1")))
    for pod in (
        plain(pod=PodOptions(image="team/tensorflow:1")),
        plain(pod=PodOptions(template=json.dumps(by_template))),
    ):
        assert brought(pod) == ["taas-trainer:1"]
        (worker,) = pod["spec"]["containers"]
        assert worker["image"] == "team/tensorflow:1"
        assert worker["command"][-1].endswith("exec python3 -m trainer.carried")


def test_the_workers_of_a_queued_job_do_not_wait_for_its_evaluator() -> None:
    queued = replace(job(workers=3, evaluator=True), labels=(("kueue.x-k8s.io/queue-name", "q"),))
    worker = render(queued, 0, KUBERNETES)["metadata"]
    evaluator = render(queued, EVALUATOR, KUBERNETES)["metadata"]
    assert worker["annotations"]["kueue.x-k8s.io/pod-group-total-count"] == "3"
    assert "kueue.x-k8s.io/pod-group-name" in worker["labels"]
    assert evaluator["labels"]["kueue.x-k8s.io/queue-name"] == "q"
    for name in (*evaluator["labels"], *evaluator["annotations"]):
        assert "pod-group" not in name


def test_only_jobs_in_a_queue_are_labelled_for_it() -> None:
    labels = plain()["metadata"]["labels"]
    assert not [name for name in labels if name.startswith("kueue.x-k8s.io")]
