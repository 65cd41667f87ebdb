"""Readers of training data: each opens its files, checks them, and returns Examples."""

from trainer.data.arrays import arrays
from trainer.data.augment import vary_photos
from trainer.data.errors import DataError
from trainer.data.examples import Examples
from trainer.data.idx import idx, mnist
from trainer.data.images import image_folder
from trainer.data.moments import moments
from trainer.data.tables import csv
from trainer.data.tfrecords import tfrecord

__all__ = [
    "DataError",
    "Examples",
    "arrays",
    "csv",
    "idx",
    "image_folder",
    "mnist",
    "moments",
    "tfrecord",
    "vary_photos",
]
