"""The objects of Kubernetes as the domain has them, and the domain as patches of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.errors import ClusterRefused, ClusterUnavailable, Conflict
from controller.kubernetes import job_documents, pod_documents
from controller.kubernetes.client import Document
from controller.kubernetes.cluster import owned
from controller.kubernetes.recorder import Note, note
from controller.kubernetes.replies import Expired, Missing, Rejected, Taken, error_of
from controller.model import (
    Failure,
    Job,
    JobKey,
    LogEntry,
    Phase,
    PodPhase,
    Progress,
    Reason,
    StateChange,
    Status,
    WorkerChange,
    WorkerState,
)
from controller.render import LABEL_JOB, LABEL_JOB_UID, LABEL_MANAGED_BY, LABEL_WORKER
from tests.contracts.jobs import NOON, a_job, an_entry

DIGEST = "ab" * 32


def an_object(
    spec: object = None, status: object = None, name: str = "mnist", **more: Any
) -> Document:
    """Return a TrainingJob object as the API server has it after `kubectl apply`."""
    plain = {"task": {"module": "task.py"}, "workers": 2}
    source = {"digest": DIGEST, "sizeBytes": 10}
    document: Document = {
        "apiVersion": "taas.dev/v1",
        "kind": "TrainingJob",
        "metadata": {
            "namespace": "team-a",
            "name": name,
            "uid": "uid-1",
            "resourceVersion": "17",
            "creationTimestamp": "2024-05-06T12:00:00Z",
            **more,
        },
        "spec": plain | {"source": source} if spec is None else spec,
    }
    return document if status is None else document | {"status": status}


def stored_as(job: Job, **status: Any) -> Document:
    """Return the object of a job after the API server has taken it."""
    document = job_documents.new_document(job)
    document["metadata"] |= {
        "uid": job.uid,
        "resourceVersion": "1",
        "creationTimestamp": job.created.isoformat().replace("+00:00", "Z"),
    }
    return json.loads(json.dumps(document | ({"status": status} if status else {})))


def applied(document: Document, **patch: Document) -> Document:
    """Return an object after a JSON merge patch, as RFC 7386 says."""

    def merge(target: Any, change: Any) -> Any:
        if not isinstance(change, dict):
            return change
        merged = dict(target) if isinstance(target, dict) else {}
        for name, value in change.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = merge(merged.get(name), value)
        return merged

    return json.loads(json.dumps(merge(document, patch)))


# --- Jobs


def test_a_job_of_kubectl_gets_the_defaults() -> None:
    stored = job_documents.read(an_object(labels={"team": "vision"}))
    job = stored.job
    assert (job.key, job.uid, job.version) == (JobKey("team-a", "mnist"), "uid-1", "17")
    assert job.created == NOON
    assert (job.spec.workers, job.spec.min_workers, job.spec.max_restarts) == (2, 2, 6)
    assert job.labels == (("team", "vision"),)
    assert job.status == Status()
    assert not stored.held
    assert stored.refusal is None


def test_a_job_comes_back_from_its_object() -> None:
    job = replace(a_job(labels=(("team", "vision"),)), fingerprint="f" * 64)
    stored = job_documents.read(stored_as(job))
    assert replace(stored.job, version="") == job
    assert stored.held


def test_deletion_is_read() -> None:
    job = job_documents.read(an_object(deletionTimestamp="2024-05-06T13:00:00Z")).job
    assert job.deleting == datetime(2024, 5, 6, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (an_object(spec={}), r"spec\.task: is missing"),
        (an_object(spec="text"), "spec: 'text' is no object"),
        (an_object(spec={"workers": "many"}), "spec: .*workers"),
        (an_object(spec={"task": {"module": 3}}), "spec: .*module"),
        (an_object(name="a" * 60), r"metadata\.name: "),
        (an_object(name="two.words"), r"metadata\.name: "),
        (an_object(status={"phase": "PHASE_DREAMING"}), r"status\.phase: .* is no phase"),
        (an_object(status=[1]), "status: "),
    ],
)
def test_what_cannot_run_is_a_failed_job(document: Document, why: str) -> None:
    stored = job_documents.read(document)
    status = stored.job.status
    assert (status.phase, status.finished, status.last_event) == (Phase.FAILED, NOON, 1)
    assert status.last_failure is not None
    assert status.last_failure.reason == Reason.INVALID_SPEC
    assert stored.refusal is not None
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(status.message)
    patch = job_documents.refusal_patch(stored, stored.refusal)
    if not isinstance(document.get("status", {}), dict):
        document = {k: v for k, v in document.items() if k != "status"}
    again = job_documents.read(applied(document, status=patch))
    assert again.refusal is None
    assert again.job.status == status
    assert job_documents.entries(again.document, 0) == (stored.refusal,)


def test_a_job_that_runs_is_not_judged_again() -> None:
    running = {"phase": "PHASE_RUNNING", "phaseSince": "2024-05-06T12:00:00Z"}
    stored = job_documents.read(an_object(spec={"workers": 2}, status=running))
    assert stored.refusal is None
    assert stored.job.status.phase is Phase.RUNNING


def test_a_refusal_keeps_what_was_known() -> None:
    known = {"phase": "PHASE_RUNNING", "phaseSince": "2024-05-06T12:00:00Z", "generation": 3}
    stored = job_documents.read(an_object(spec={"workers": []}, status=known | {"lastEvent": "7"}))
    assert stored.refusal is not None
    assert (stored.job.status.generation, stored.refusal.number) == (3, 8)


def test_a_spec_patch_has_only_what_changes() -> None:
    stored = job_documents.read(stored_as(a_job()))
    assert job_documents.spec_patch(stored, stored.job.spec) == {}
    wanted = replace(stored.job.spec, suspend=True)
    assert job_documents.spec_patch(stored, wanted) == {"suspend": True}
    suspended = job_documents.read(applied(stored.document, spec={"suspend": True}))
    back = job_documents.spec_patch(suspended, stored.job.spec)
    assert back == {"suspend": None}
    assert job_documents.read(applied(suspended.document, spec=back)).job.spec == stored.job.spec


def test_what_followed_from_a_changed_field_is_spelled_out() -> None:
    stored = job_documents.read(an_object())
    wanted = replace(stored.job.spec, workers=5)
    patch = job_documents.spec_patch(stored, wanted)
    assert patch == {"workers": 5, "minWorkers": 2}
    assert job_documents.read(applied(stored.document, spec=patch)).job.spec == wanted


def test_a_status_patch_takes_back_what_is_no_more() -> None:
    job = a_job()
    stored = job_documents.read(stored_as(job))
    failing = Status(
        phase=Phase.RESTARTING,
        phase_since=NOON,
        generation=2,
        restart_after=NOON,
        last_failure=Failure("TrainerCrashed", "it crashed", time=NOON),
        restarts_by_reason=(("TrainerCrashed", 1),),
        progress=Progress(step=3, loss=0.5, metrics=(("accuracy", 0.5),)),
        last_event=2,
    )
    patch = job_documents.status_patch(stored, failing, [an_entry(1), an_entry(2)])
    stored = job_documents.read(applied(stored.document, status=patch))
    assert stored.job.status == failing
    assert job_documents.entries(stored.document, 1) == (an_entry(2),)
    assert job_documents.status_patch(stored, failing, []) == {}
    running = replace(
        failing, restart_after=None, restarts_by_reason=(), last_failure=None, progress=Progress()
    )
    patch = job_documents.status_patch(stored, running, [])
    assert patch["restartAfter"] is None
    assert "events" not in patch
    assert job_documents.read(applied(stored.document, status=patch)).job.status == running


def test_fields_of_a_newer_version_stay() -> None:
    status = {"phase": "PHASE_RUNNING", "phaseSince": "2024-05-06T12:00:00Z", "mood": "good"}
    stored = job_documents.read(an_object(status=status))
    patch = job_documents.status_patch(stored, replace(stored.job.status, generation=1), [])
    assert "mood" not in patch


def test_the_log_keeps_the_newest_entries() -> None:
    stored = job_documents.read(stored_as(a_job()))
    many = [an_entry(n) for n in range(1, 400)]
    patch = job_documents.status_patch(stored, Status(last_event=399), many)
    kept = job_documents.entries(applied(stored.document, status=patch), 0)
    assert [entry.number for entry in kept] == list(range(144, 400))
    stored = job_documents.read(applied(stored.document, status=patch))
    with pytest.raises(ValueError, match="do not follow number 399"):
        job_documents.status_patch(stored, Status(), [an_entry(401)])


def test_the_log_is_bounded_in_bytes_and_keeps_one_entry() -> None:
    stored = job_documents.read(stored_as(a_job()))
    failure = Failure("TrainerCrashed", "x" * 200_000)
    change = StateChange(Phase.RUNNING, Phase.RESTARTING, 1, "again", failure)
    huge = [LogEntry(n, NOON, change) for n in range(1, 5)]
    patch = job_documents.status_patch(stored, Status(last_event=4), huge)
    kept = job_documents.entries(applied(stored.document, status=patch), 0)
    assert [entry.number for entry in kept] == [4]


def test_other_finalizers_stay() -> None:
    stored = job_documents.read(an_object(finalizers=["other", job_documents.FINALIZER]))
    assert job_documents.finalizers(stored, held=False) == ["other"]
    assert job_documents.finalizers(stored, held=True) == ["other", job_documents.FINALIZER]


# --- Pods


def a_pod(status: Document, spec: Document | None = None, **metadata: Any) -> Document:
    """Return a Pod object."""
    labels = {LABEL_JOB: "mnist", LABEL_JOB_UID: "uid-1", LABEL_WORKER: "3"}
    return {
        "metadata": {
            "namespace": "team-a",
            "name": "mnist-3",
            "uid": "pod-uid",
            "resourceVersion": "4",
            "creationTimestamp": "2024-05-06T12:00:00Z",
            "labels": labels,
            **metadata,
        },
        "spec": spec or {"nodeName": "node-1"},
        "status": status,
    }


def container(**state: Document) -> list[Document]:
    return [{"name": "worker", "state": state}]


CREATING = container(waiting={"reason": "ContainerCreating"})
PULLING = container(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling x"})
KILLED = container(terminated={"exitCode": 137, "reason": "OOMKilled"})
SAID = container(terminated={"exitCode": 3, "reason": "Error", "message": "no luck\n"})
UNREADY = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]


@pytest.mark.parametrize(
    ("status", "phase", "reason", "message"),
    [
        ({}, PodPhase.PENDING, "", ""),
        ({"phase": "Pending", "containerStatuses": CREATING}, PodPhase.PENDING, "", ""),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/2 nodes are available",
                    }
                ],
            },
            PodPhase.PENDING,
            "Unschedulable",
            "0/2 nodes are available",
        ),
        (
            {"phase": "Pending", "containerStatuses": PULLING},
            PodPhase.PENDING,
            "ImagePullBackOff",
            "Back-off pulling x",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": container(waiting={"reason": "ErrImagePull"}),
                "containerStatuses": container(waiting={"reason": "PodInitializing"}),
            },
            PodPhase.PENDING,
            "ErrImagePull",
            "container worker waits",
        ),
        ({"phase": "Running"}, PodPhase.RUNNING, "", ""),
        ({"phase": "Running", "conditions": UNREADY}, PodPhase.RUNNING, "NodeLost", "node-1"),
        ({"phase": "Unknown"}, PodPhase.RUNNING, "NodeLost", "node-1 is not ready"),
        ({"phase": "Succeeded"}, PodPhase.SUCCEEDED, "Completed", ""),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            PodPhase.FAILED,
            "Evicted",
            "low on memory",
        ),
        *(
            (
                {"phase": "Failed", "reason": "Evicted", "message": text},
                PodPhase.FAILED,
                reason,
                text,
            )
            for reason, text in (
                (
                    "OutOfDisk",
                    "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
                ),
                (
                    "OutOfDisk",
                    'Container worker exceeded its local ephemeral storage limit "1Gi".',
                ),
                ("OutOfDisk", 'Usage of EmptyDir volume "taas-scratch" exceeds the limit "1Gi".'),
                ("Evicted", "The node was low on resource: ephemeral-storage."),
            )
        ),
        (
            {
                "phase": "Failed",
                "conditions": [
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "PreemptionByScheduler",
                        "message": "for another",
                    }
                ],
                "containerStatuses": KILLED,
            },
            PodPhase.FAILED,
            "PreemptionByScheduler",
            "for another",
        ),
        (
            {"phase": "Failed", "containerStatuses": KILLED},
            PodPhase.FAILED,
            "OOMKilled",
            "exit code 137",
        ),
        (
            {"phase": "Failed", "containerStatuses": SAID},
            PodPhase.FAILED,
            "Error",
            "exit code 3: no luck",
        ),
        ({"phase": "Failed"}, PodPhase.FAILED, "Error", "without a word"),
    ],
)
def test_a_pod_says_why(status: Document, phase: PodPhase, reason: str, message: str) -> None:
    pod = pod_documents.read(a_pod(status))
    assert pod is not None
    assert (pod.job, pod.job_uid) == (JobKey("team-a", "mnist"), "uid-1")
    seen = pod.seen
    assert (seen.index, seen.name, seen.uid, seen.created) == (3, "mnist-3", "pod-uid", NOON)
    assert (seen.phase, seen.reason, seen.deleting) == (phase, reason, False)
    assert message in seen.message
    assert pod.ends_within_s is None


def test_a_pod_that_is_being_deleted() -> None:
    pod = pod_documents.read(
        a_pod({}, deletionTimestamp="2024-05-06T13:00:00Z", deletionGracePeriodSeconds=30)
    )
    assert pod is not None
    assert (pod.seen.deleting, pod.ends_within_s) == (True, 30)


def test_readiness_gates_say_nothing_about_the_node() -> None:
    gated = {"nodeName": "node-1", "readinessGates": [{"conditionType": "x"}]}
    pod = pod_documents.read(a_pod({"phase": "Running", "conditions": UNREADY}, gated))
    assert pod is not None
    assert pod.seen.reason == ""


@pytest.mark.parametrize("labels", [{}, {LABEL_JOB: "mnist"}, {LABEL_JOB: "m", LABEL_WORKER: "x"}])
def test_other_pods_are_none_of_ours(labels: dict[str, str]) -> None:
    assert pod_documents.read(a_pod({}, labels=labels)) is None


def test_a_pod_is_marked_as_its_jobs_own() -> None:
    job = a_job()
    labels = {LABEL_WORKER: "0", LABEL_JOB_UID: "another's", "mine": "yes"}
    manifest = {"metadata": {"name": "mnist-0", "labels": labels}}
    metadata = owned(job, manifest)["metadata"]
    assert metadata["namespace"] == "default"
    assert metadata["labels"] == {
        "mine": "yes",
        LABEL_WORKER: "0",
        LABEL_MANAGED_BY: "taas",
        LABEL_JOB: "mnist",
        LABEL_JOB_UID: job.uid,
    }
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("TrainingJob", job.uid, True)
    assert manifest["metadata"] == {
        "name": "mnist-0",
        "labels": {LABEL_WORKER: "0", LABEL_JOB_UID: "another's", "mine": "yes"},
    }


# --- Errors


def a_reply(**fields: Any) -> bytes:
    return json.dumps({"kind": "Status", "message": "so it is", **fields}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, a_reply(), ClusterRefused),
        (401, a_reply(), ClusterUnavailable),
        (403, a_reply(), ClusterRefused),
        (404, a_reply(), Missing),
        (404, b"404 page not found", ClusterUnavailable),
        (409, a_reply(reason="AlreadyExists"), Taken),
        (409, a_reply(reason="Conflict"), Conflict),
        (410, a_reply(), Expired),
        (422, a_reply(), Rejected),
        (429, a_reply(), ClusterUnavailable),
        (500, b"<html>", ClusterUnavailable),
        (503, b"", ClusterUnavailable),
    ],
)
def test_an_answer_is_an_error(status: int, body: bytes, kind: type[Exception]) -> None:
    error = error_of(status, body, 7.0, "GET /x")
    assert type(error) is kind
    if kind is ClusterUnavailable:
        assert isinstance(error, ClusterUnavailable)
        assert error.retry_after_s == (7.0 if status != 404 else 1.0)


def test_a_rejection_names_the_field() -> None:
    causes = [{"field": "spec.workers", "message": "must be at least 1"}]
    error = error_of(422, a_reply(details={"causes": causes}), None, "POST /x")
    assert isinstance(error, Rejected)
    assert (error.field, error.cause) == ("spec.workers", "must be at least 1")


# --- Events


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            StateChange(Phase.PENDING, Phase.RUNNING, 1, "2 workers train"),
            Note(False, "Running", "2 workers train"),
        ),
        (
            StateChange(Phase.RUNNING, Phase.RESTARTING, 1, "crash", Failure("X", "crash")),
            Note(True, "Restarting", "crash"),
        ),
        (
            WorkerChange(2, WorkerState.RUNNING, WorkerState.LOST, 1, "Evicted"),
            Note(True, "WorkerLost", "worker 2: Evicted"),
        ),
        (WorkerChange(2, WorkerState.PENDING, WorkerState.READY, 1, ""), None),
    ],
)
def test_events_are_what_people_look_for(
    change: StateChange | WorkerChange, said: Note | None
) -> None:
    assert note(LogEntry(1, NOON, change)) == said
