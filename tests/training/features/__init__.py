"""What a program can do with Keras' fit, each as a small program that runs alone and in a group.

Each feature builds under a scope, trains, and returns what it found: history, weights,
predictions and the like. Whatever the number of workers, the findings must be the same. Nothing
here knows of workers.
"""

from tests.training.features import callbacks, data, execution, losses, models, optimizers
from tests.training.features.base import FEATURES

__all__ = ["FEATURES", "callbacks", "data", "execution", "losses", "models", "optimizers"]
