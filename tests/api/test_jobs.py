"""Jobs through the API: created once, listed, changed, ended, deleted."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from controller.errors import ClusterRefused
from controller.local.storage import FolderStorage
from controller.model import Job, Phase
from protos.taas.v1 import job_pb2
from protos.taas.v1 import training_service_pb2 as pb
from tests.api.world import (
    NAMESPACE,
    Agent,
    World,
    archive,
    create_request,
    job_name,
    served,
    until,
)
from trainer.storage import MANIFEST, JobPaths, Manifest, checkpoint_id


async def refusal(call: grpc.aio.Call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def fields(error: grpc.aio.AioRpcError) -> list[str]:
    """Return the fields that an INVALID_ARGUMENT names."""
    status = rpc_status.from_call(error)
    assert status is not None
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    return [violation.field for violation in bad.field_violations]


async def test_a_job_is_created_and_its_pods_with_it(world: World) -> None:
    job = await world.submit("one", workers=2)
    assert job.name == job_name("one")
    assert job.uid
    assert job.spec.workers == 2
    await world.pods("one", 2)


async def test_the_same_request_again_gives_the_same_job(world: World) -> None:
    await world.upload(*archive())
    request = create_request("one", request_id="r1")
    jobs = await asyncio.gather(*(world.client.CreateTrainingJob(request) for _ in range(8)))
    assert len({job.uid for job in jobs}) == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(create_request("one", request_id="r2"), id="another request id"),
        pytest.param(create_request("one", request_id="r1", workers=2), id="another spec"),
        pytest.param(create_request("one"), id="no request id"),
    ],
)
async def test_another_request_under_one_name_is_refused(
    world: World, other: pb.CreateTrainingJobRequest
) -> None:
    await world.upload(*archive())
    await world.client.CreateTrainingJob(create_request("one", request_id="r1"))
    error = await refusal(world.client.CreateTrainingJob(other))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_repeated_request_is_known_after_the_job_was_scaled(world: World) -> None:
    await world.upload(*archive())
    request = create_request("one", request_id="r1")
    job = await world.client.CreateTrainingJob(request)
    await world.client.ScaleTrainingJob(pb.ScaleTrainingJobRequest(name=job.name, workers=3))
    again = await world.client.CreateTrainingJob(request)
    assert (again.uid, again.spec.workers) == (job.uid, 3)


async def test_validate_only_stores_nothing(world: World) -> None:
    await world.upload(*archive())
    request = create_request("one")
    request.validate_only = True
    await world.client.CreateTrainingJob(request)
    assert await world.store.keys() == ()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(create_request("One"), "trainingJobId", id="a name Kubernetes refuses"),
        pytest.param(create_request("one", workers=0), "trainingJob.spec.workers", id="no worker"),
        pytest.param(create_request("one", workers=9), "trainingJob.spec.workers", id="too many"),
        pytest.param(create_request("one"), "trainingJob.spec.source.digest", id="no such source"),
    ],
)
async def test_a_bad_request_names_the_field_and_stores_nothing(
    world: World, request_: pb.CreateTrainingJobRequest, field: str
) -> None:
    error = await refusal(world.client.CreateTrainingJob(request_))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields(error) == [field]
    assert await world.store.keys() == ()


# Field 1000 as a varint, which no message has.
UNKNOWN = b"\xc0\x3e\x07"
SERVICE = pb.DESCRIPTOR.services_by_name["TrainingService"]


@pytest.mark.parametrize("method", list(SERVICE.methods), ids=lambda method: method.name)
async def test_no_call_overlooks_a_field_that_it_does_not_know(
    world: World, method: MethodDescriptor
) -> None:
    kind = "stream" if method.client_streaming else "unary"
    make = getattr(world.channel, f"{kind}_{'stream' if method.server_streaming else 'unary'}")
    call = make(f"/{SERVICE.full_name}/{method.name}")
    asking = call(iter([UNKNOWN])) if method.client_streaming else call(UNKNOWN)
    error = await refusal(asking.read() if method.server_streaming else asking)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields(error) == [method.input_type.name]


async def test_jobs_are_listed_newest_first_page_by_page(world: World) -> None:
    for number in range(5):
        await world.submit(f"job-{number}")
    names: list[str] = []
    token = ""
    while True:
        page = await world.client.ListTrainingJobs(
            pb.ListTrainingJobsRequest(parent=NAMESPACE, page_size=2, page_token=token)
        )
        names += [job.name.rsplit("/", 1)[1] for job in page.training_jobs]
        if not (token := page.next_page_token):
            break
    assert names == ["job-4", "job-3", "job-2", "job-1", "job-0"]


async def test_a_list_with_a_bad_page_or_filter_is_refused(world: World) -> None:
    for request, field in [
        (pb.ListTrainingJobsRequest(parent=NAMESPACE, page_size=-1), "pageSize"),
        (pb.ListTrainingJobsRequest(parent=NAMESPACE, page_token="x"), "pageToken"),
        (pb.ListTrainingJobsRequest(parent=NAMESPACE, filter="colour=red"), "filter"),
    ]:
        error = await refusal(world.client.ListTrainingJobs(request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert fields(error) == [field]


async def test_an_unknown_job_is_not_found_by_any_call(world: World) -> None:
    name = job_name("nobody")
    client = world.client
    calls = [
        client.GetTrainingJob(pb.GetTrainingJobRequest(name=name)),
        client.ScaleTrainingJob(pb.ScaleTrainingJobRequest(name=name, workers=1)),
        client.SuspendTrainingJob(pb.SuspendTrainingJobRequest(name=name)),
        client.ResumeTrainingJob(pb.ResumeTrainingJobRequest(name=name)),
        client.CancelTrainingJob(pb.CancelTrainingJobRequest(name=name)),
        client.DeleteTrainingJob(pb.DeleteTrainingJobRequest(name=name)),
        client.ListCheckpoints(pb.ListCheckpointsRequest(parent=name)),
        client.ListFiles(pb.ListFilesRequest(parent=name, artifact=pb.Artifact(output=True))),
        client.WatchTrainingJob(pb.WatchTrainingJobRequest(name=name)).read(),
        client.StreamLogs(pb.StreamLogsRequest(name=name)).read(),
        client.DownloadFile(pb.DownloadFileRequest(parent=name)).read(),
    ]
    for call in calls:
        assert (await refusal(call)).code() is grpc.StatusCode.NOT_FOUND


async def test_a_pod_that_the_cluster_refuses_is_in_the_status_until_it_is_created(
    world: World,
) -> None:
    world.cluster.refuse = ClusterRefused("exceeded quota: pods=0")
    job = await world.submit("one")
    request = pb.GetTrainingJobRequest(name=job.name)

    async def told() -> job_pb2.TrainingJobStatus | None:
        status = (await world.client.GetTrainingJob(request)).status
        return status if "exceeded quota" in status.message else None

    status = await until(told)
    assert status.message == "waiting for worker 0: its pod was refused: exceeded quota: pods=0"
    assert status.workers[0].reason == "PodRefused"
    world.cluster.refuse = None
    await world.agent("one", 0)
    status = (await world.phase("one", "STARTING")).status
    assert status.workers[0].reason == ""


async def test_suspend_and_resume(world: World) -> None:
    job = await world.submit("one")
    await world.agent("one", 0)
    await world.client.SuspendTrainingJob(pb.SuspendTrainingJobRequest(name=job.name))

    async def held() -> bool:
        world.cluster.finish_deletions()
        return not await world.cluster.pods(await world.job("one"))

    await until(held)
    await world.phase("one", "SUSPENDED")
    await world.client.ResumeTrainingJob(pb.ResumeTrainingJobRequest(name=job.name))
    await world.pods("one", 1)


async def test_cancel_is_final(world: World) -> None:
    job = await world.submit("one")
    await world.client.CancelTrainingJob(pb.CancelTrainingJobRequest(name=job.name))
    await world.phase("one", "CANCELLED")
    await world.client.CancelTrainingJob(pb.CancelTrainingJobRequest(name=job.name))
    for call in [
        world.client.ScaleTrainingJob(pb.ScaleTrainingJobRequest(name=job.name, workers=2)),
        world.client.SuspendTrainingJob(pb.SuspendTrainingJobRequest(name=job.name)),
    ]:
        assert (await refusal(call)).code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_scale_with_an_old_etag_is_refused(world: World) -> None:
    job = await world.submit("one")
    scale = pb.ScaleTrainingJobRequest(name=job.name, workers=2, etag="stale")
    error = await refusal(world.client.ScaleTrainingJob(scale))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    scale = pb.ScaleTrainingJobRequest(name=job.name, workers=0)
    assert fields(await refusal(world.client.ScaleTrainingJob(scale))) == ["workers"]


async def test_delete_removes_pods_files_and_the_job(world: World) -> None:
    job = await world.submit("one")
    agent = await world.agent("one", 0)
    await agent.start()
    await agent.step(1)
    await world.client.DeleteTrainingJob(pb.DeleteTrainingJobRequest(name=job.name))
    await agent.order("stop")
    await agent.exit("STOPPED")

    async def gone() -> bool:
        world.cluster.finish_deletions()
        return await world.store.keys() == ()

    await until(gone)
    assert not agent.paths.folder.exists()
    request = pb.DeleteTrainingJobRequest(name=job.name, allow_missing=True)
    assert await world.client.DeleteTrainingJob(request) == job_pb2.TrainingJob()


async def test_health_and_reflection_answer(world: World) -> None:
    health = health_pb2_grpc.HealthStub(world.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service="taas.v1.TrainingService"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING

    reflection = reflection_pb2_grpc.ServerReflectionStub(world.channel)
    asking = reflection.ServerReflectionInfo()
    await asking.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    services = {s.name for s in (await asking.read()).list_services_response.service}
    assert "taas.v1.TrainingService" in services
    # Workers have a door of their own, and nothing to look around for.
    assert "taas.v1.WorkerService" not in services
    await asking.done_writing()


async def test_the_service_says_what_it_is(world: World) -> None:
    info = await world.client.GetServiceInfo(pb.GetServiceInfoRequest())
    assert info.max_workers == 8


async def test_a_template_with_a_number_that_json_does_not_have_is_refused(world: World) -> None:
    request = create_request("one")
    spec = request.training_job.spec.pod.template.fields["spec"].struct_value
    spec.fields["priority"].number_value = math.inf
    error = await refusal(world.client.CreateTrainingJob(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields(error) == ["trainingJob.spec.pod.template.spec.priority"]


def back(world: World, step: int) -> Any:
    """Call for the job to go on from a step."""
    request = pb.ResumeTrainingJobRequest(name=job_name("one"), from_step=step)
    return world.client.ResumeTrainingJob(request)


async def held(world: World) -> None:
    """Hold the job and wait until it is."""
    await world.client.SuspendTrainingJob(pb.SuspendTrainingJobRequest(name=job_name("one")))

    async def suspended() -> bool:
        world.cluster.finish_deletions()
        return (await world.job("one")).status.phase is Phase.SUSPENDED

    await until(suspended)


async def saved(world: World, step: int) -> None:
    """Let the job have a checkpoint of that step."""
    paths = JobPaths(world.root, "default", "one", (await world.job("one")).uid)
    folder = paths.checkpoints / checkpoint_id(step, 1)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(Manifest(step, 1, 0.0, ()).to_json())


async def run_and_stop(world: World) -> None:
    """Let a generation of the job come and be held."""
    agent = await world.agent("one", 0)
    await agent.start()
    await stopped(world, agent)


async def stopped(world: World, agent: Agent) -> None:
    """Hold the job while its worker trains."""
    suspending = asyncio.create_task(held(world))
    await agent.order("stop")
    await agent.exit("STOPPED")
    await suspending


async def test_a_held_job_goes_back_to_a_step_that_it_has(world: World) -> None:
    await world.submit("one")
    error = await refusal(back(world, 10))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "suspend it first" in (error.details() or "")
    await held(world)
    error = await refusal(back(world, 10))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith("fromStep: 10 is the step of no checkpoint")
    await saved(world, 10)
    resumed = await back(world, 10)
    assert not resumed.spec.suspend
    assert resumed.spec.rewind == job_pb2.Rewind(step=10, generation=0)


async def test_to_go_back_to_a_step_may_be_asked_for_again(world: World) -> None:
    """The answer may be lost; until another generation comes, the same call is that one again."""
    await world.submit("one")
    await held(world)
    await saved(world, 10)
    rewind = job_pb2.Rewind(step=10, generation=0)
    assert (await back(world, 10)).spec.rewind == rewind
    await world.phase("one", "PENDING")
    again = await back(world, 10)
    assert (again.spec.rewind, again.spec.suspend) == (rewind, False)
    agent = await world.agent("one", 0)
    await agent.start()
    assert (await back(world, 10)).spec.rewind == rewind
    error = await refusal(back(world, 20))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    # Held again, it is asked for anew.
    await stopped(world, agent)
    assert (await back(world, 10)).spec.rewind == job_pb2.Rewind(step=10, generation=1)
    await run_and_stop(world)
    await world.client.ResumeTrainingJob(pb.ResumeTrainingJobRequest(name=job_name("one")))
    await (await world.agent("one", 0)).start()
    error = await refusal(back(world, 10))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


class Meanwhile(FolderStorage):
    """A storage in which something happens while checkpoints are asked for."""

    happens: Callable[[], Awaitable[None]] | None = None

    async def checkpoints(self, job: Job) -> Any:
        found = await super().checkpoints(job)
        happens, self.happens = self.happens, None
        if happens is not None:
            await happens()
        return found


@pytest.mark.parametrize("then", ["it goes on", "it is held again"])
async def test_a_job_that_goes_on_while_its_checkpoints_are_looked_at_is_not_sent_back(
    folder: Path, then: str
) -> None:
    storage = Meanwhile(folder / "storage")
    async with served(folder, storage=storage) as world:
        await world.submit("one")
        await held(world)
        await saved(world, 10)

        async def happens() -> None:
            await world.client.ResumeTrainingJob(pb.ResumeTrainingJobRequest(name=job_name("one")))
            if then == "it is held again":
                await run_and_stop(world)

        storage.happens = happens
        error = await refusal(back(world, 10))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "cannot go back to step 10" in (error.details() or "")
        assert (await world.job("one")).spec.rewind is None


async def test_a_lender_must_be_a_job_of_the_namespace(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.submit("one", init_from=job_pb2.InitFrom(job="two"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "'two' is no job of namespace default" in (caught.value.details() or "")
    await world.submit("two")
    job = await world.submit("one", init_from=job_pb2.InitFrom(job="two"))
    assert job.spec.init_from.job == "two"
