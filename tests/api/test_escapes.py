"""No name and no path that a caller can send leads out of where it belongs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.taas.v1 import training_service_pb2 as pb
from tests.api.world import World, archive, create_request, job_name, served, trained, until
from trainer.storage import JobPaths

CODE = grpc.StatusCode
SECRET = "what is not for this caller"
# What has led out of folders elsewhere: dots, roots, other separators, codes and look-alikes.
TRICKS = (
    "..",
    ".",
    "/",
    "../secret",
    "../../secret",
    "model/../../secret",
    "./../secret",
    "/etc/passwd",
    "..\\secret",
    "%2e%2e/secret",
    "..%2fsecret",
    "..\0/secret",
    "secret\0.txt",
    "\uff0e\uff0e/secret",
    "\u2024\u2024/secret",
    "..\u2215secret",
    "\u202e../secret",
    "//secret",
    "a//b",
    "a/./b",
    "~/secret",
    "file:///etc/passwd",
    "x" * 5000,
)
NAMES = (
    "..",
    ".",
    "a/b",
    "../x",
    "A",
    "é",
    "a\0",
    "-a",
    "a.b",
    "\uff41",
    "a\n",
    "x" * 300,
    "a b",
    "%2e",
)


async def refused(call: Any) -> grpc.StatusCode:
    """Return the code that a call, or the stream of one, ends with."""
    answer: Any = None
    try:
        if isinstance(call, grpc.aio.UnaryStreamCall):
            answer = [each async for each in call]
        else:
            answer = await call
    except grpc.aio.AioRpcError as error:
        caught = error
    assert answer is None, answer
    assert SECRET not in (caught.details() or "")
    return caught.code()


@pytest.fixture
async def paths(world: World) -> JobPaths:
    """A finished job, with secrets of another beside and above its folders."""
    await trained(world, "mine")
    job = await world.job("mine")
    paths = JobPaths(world.root, job.key.namespace, job.key.name, job.uid)
    for place in (world.root, paths.folder, paths.checkpoints, world.root.parent):
        place.mkdir(parents=True, exist_ok=True)
        (place / "secret").write_text(SECRET)
        (place / "secret.txt").write_text(SECRET)
    return paths


@pytest.mark.parametrize("path", TRICKS)
async def test_a_download_stays_in_its_tree(world: World, paths: JobPaths, path: str) -> None:
    (paths.checkpoints / "step-0000000001.g000001").mkdir(parents=True, exist_ok=True)
    for artifact in (
        pb.Artifact(output=True),
        pb.Artifact(checkpoint="step-0000000001.g000001"),
    ):
        request = pb.DownloadFileRequest(parent=job_name("mine"), artifact=artifact, path=path)
        assert await refused(world.client.DownloadFile(request)) is CODE.NOT_FOUND


@pytest.mark.parametrize("name", [*TRICKS, "step-0000000001.g000001/../..", "step-1.g1", "latest"])
async def test_a_checkpoint_id_is_one_folder(world: World, paths: JobPaths, name: str) -> None:
    artifact = pb.Artifact(checkpoint=name)
    request = pb.ListFilesRequest(parent=job_name("mine"), artifact=artifact)
    assert await refused(world.client.ListFiles(request)) is CODE.NOT_FOUND
    download = pb.DownloadFileRequest(parent=job_name("mine"), artifact=artifact, path="secret")
    assert await refused(world.client.DownloadFile(download)) is CODE.NOT_FOUND


@pytest.mark.parametrize("name", NAMES)
async def test_names_of_jobs_namespaces_and_claims_are_names(world: World, name: str) -> None:
    before = sorted(world.root.rglob("*"))
    client = world.client
    job = pb.GetTrainingJobRequest(name=f"namespaces/default/trainingJobs/{name}")
    space = pb.GetTrainingJobRequest(name=f"namespaces/{name}/trainingJobs/mine")
    for request in (job, space):
        assert await refused(client.GetTrainingJob(request)) is CODE.INVALID_ARGUMENT
        delete = pb.DeleteTrainingJobRequest(name=request.name)
        assert await refused(client.DeleteTrainingJob(delete)) is CODE.INVALID_ARGUMENT
    create = create_request("mine")
    create.training_job_id = name
    assert await refused(client.CreateTrainingJob(create)) is CODE.INVALID_ARGUMENT
    create = create_request("mine")
    create.training_job.spec.storage.claim_name = f"{name}/"
    assert await refused(client.CreateTrainingJob(create)) is CODE.INVALID_ARGUMENT
    _, source = archive()
    for header in (
        pb.UploadSourceHeader(parent=f"namespaces/{name}", source=source),
        pb.UploadSourceHeader(parent="namespaces/default", source=source, claim_name=f"{name}/"),
    ):
        call = client.UploadSource(iter([pb.UploadSourceRequest(header=header)]))
        assert await refused(call) is CODE.INVALID_ARGUMENT
    source.digest = f"{name}/{source.digest}"
    header = pb.UploadSourceHeader(parent="namespaces/default", source=source)
    call = client.UploadSource(iter([pb.UploadSourceRequest(header=header)]))
    assert await refused(call) is CODE.INVALID_ARGUMENT
    assert sorted(world.root.rglob("*")) == before
    assert await world.store.keys() == ()


@pytest.mark.parametrize("module", ["/etc/passwd", "../task.py", "a/../../task.py", "a\0.py"])
async def test_a_task_is_in_its_source(world: World, module: str) -> None:
    create = create_request("mine")
    create.training_job.spec.task.module = module
    assert await refused(world.client.CreateTrainingJob(create)) is CODE.INVALID_ARGUMENT


async def test_links_of_a_program_are_not_followed(world: World, paths: JobPaths) -> None:
    """Its output, one of its logs and one of its checkpoints lead to what is not its own."""
    outside = world.root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text(SECRET)
    manifest = {"step": 7, "generation": 1, "time": 0.0, "files": [], "metrics": {"x": 1.0}}
    (outside / "manifest.json").write_text(json.dumps(manifest))
    checkpoint = paths.checkpoints / "step-0000000007.g000001"
    paths.output.mkdir(parents=True, exist_ok=True)
    paths.logs.mkdir(parents=True, exist_ok=True)
    log = paths.log_file(0)
    log.unlink(missing_ok=True)
    for link, target in (
        (checkpoint, outside),
        (paths.output / "out", outside),
        (paths.output / "file", outside / "secret"),
        (log, outside / "secret"),
    ):
        link.symlink_to(target)
    client, parent = world.client, job_name("mine")
    output = pb.Artifact(output=True)
    listed = await client.ListFiles(pb.ListFilesRequest(parent=parent, artifact=output))
    assert not [f.path for f in listed.files if f.path.startswith(("out", "file"))]
    for path in ("out/secret", "file"):
        request = pb.DownloadFileRequest(parent=parent, artifact=output, path=path)
        assert await refused(client.DownloadFile(request)) is CODE.NOT_FOUND
    checkpoints = await client.ListCheckpoints(pb.ListCheckpointsRequest(parent=parent))
    assert checkpoint.name not in [c.id for c in checkpoints.checkpoints]
    artifact = pb.Artifact(checkpoint=checkpoint.name)
    request = pb.DownloadFileRequest(parent=parent, artifact=artifact, path="secret")
    assert await refused(client.DownloadFile(request)) is CODE.NOT_FOUND
    logs = [answer.text async for answer in client.StreamLogs(pb.StreamLogsRequest(name=parent))]
    assert SECRET not in "".join(logs)


async def test_pipes_in_the_place_of_files_hang_nothing(world: World, paths: JobPaths) -> None:
    checkpoint = paths.checkpoints / "step-0000000007.g000001"
    checkpoint.mkdir(parents=True)
    paths.fences.mkdir(parents=True, exist_ok=True)
    paths.output.mkdir(parents=True, exist_ok=True)
    for pipe in (
        checkpoint / "manifest.json",
        paths.fences / "g000009.json",
        paths.records / "g000009.jsonl",
        paths.output / "pipe",
    ):
        os.mkfifo(pipe)
    client, parent = world.client, job_name("mine")
    await client.ListCheckpoints(pb.ListCheckpointsRequest(parent=parent))
    request = pb.DownloadFileRequest(parent=parent, artifact=pb.Artifact(output=True), path="pipe")
    assert await refused(client.DownloadFile(request)) is CODE.NOT_FOUND
    watch = client.WatchTrainingJob(pb.WatchTrainingJobRequest(name=parent))
    assert [event async for event in watch]


async def test_another_job_of_the_name_does_not_inherit(folder: Path) -> None:
    """What lies below a name is a job's by its uid; the next one of that name begins empty."""
    async with served(folder) as world:
        await trained(world, "mine")
        first = await world.job("mine")
        await world.client.DeleteTrainingJob(pb.DeleteTrainingJobRequest(name=job_name("mine")))
        paths = JobPaths(world.root, first.key.namespace, first.key.name, first.uid)
        paths.output.mkdir(parents=True, exist_ok=True)
        (paths.output / "late").write_text(SECRET)
        world.cluster.finish_deletions()

        async def gone() -> bool:
            return first.key not in await world.store.keys()

        await until(gone)
        await world.submit("mine")
        request = pb.ListFilesRequest(parent=job_name("mine"), artifact=pb.Artifact(output=True))
        assert not (await world.client.ListFiles(request)).files
