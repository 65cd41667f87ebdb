"""Say what an exported model is worth on MNIST's test set. Needs TensorFlow and NumPy only.

python evaluate.py MODEL_FOLDER
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

DATA = Path(__file__).parents[1] / "mnist_lenet5" / "data"
BLOCK = 1000


def test_set() -> tuple[np.ndarray, np.ndarray]:
    """Return 10,000 pictures uint8[28, 28, 1] and their classes."""
    pictures = gzip.decompress((DATA / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((DATA / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    return (
        np.frombuffer(pictures, np.uint8).reshape(-1, 28, 28, 1),
        np.frombuffer(labels, np.uint8),
    )


def accuracy(model_folder: str) -> float:
    """Return the share of the test set that the model reads right."""
    ask = tf.saved_model.load(model_folder).signatures["tensor"]
    pictures, labels = test_set()
    right = 0
    for start in range(0, len(pictures), BLOCK):
        said = ask(features=tf.constant(pictures[start : start + BLOCK]))
        best = said["probabilities"].numpy().argmax(axis=1)
        right += int((best == labels[start : start + BLOCK]).sum())
    return right / len(labels)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python evaluate.py MODEL_FOLDER")
    print(f"test accuracy {accuracy(sys.argv[1]):.4f}")
