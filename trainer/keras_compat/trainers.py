"""Mends Keras' trainer for models under a strategy that divides batches over replicas."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer.keras_compat import data, group, shares, steps
from trainer.steady import steady


def mend(trainer: Any, epoch_iterator: Any) -> None:
    """Mend Keras' classes TensorFlowTrainer and TFEpochIterator."""
    _mend_iterator(trainer.TFEpochIterator, epoch_iterator.EpochIterator)
    _mend_model(trainer.TensorFlowTrainer)


def _mend_iterator(iterator: Any, base: Any) -> None:
    def mended(self: Any, distribute_strategy: Any = None, *args: Any, **kwargs: Any) -> None:
        divided = shares.divided(distribute_strategy)
        if divided:
            group.share_randomness(distribute_strategy)
        base.__init__(self, *args, **kwargs)
        self._distribute_strategy = distribute_strategy
        dataset = self.data_adapter.get_tf_dataset()
        if isinstance(dataset, tf.data.Dataset):
            dataset = steady(dataset)
        if divided:
            dataset = data.divide(dataset, distribute_strategy)
        elif not isinstance(dataset, tf.distribute.DistributedDataset):
            dataset = distribute_strategy.experimental_distribute_dataset(dataset)
        self._distributed_dataset = dataset

    iterator.__init__ = mended


def _mend_model(model: Any) -> None:
    symbolic_build = model._maybe_symbolic_build
    make_function = model._make_function
    make_predict_function = model.make_predict_function
    results_or_logs = model._get_metrics_result_or_logs

    def mended_build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        if not shares.divided(self.distribute_strategy):
            symbolic_build(self, iterator, data_batch)
            return
        if iterator is not None:
            # The structure says all that is needed, and no batch is lost to a generator.
            data_batch = data.specification(iterator._distributed_dataset)
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    def mended_function(self: Any, step: steps.Function) -> steps.Function:
        if not shares.divided(self.distribute_strategy):
            made: steps.Function = make_function(self, step)
            return made
        return steps.make_function(self, step)

    def mended_predict(self: Any, force: bool = False) -> Any:
        if not shares.divided(self.distribute_strategy):
            return make_predict_function(self, force)
        if self.predict_function is None or force:
            self.predict_function = steps.make_predict_function(self)
        return self.predict_function

    def mended_results(self: Any, logs: Any) -> Any:
        if not logs or not shares.divided(self.distribute_strategy):
            return results_or_logs(self, logs)
        # The end of an epoch or of an evaluation. The logs are the group's already.
        group.average_statistics(self)
        return logs

    model._maybe_symbolic_build = mended_build
    model._make_function = mended_function
    model.make_predict_function = mended_predict
    model._get_metrics_result_or_logs = mended_results
