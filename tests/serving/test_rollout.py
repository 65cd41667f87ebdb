"""New versions, and the end: no question is lost."""

from __future__ import annotations

import asyncio
import functools
import shutil
from dataclasses import replace

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.taas.v1 import prediction_pb2 as wire
from serving.server import Settings
from tests.serving.models import Models, put
from tests.serving.test_rpc import question
from tests.serving.world import BOUND_S, World, happened, running, until


async def test_steady_questions_see_each_version_take_over_and_none_fails(world: World) -> None:
    clients = [asyncio.create_task(_ask_until(world, 4.0, door)) for door in ("http", "grpc") * 2]
    for version, factor in ((2, "3"), (3, "4")):
        put(world.settings.base, "m", version, factor)
        await until(functools.partial(_serves, world, {str(version): "AVAILABLE"}))
    for seen in await asyncio.gather(*clients):
        # Nobody goes back to an older version.
        assert seen == sorted(seen)
        assert set(seen) <= {2.0, 3.0, 4.0}


async def _ask_until(world: World, wanted: float, door: str) -> list[float]:
    """Ask about 1, and again, until the answer is `wanted`; return all answers."""
    seen = [0.0]
    while seen[-1] != wanted:
        if door == "grpc":
            answer = await world.call("Predict", question([[1, 1]]), wire.PredictResponse)
            seen.append(answer.outputs["values"].float_val[0])
        else:
            status, body = await world.predict(1)
            assert status == 200, body
            seen.append(body["predictions"][0][0])
    return seen[1:]


async def _serves(world: World, states: dict[str, str], name: str = "m") -> bool:
    return await world.states(name) == states


async def test_an_old_version_answers_what_it_was_asked_and_then_goes(world: World) -> None:
    world.models.go.clear()
    asked = asyncio.create_task(world.predict(1))
    await happened(world.models.waiting)
    put(world.settings.base, "m", 2, "3")
    await until(lambda: _serves(world, {"2": "AVAILABLE", "1": "UNLOADING"}))
    # Whoever asks for it by name is told that it is gone.
    assert (await world.predict(1, "/v1/models/m/versions/1"))[0] == 404
    world.models.go.set()
    assert await asked == (200, {"predictions": [[2.0, 2.0]]})
    await until(lambda: _serves(world, {"2": "AVAILABLE"}))
    assert await world.predict(1) == (200, {"predictions": [[3.0, 3.0]]})


async def test_a_version_that_cannot_be_loaded_changes_nothing(world: World) -> None:
    put(world.settings.base, "m", 2, "damaged")
    await until(lambda: _serves(world, {"2": "END", "1": "AVAILABLE"}))
    assert (await world.predict(1))[0] == 200
    shutil.rmtree(world.settings.base / "m" / "2")
    await until(lambda: _serves(world, {"1": "AVAILABLE"}))
    # Under the same number, but sound.
    put(world.settings.base, "m", 2, "5")
    await until(lambda: _serves(world, {"2": "AVAILABLE"}))


async def test_back_to_an_older_version_and_no_version_at_all(world: World) -> None:
    base = world.settings.base
    put(base, "m", 2, "3")
    await until(lambda: _serves(world, {"2": "AVAILABLE"}))
    shutil.rmtree(base / "m" / "2")
    await until(lambda: _serves(world, {"1": "AVAILABLE"}))
    # A folder that is being filled anew takes nothing away; one that is gone does.
    shutil.rmtree(base / "m" / "1")
    assert (await world.predict(1))[0] == 200
    (base / "m").rmdir()
    await until(lambda: _serves(world, {}))
    assert (await world.predict(1))[0] == 404


async def test_several_models_and_several_versions(settings: Settings) -> None:
    put(settings.base, "m", 2, "3")
    put(settings.base, "other", 7, "5")
    (settings.base / "m" / "not-a-version").mkdir()
    (settings.base / "m" / "3").mkdir()
    async with running(replace(settings, keep=2), Models()) as world:
        await until(lambda: _serves(world, {"7": "AVAILABLE"}, "other"))
        await until(lambda: _serves(world, {"2": "AVAILABLE", "1": "AVAILABLE"}))
        assert (await world.predict(1))[1] == {"predictions": [[3.0, 3.0]]}
        older = await world.predict(1, "/v1/models/m/versions/1")
        assert older[1] == {"predictions": [[2.0, 2.0]]}
        assert (await world.predict(1, "/v1/models/other"))[1] == {"predictions": [[5.0, 5.0]]}


async def test_what_was_asked_before_the_end_is_answered(settings: Settings) -> None:
    models = Models()
    limits = replace(settings.limits, parallel=2)
    async with (
        asyncio.TaskGroup() as group,
        running(replace(settings, limits=limits), models) as world,
    ):
        await until(lambda: _serves(world, {"1": "AVAILABLE"}))
        models.go.clear()
        asked = group.create_task(world.predict(1))
        called = group.create_task(world.call("Predict", question(), wire.PredictResponse))
        world.asked += [asked, called]
        await until(lambda: _asked(models, 2))
        group.create_task(_let_go_when_closed(world))
    assert (await asked)[0] == 200
    assert (await called).outputs["values"].float_val[:] == [2, 4]


async def _asked(models: Models, number: int) -> bool:
    return len(models.asked) == number


async def _let_go_when_closed(world: World) -> None:
    """Let calls go on as soon as the service takes no more of them."""
    host, _, port = world.addresses.http.rpartition(":")

    async def closed() -> bool:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    await until(closed)
    world.models.go.set()


async def test_before_the_end_it_says_so_and_still_answers(settings: Settings) -> None:
    """Whoever spreads requests is given time to notice."""
    noticed = asyncio.Event()
    long = replace(settings, drain_s=BOUND_S)
    async with asyncio.TaskGroup() as group:
        async with running(long, Models(), noticed) as world:
            await until(lambda: _ready_is(world, 200))
            group.create_task(_notice(world, noticed))
        assert noticed.is_set()


async def _notice(world: World, noticed: asyncio.Event) -> None:
    await until(lambda: _ready_is(world, 503))
    health = health_pb2_grpc.HealthStub(world.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await world.predict(1))[0] == 200
    noticed.set()


async def _ready_is(world: World, status: int) -> bool:
    return (await world.http("GET", "/readyz"))[0] == status


async def test_it_is_not_ready_before_a_model_is(settings: Settings) -> None:
    shutil.rmtree(settings.base / "m")
    async with running(settings, Models()) as world:
        assert await _ready_is(world, 503)
        health = health_pb2_grpc.HealthStub(world.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        put(settings.base, "m", 1, "2")
        await until(lambda: _ready_is(world, 200))
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_port_that_is_taken_is_told(world: World) -> None:
    port = int(world.addresses.http.rpartition(":")[2])
    for taken in ({"http_port": port}, {"grpc_port": port}):
        with pytest.raises(OSError, match=str(port)):
            async with running(replace(world.settings, **taken), Models()):
                pass
