"""Marks a pod and all that it starts, in a way that a program does not take off by accident.

The mark is the soft limit of file locks (ulimit -x), which Linux has not enforced since 2.4. It
is inherited by every fork and exec, whatever becomes of the session, the parent, the environment
and the open files, and it can be read of every process of the same user.
"""

from __future__ import annotations

import hashlib
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# RLIMIT_LOCKS, which Python's module does not name.
LOCKS = 10
# A process has one set of limits, so launches in several threads take turns.
_turn = threading.Lock()


@contextmanager
def marking(pod_uid: str) -> Iterator[None]:
    """Within, every process that this one starts belongs to the pod. Raises OSError."""
    with _turn:
        soft, hard = resource.getrlimit(LOCKS)
        try:
            resource.setrlimit(LOCKS, (of(pod_uid), hard))
        except ValueError as error:
            raise OSError(
                f"the hard limit of file locks is {hard}; remove it (ulimit -H -x unlimited)"
            ) from error
        try:
            yield
        finally:
            resource.setrlimit(LOCKS, (soft, hard))


def bears(pid: int, pod_uid: str) -> bool:
    """Say whether a process belongs to the pod. Raises OSError for one that is gone."""
    return resource.prlimit(pid, LOCKS)[0] == of(pod_uid)


def of(pod_uid: str) -> int:
    """Return the mark of a pod, a soft limit of file locks."""
    # 60 bits: any limit up to 2**63 is taken, and no two pods ever meet.
    return int(hashlib.sha256(pod_uid.encode()).hexdigest()[:15], 16)
