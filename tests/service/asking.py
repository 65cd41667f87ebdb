"""Asks models that are served, as programs do: curl, and a stock client of TensorFlow Serving."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2


def curl(url: str, body: Any = None) -> Any:
    """Return what an HTTP server says, by curl. Raises CalledProcessError if none does."""
    data = [] if body is None else ["--data", json.dumps(body)]
    done = subprocess.run(["curl", "-sS", url, *data], capture_output=True, check=True)
    return json.loads(done.stdout)


def available(url: str) -> list[int]:
    """Return the versions of a model that can be asked; `url` is that of the model."""
    versions = curl(url).get("model_version_status", ())
    return [int(v["version"]) for v in versions if v["state"] == "AVAILABLE"]


def question(name: str, **inputs: Any) -> Any:
    """Return a question as clients of TensorFlow Serving make it."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request
