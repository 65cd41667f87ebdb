"""A small residual network for photos, trained from nothing."""

import keras
from keras import layers

# Channels of each stage; every stage halves the picture and has two blocks.
STAGES = (32, 64, 128, 256)


def residual(size: int, classes: int) -> keras.Model:
    """Return a network for float32[size, size, 3] in -1..1 with one logit a class."""
    photos = keras.Input((size, size, 3))
    x = _convolve(photos, STAGES[0], stride=2)
    x = layers.ReLU()(x)
    for channels in STAGES:
        x = _block(x, channels, stride=2)
        x = _block(x, channels, stride=1)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(photos, layers.Dense(classes)(x))


def _block(x: keras.KerasTensor, channels: int, stride: int) -> keras.KerasTensor:
    """Two convolutions, and their input added to what comes out."""
    shortcut = x
    if stride != 1 or x.shape[-1] != channels:
        pooled = layers.AveragePooling2D(stride, padding="same")(x)
        shortcut = _convolve(pooled, channels, kernel=1)
    x = layers.ReLU()(_convolve(x, channels, stride=stride))
    # The block begins as its shortcut: deep networks learn faster from there.
    x = _convolve(x, channels, first_scale="zeros")
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _convolve(
    x: keras.KerasTensor,
    channels: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    first_scale: str = "ones",
) -> keras.KerasTensor:
    x = layers.Conv2D(
        channels, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal"
    )(x)
    return layers.BatchNormalization(momentum=0.9, gamma_initializer=first_scale)(x)
