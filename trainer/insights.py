"""What TensorBoard shows of a training besides its curves: the model's graph, some pictures, and
how its weights are distributed. Written by the chief, below tensorboard/model.

What it writes is what tf.summary.image and tf.summary.histogram would write; those need
TensorBoard itself, which need not be where training is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from trainer import snapshot
from trainer.learner import Learner
from trainer.progress import Curves
from trainer.task import ImageInput

RUN = "model"
# Entries of a checkpoint that are the model's own variables, as trainer.learner names them.
_WEIGHTS = "model/"
_BINS = 30
# Of a large variable evenly spread values are counted, which shows the same.
_MOST_VALUES = 1 << 20
# 2 is DATA_CLASS_TENSOR, 3 is DATA_CLASS_BLOB_SEQUENCE.
_HISTOGRAM = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="histograms"), data_class=2
)
_PICTURES = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="images"), data_class=3
)


def examples(curves: Curves, learner: Learner) -> None:
    """Show some of what is trained on, where that is pictures."""
    if learner.front is None and isinstance(learner.task.inputs, ImageInput):
        curves.put(RUN, 0, {"examples": _pictures(learner.sample)}, _PICTURES)
        curves.flush()


def graph(curves: Curves, found: Any) -> None:
    """Show the graph by which the model answers."""
    curves.graph(RUN, found)
    curves.flush()


def _pictures(features: Any) -> Any:
    """Return size and PNG files of pictures with values 0..255."""
    height, width, channels = features.shape[1:]
    if channels == 2:
        # PNG would take the second one for how opaque a point is.
        features = features[..., :1]
    pixels = tf.cast(tf.clip_by_value(features, 0, 255), tf.uint8)
    return tf.stack([str(width), str(height), *(tf.io.encode_png(one) for one in pixels)])


def weights(curves: Curves, checkpoint: Path, step: int) -> None:
    """Show how the model's weights in a checkpoint's folder are distributed."""
    with curves.harmless():
        reader = tf.train.load_checkpoint(str(checkpoint / snapshot.PREFIX))
        found = {
            name: _histogram(reader.get_tensor(name))
            for name, dtype in sorted(reader.get_variable_to_dtype_map().items())
            if name.startswith(_WEIGHTS) and dtype.is_floating
        }
        curves.put(RUN, step, found, _HISTOGRAM)
        curves.flush()


def _histogram(values: Any) -> Any:
    """Return rows of left edge, right edge and count."""
    flat = np.asarray(values, np.float64).reshape(-1)
    flat = flat[:: -(-flat.size // _MOST_VALUES) or 1]
    counts, edges = np.histogram(flat[np.isfinite(flat)], bins=_BINS)
    return np.stack([edges[:-1], edges[1:], counts], axis=1)
