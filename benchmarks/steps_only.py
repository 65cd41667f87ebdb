"""The demo's training without its looks at held-out digits: nothing but steps to be timed.

Both sides of `service_overhead` load this; `lenet5` is the demo's task module, laid beside it.
"""

import dataclasses

import lenet5

from trainer.task import Task


def task(params: lenet5.LeNet5) -> Task:
    """Return the demo's task, steps only."""
    return dataclasses.replace(lenet5.task(params), validation=None, test=None)
