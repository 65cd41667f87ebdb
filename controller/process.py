"""What the controller asks of its own process."""

from __future__ import annotations

import gc
import resource

# The defaults look through all that lives whenever some tens of thousands of objects have been
# added. With thousands of jobs and agents that takes a fifth of a second, in which nobody is
# served, and finds next to nothing: what the controller drops is freed at once, but for the
# cycles of calls that failed, which are young when they are dropped.
_COLLECT_AFTER = (10_000, 20, 10)


def prepare() -> None:
    """Make ready for thousands of jobs and connections."""
    # Each connection needs a file descriptor, and the usual thousand is soon used up.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.set_threshold(*_COLLECT_AFTER)
