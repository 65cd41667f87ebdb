"""The REST interface of TensorFlow Serving, over real HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving.models import put
from tests.serving.world import World, until

M = "/v1/models/m"


async def test_predict_by_rows_and_by_columns(world: World) -> None:
    by_rows = {"signature_name": "serving_default", "instances": [[1, 2], [3, 4]]}
    assert await world.http("POST", f"{M}:predict", by_rows) == (
        200,
        {"predictions": [[2.0, 4.0], [6.0, 8.0]]},
    )
    by_columns = {"inputs": {"rows": [[1, 2]]}}
    assert await world.http("POST", f"{M}/versions/1:predict", by_columns) == (
        200,
        {"outputs": [[2.0, 4.0]]},
    )


async def test_bytes_both_ways(world: World) -> None:
    body = {"signature_name": "measure", "instances": [{"b64": "AP8="}, {"texts": "abc"}]}
    assert await world.http("POST", f"{M}:predict", body) == (
        200,
        {
            "predictions": [
                {"lengths": 2, "texts_bytes": {"b64": "AP8="}},
                {"lengths": 3, "texts_bytes": {"b64": "YWJj"}},
            ]
        },
    )


async def test_a_signature_that_takes_one_thing_at_a_time(world: World) -> None:
    body = {"signature_name": "whole", "inputs": [1, 2, 3]}
    assert await world.http("POST", f"{M}:predict", body) == (200, {"outputs": 6.0})


async def test_status(world: World) -> None:
    wanted = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in (M, f"{M}/versions/1"):
        assert await world.http("GET", path) == (200, {"model_version_status": [wanted]})


async def test_the_status_of_what_cannot_be_loaded_says_why(world: World) -> None:
    put(world.settings.base, "bad", 1, "damaged")
    put(world.settings.base, "bad", 2, "strange")

    async def failed() -> bool:
        return await world.states("bad") == {"2": "END", "1": "END"}

    await until(failed)
    _, body = await world.http("GET", "/v1/models/bad/versions/1")
    status = body["model_version_status"][0]["status"]
    assert status["error_code"] == "UNKNOWN"
    assert "is damaged" in status["error_message"]
    assert (await world.predict(1, "/v1/models/bad"))[0] == 404
    # Others are not touched by it.
    assert (await world.predict(1))[0] == 200


async def test_metadata(world: World) -> None:
    status, body = await world.http("GET", f"{M}/metadata")
    assert status == 200
    assert body["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    found = body["metadata"]["signature_def"]["signature_def"]
    assert sorted(found) == ["measure", "serving_default", "whole"]
    assert found["serving_default"]["inputs"] == {
        "rows": {
            "dtype": "DT_FLOAT",
            "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
                "unknown_rank": False,
            },
            "name": "rows:0",
        }
    }
    assert found["serving_default"]["method_name"] == "tensorflow/serving/predict"


ROWS = {"instances": [[1, 2]]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        pytest.param("POST", "/v1/models/x:predict", ROWS, 404, 'Latest(x); the models are: "m"'),
        pytest.param("POST", f"{M}/versions/9:predict", ROWS, 404, "Specific(m, 9); its versions"),
        pytest.param("GET", "/v1/models/x", None, 404, "Servable not found for request"),
        pytest.param("GET", f"{M}/versions/9", None, 404, "Specific(m, 9)"),
        pytest.param("GET", f"{M}/versions/9/metadata", None, 404, "Specific(m, 9)"),
        pytest.param("POST", f"{M}:predict", b"{", 400, "not JSON"),
        pytest.param(
            "POST", f"{M}:predict", {**ROWS, "signature_name": "z"}, 400, '"z" not found. Version 1'
        ),
        pytest.param(
            "POST",
            f"{M}:predict",
            {"instances": [[1, 2, 3]]},
            400,
            '"rows": float32 (1, 3) does not fit "rows": DT_FLOAT (?, 2)',
        ),
        pytest.param("POST", f"{M}:predict", {"inputs": {}}, 400, "missing ['rows']"),
        pytest.param("POST", f"{M}:predict", b" " * 100_001, 413, "send less at once"),
        pytest.param("POST", f"{M}:classify", {}, 501, ":classify is not served"),
        pytest.param("GET", f"{M}/labels/stable", None, 501, "no labels"),
        pytest.param("GET", f"{M}:predict", None, 400, "Malformed request: GET"),
        pytest.param("POST", M, {}, 400, "Malformed request: POST"),
        pytest.param("GET", "/v1/models/m/versions/x", None, 400, "Malformed request"),
        pytest.param("GET", "/v1/models/..%2f..%2fetc", None, 404, "Servable not found"),
        pytest.param("GET", "/nowhere", None, 404, "/v1/models/NAME"),
    ],
)
async def test_errors(
    world: World, method: str, path: str, body: Any, status: int, told: str
) -> None:
    found, answer = await world.http(method, path, body)
    assert found == status
    assert told in answer["error"]


async def test_a_refusal_of_the_model_is_told(world: World) -> None:
    body = b'{"instances": [[NaN, 1]]}'
    assert await world.http("POST", f"{M}:predict", body) == (
        400,
        {"error": "a row is not a number"},
    )


async def test_it_is_alive(world: World) -> None:
    assert await world.http("GET", "/healthz") == (200, "ok\n")
