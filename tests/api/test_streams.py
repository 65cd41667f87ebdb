"""Watching, logs, workers' streams: nothing missed, nothing twice, nobody believed too much."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from controller.model import JobKey, WorkerState
from protos.taas.v1 import (
    history_pb2,
    job_pb2,
    training_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from protos.taas.v1 import training_service_pb2 as pb
from tests.api.world import BOUND_S, Agent, World, job_name, served, trained, until


async def events(
    world: World,
    job_id: str,
    cursor: str = "",
    enough: Callable[[list[Any]], Any] = lambda found: False,
) -> list[Any]:
    """Read events to the end of the stream, or until they are enough."""
    request = pb.WatchTrainingJobRequest(name=job_name(job_id), cursor=cursor)
    call = world.client.WatchTrainingJob(request)
    found = []
    async with asyncio.timeout(BOUND_S):
        while not enough(found):
            response = await call.read()
            if response is grpc.aio.EOF:
                break
            found.append(response.event)
    call.cancel()
    return found


def steps(found: list[Any]) -> list[tuple[int, int]]:
    """Return (generation, step) of the progress events."""
    return [
        (e.record.generation, e.record.progress.step)
        for e in found
        if e.record.HasField("progress")
    ]


def phases(found: list[Any]) -> list[str]:
    """Return the phases that were entered."""
    return [
        job_pb2.Phase.Name(e.state.to).removeprefix("PHASE_") for e in found if e.HasField("state")
    ]


async def test_a_watcher_sees_everything_in_order_and_the_stream_ends(world: World) -> None:
    await trained(world)
    found = await events(world, "one")
    assert steps(found) == [(1, 1), (1, 2), (1, 3)]
    assert phases(found)[-1] == "SUCCEEDED"
    numbers = [e.time.ToNanoseconds() for e in found]
    assert numbers == sorted(numbers)


async def test_every_cursor_resumes_exactly_behind_its_event(world: World) -> None:
    await trained(world)
    found = await events(world, "one")
    for position, event in enumerate(found):
        rest = await events(world, "one", event.cursor)
        assert [e.cursor for e in rest] == [e.cursor for e in found[position + 1 :]]


async def test_a_live_watcher_gets_what_happens(world: World) -> None:
    await world.submit("one")
    watching = asyncio.create_task(events(world, "one"))
    agent = await world.agent("one", 0)
    await agent.start()
    await agent.step(1)
    await agent.exit("DONE")
    found = await watching
    assert steps(found) == [(1, 1)]
    assert phases(found)[-1] == "SUCCEEDED"


async def test_records_that_were_never_told_are_read_from_storage(world: World) -> None:
    await world.submit("one")
    watching = asyncio.create_task(events(world, "one"))
    agent = await world.agent("one", 0)
    await agent.start()
    await agent.step(1)
    await agent.step(2, tell=False)
    await agent.step(3, tell=False)
    await agent.step(4)
    await agent.step(5, tell=False)
    await agent.exit("DONE")
    assert steps(await watching) == [(1, n) for n in (1, 2, 3, 4, 5)]


async def test_a_watcher_goes_on_into_the_next_generation(world: World) -> None:
    await world.submit("one")
    watching = asyncio.create_task(events(world, "one"))
    agent = await world.agent("one", 0)
    await agent.start()
    await agent.step(1)
    await agent.step(2, tell=False)
    failure = job_pb2.Failure(reason="TrainerKilled", message="killed", signal=9)
    await agent.exit("CRASHED", failure)
    order = await agent.start()
    assert order.generation == 2
    await agent.step(2)
    await agent.exit("DONE")
    found = await watching
    assert steps(found) == [(1, 1), (1, 2), (2, 2)]
    assert "RESTARTING" in phases(found)


async def test_a_torn_line_is_not_told_and_rubbish_is_told_as_such(world: World) -> None:
    await world.submit("one")
    agent = await world.agent("one", 0)
    await agent.start()
    await agent.step(1)
    with agent.paths.record_file(1).open("a") as file:
        file.write('rubbish\n{"generation": 1, "ind')
    await agent.exit("DONE")
    await world.phase("one", "SUCCEEDED")
    found = await events(world, "one")
    notices = [e.record.notice.reason for e in found if e.record.HasField("notice")]
    assert notices == ["UnreadableRecord"]
    assert steps(found) == [(1, 1)]


async def test_the_stream_goes_on_over_a_restart_of_the_controller(folder: Path) -> None:
    async with served(folder) as world:
        await world.submit("one")
        agent = await world.agent("one", 0)
        await agent.start()
        await agent.step(1)
        before = await events(world, "one", enough=steps)
        store, cluster = world.store, world.cluster
        await agent.leave()
    await agent.record(progress=job_pb2.Progress(step=2), tell=False)
    async with served(folder, store=store, cluster=cluster) as world:
        agent.world = world
        watching = asyncio.create_task(events(world, "one", before[-1].cursor))
        await agent.call(running=1)
        await agent.heartbeat(step=2, stage="TRAINING")
        await agent.step(3)
        await agent.exit("DONE")
        after = await watching
    assert steps(before + after) == [(1, 1), (1, 2), (1, 3)]
    assert phases(before + after).count("RUNNING") == 1


async def test_from_now_skips_the_past(world: World) -> None:
    await trained(world)
    request = pb.WatchTrainingJobRequest(name=job_name("one"), from_now=True)
    assert await world.client.WatchTrainingJob(request).read() is grpc.aio.EOF


@pytest.mark.parametrize("kind", ["WatchTrainingJob", "StreamLogs"])
async def test_a_cursor_of_another_job_is_refused(world: World, kind: str) -> None:
    await trained(world, "one")
    agent = await trained(world, "two")
    await agent.log("hello\n")
    if kind == "WatchTrainingJob":
        (event, *_) = await events(world, "two")
        call = world.client.WatchTrainingJob(
            pb.WatchTrainingJobRequest(name=job_name("one"), cursor=event.cursor)
        )
    else:
        text = await world.client.StreamLogs(pb.StreamLogsRequest(name=job_name("two"))).read()
        call = world.client.StreamLogs(
            pb.StreamLogsRequest(name=job_name("one"), cursor=text.cursor)
        )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "belongs to another job" in (caught.value.details() or "")


async def removed(world: World) -> None:
    """Delete the job and wait until nothing is left of it."""
    await world.client.DeleteTrainingJob(pb.DeleteTrainingJobRequest(name=job_name("one")))

    async def gone() -> bool:
        world.cluster.finish_deletions()
        return await world.store.keys() == ()

    await until(gone)


async def test_a_deleted_job_ends_its_watchers(world: World) -> None:
    await world.submit("one")
    watching = asyncio.create_task(events(world, "one"))
    await world.pods("one", 1)
    await removed(world)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watching
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("kind", ["WatchTrainingJob", "StreamLogs"])
async def test_who_has_not_read_while_another_job_took_the_name_gets_nothing_of_that(
    world: World, kind: str
) -> None:
    await world.submit("one")
    agent = await world.agent("one", 0)
    await agent.start()
    # More than is sent ahead of a reader: 64 KiB, and what gRPC holds at either end.
    await agent.log(("x" * 1000 + "\n") * 2000)
    notice = history_pb2.Notice(message="x" * 1000)
    for _ in range(2000):
        await agent.record(notice=notice, tell=False)
    requests = {
        "WatchTrainingJob": pb.WatchTrainingJobRequest(name=job_name("one")),
        "StreamLogs": pb.StreamLogsRequest(name=job_name("one"), follow=True),
    }
    told: list[str] = []

    async def read(call: Any) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            told.append(str(response))

    # Without probing for bandwidth the window stays what HTTP/2 begins with.
    options = [("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(world.address, options=options) as channel:
        stub = training_service_pb2_grpc.TrainingServiceStub(channel)
        call = getattr(stub, kind)(requests[kind])
        await call.read()
        await agent.leave()
        await removed(world)
        other = await trained(world, "one")
        await other.log("of the other\n" * 300_000)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(read(call), BOUND_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "default/one" in (caught.value.details() or "")
    assert "of the other" not in "".join(told)


async def logs(world: World, **request: Any) -> str:
    """Read logs to the end of the stream."""
    call = world.client.StreamLogs(pb.StreamLogsRequest(name=job_name("one"), **request))
    text = ""
    async with asyncio.timeout(BOUND_S):
        while (response := await call.read()) is not grpc.aio.EOF:
            text += response.text
    return text


async def test_logs_are_kept_after_the_job(world: World) -> None:
    agent = await trained(world)
    await agent.log("first\nsecond\nth\u00efrd, no end")
    assert await logs(world) == "first\nsecond\nth\u00efrd, no end"
    assert await logs(world, tail_lines=2) == "second\nth\u00efrd, no end"
    assert await logs(world, tail_lines=99) == "first\nsecond\nth\u00efrd, no end"


async def test_a_log_is_resumed_by_cursor_and_cut_at_lines(world: World) -> None:
    await world.submit("one")
    agent = await world.agent("one", 0)
    await agent.start()
    await agent.log("first\nsec")
    request = pb.StreamLogsRequest(name=job_name("one"), follow=True)
    call = world.client.StreamLogs(request)
    response = await call.read()
    assert response.text == "first\n"
    call.cancel()
    await agent.log("ond\n")
    await agent.exit("DONE")
    await world.phase("one", "SUCCEEDED")
    assert await logs(world, cursor=response.cursor) == "second\n"


async def test_a_followed_log_comes_from_the_agent(world: World) -> None:
    await world.submit("one")
    agent = await world.agent("one", 0)
    await agent.start()
    following = asyncio.create_task(logs(world, follow=True))
    order = await agent.order("follow_log")
    assert order.follow
    chunk = worker_service_pb2.LogChunk(offset=0, data=b"live\n")
    await agent.send(log=chunk)
    await agent.log("live\n")
    await agent.exit("DONE")
    assert await following == "live\n"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param({"worker": 5}, "worker", id="no such worker"),
        pytest.param({"worker": -2}, "worker", id="negative worker"),
        pytest.param({"tail_lines": -1}, "tailLines", id="negative tail"),
        pytest.param({"tail_lines": 1, "cursor": "x"}, "tailLines", id="tail and cursor"),
    ],
)
async def test_a_bad_log_request_names_the_field(
    world: World, request_: dict[str, Any], field: str
) -> None:
    await world.submit("one")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await logs(world, **request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(f"{field}:")


async def test_a_worker_is_not_believed_for_another_pod(world: World) -> None:
    await world.submit("one", workers=2)
    agent = await world.agent("one", 0)
    job = await world.job("one")
    for index, pod_uid in [(1, agent.pod_uid), (0, "forged"), (7, agent.pod_uid)]:
        impostor = Agent(world, job, index, pod_uid)
        await impostor.call()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await impostor.stream.read()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    impostor = Agent(world, job, 0, agent.pod_uid)
    await impostor.call(token=world.tokens.token("another pod"))
    assert await impostor.ended() is grpc.StatusCode.PERMISSION_DENIED
    stub = worker_service_pb2_grpc.WorkerServiceStub(world.workers_channel)
    for token in ("", world.tokens.token(agent.pod_uid)[:-1]):
        # Says no hello: to grpc.aio, a message that meets the refusal is an error of its own.
        call = stub.Connect(metadata=(("authorization", f"Bearer {token}"),))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await world.job("one")).status.workers[0].state is not WorkerState.LOST


async def test_a_stream_that_does_not_begin_with_hello_is_refused(world: World) -> None:
    await world.submit("one")
    agent = await world.agent("one", 0)
    token = world.tokens.token(agent.pod_uid)
    metadata = (("authorization", f"Bearer {token}"),)
    stub = worker_service_pb2_grpc.WorkerServiceStub(world.workers_channel)
    silent = stub.Connect(metadata=metadata)
    await silent.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await silent.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for first in ("heartbeat", "exited"):
        stranger = Agent(world, await world.job("one"), 0, agent.pod_uid)
        stranger.stream = stub.Connect(metadata=metadata)
        kind = {"heartbeat": worker_service_pb2.Heartbeat(), "exited": worker_service_pb2.Exited()}
        await stranger.send(**{first: kind[first]})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stranger.stream.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_worker_whose_pod_is_gone_is_not_heard_any_more(world: World) -> None:
    await world.submit("one")
    agent = await world.agent("one", 0)
    await agent.start()
    await agent.step(1)
    # As when a node that was cut off comes back: the process lives, the pod is the job's no more.
    key = JobKey("default", "one")
    world.cluster.pod_vanishes(key, 0)
    assert await agent.ended() is grpc.StatusCode.OK


async def test_records_of_another_generation_are_not_told(world: World) -> None:
    await world.submit("one")
    agent = await world.agent("one", 0)
    await agent.start()
    late = history_pb2.Record(generation=9, index=0, progress=job_pb2.Progress(step=99))
    await agent.send(record=late)
    await agent.step(1)
    await agent.exit("DONE")
    await world.phase("one", "SUCCEEDED")
    assert steps(await events(world, "one")) == [(1, 1)]


async def test_many_watchers_of_one_job_all_see_all(world: World) -> None:
    await world.submit("one")
    watching = [asyncio.create_task(events(world, "one")) for _ in range(50)]
    agent = await world.agent("one", 0)
    await agent.start()
    for step in range(1, 101):
        await agent.step(step)
    await agent.exit("DONE")
    for found in await asyncio.gather(*watching):
        assert steps(found) == [(1, step) for step in range(1, 101)]


async def test_two_workers_start_together_and_end_together(world: World) -> None:
    await world.submit("one", workers=2)
    first = await world.agent("one", 0)
    second = await world.agent("one", 1)
    orders = [await first.start(), await second.start()]
    assert [o.position for o in orders] == [0, 1]
    assert orders[0].cluster == orders[1].cluster == ["127.0.0.1:3000", "127.0.0.1:3001"]
    await first.exit("DONE")
    await second.exit("DONE")
    await world.phase("one", "SUCCEEDED")
    await first.order("release")
