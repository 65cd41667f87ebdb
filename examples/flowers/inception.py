"""Inception-v3 with weights that the user names: as it is, or to train on."""

import keras

from trainer import pretrained
from trainer.task import TaskError


def backbone(size: int, weights: str) -> keras.Model:
    """Return Inception-v3 without its last layer: float32[size, size, 3] in -1..1 to float32[2048].

    The file may be one with or without that layer, as Keras publishes both.
    """
    photos = (size, size, 3)
    model = keras.applications.InceptionV3(
        weights=None, include_top=False, pooling="avg", input_shape=photos
    )
    try:
        return pretrained.load_weights(model, weights)
    except TaskError as error:
        whole = keras.applications.InceptionV3(weights=None, input_shape=photos)
        try:
            pretrained.load_weights(whole, weights)
        except TaskError:
            raise error from None
        return keras.Model(whole.input, whole.get_layer("avg_pool").output)


def head(classes: int) -> keras.Model:
    """Return the layer that is put on what the backbone says of a photo."""
    return keras.Sequential([keras.Input((2048,)), keras.layers.Dense(classes)])


def tuned(size: int, weights: str, classes: int) -> keras.Model:
    """Return backbone and head as one model, all of it to be trained."""
    photos = keras.Input((size, size, 3))
    # Not training: batch statistics stay those of the weights, whatever a worker's share is.
    seen = backbone(size, weights)(photos, training=False)
    return keras.Model(photos, keras.layers.Dense(classes)(seen))
