"""What the images hold: all of it locked and hashed, under a licence that is known."""

from __future__ import annotations

from importlib import metadata

import pytest

from tools import sbom


@pytest.mark.parametrize("image", sbom.IMAGES)
def test_everything_in_an_image_is_locked_and_has_a_licence(image: str) -> None:
    document = sbom.document(image)
    for component in document["components"]:
        name = component["name"]
        assert component["version"] == metadata.version(name)
        assert component["properties"], f"{name} is locked without a hash"
        ((licence),) = component["licenses"]
        assert licence["license"]["name"], f"{name} does not say its licence"
    names = {component["name"] for component in document["components"]}
    assert {"grpcio", "protobuf"} <= names
    assert ("tensorflow-cpu" in names) is (image != "controller")
