"""What the network gets for the features of examples: the one place where pictures are scaled."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer.task import ImageInput, TableInput


def prepare(inputs: ImageInput | TableInput | None, features: Any) -> Any:
    """Return features as the network takes them."""
    if not isinstance(inputs, ImageInput):
        return features
    return tf.cast(features, tf.float32) * inputs.scale + inputs.offset
