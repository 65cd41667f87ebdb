"""The network alone: what training, evaluation and prediction have in common."""

import keras

PIXELS = 28
CLASSES = 10


def build(*, hidden: int, l2: float) -> keras.Model:
    """Return the network: pictures float32[k, 28, 28, 1] in 0..1 to 10 logits each."""

    def dense(units: int, activation: str | None) -> keras.layers.Dense:
        return keras.layers.Dense(
            units,
            activation,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.1),
            # The recipe's penalty is half the sum of the squares.
            kernel_regularizer=keras.regularizers.L2(l2 / 2),
        )

    return keras.Sequential(
        [
            keras.Input((PIXELS, PIXELS, 1)),
            keras.layers.Flatten(),
            dense(hidden, "relu"),
            dense(CLASSES, None),
        ]
    )
