"""The manifest of a worker's pod and the assignment of its trainer."""

from __future__ import annotations

import json
from dataclasses import replace

from controller.model import CheckpointPolicy, Source
from controller.render import PodSettings, assignment, render
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
                "app.kubernetes.io/managed-by": "taas",
                "taas.dev/job": "job",
                "taas.dev/job-uid": "uid-1",
                "taas.dev/worker": "1",
            },
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 45,
            "containers": [
                {
                    "name": "worker",
                    "command": ["py", "-m", "trainer.agent"],
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
