"""The wish to stop: turns SIGTERM into a flag that the loop looks at. Stdlib only.

TensorFlow replaces the handler of SIGTERM with its own, which does nothing, as soon as a
strategy is being built. Therefore the signal is blocked in every thread and waited for in one
of its own, which works from the first moment to the last, also while the main thread is deep
inside TensorFlow.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from trainer import contract


class Stop:
    """Whether this process was asked to stop. Create it before TensorFlow starts threads."""

    def __init__(
        self, leaving: Callable[[int], None] = lambda code: None, *, yields: bool = False
    ) -> None:
        """Begin to listen. There is nothing to save yet, so a signal ends the process at once,
        after `leaving` was told the exit code.

        With `yields` a handler that the program has set for the signal gets it instead.
        """
        self._leaving = leaving
        self._yields = yields
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._nothing_to_save = True
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=self._listen, name="stop", daemon=True).start()

    @property
    def requested(self) -> bool:
        """True once the signal has come."""
        return self._event.is_set()

    def guard(self) -> None:
        """From now on a signal sets the flag only: training has begun, the loop must save."""
        # Threads that were there before this object may still take the signal; then Python's
        # handler, installed after TensorFlow's, gets it. A program's own stays.
        if not (self._yields and callable(signal.getsignal(signal.SIGTERM))):
            signal.signal(signal.SIGTERM, self._handle)
        with self._lock:
            self._nothing_to_save = False
            if self.requested:
                self.leave()

    def unguard(self) -> None:
        """From now on there is nothing to save again: a signal ends the process at once."""
        with self._lock:
            self._nothing_to_save = True
            if self.requested:
                self.leave()

    def leave(self) -> NoReturn:
        """End the process now; what had to be saved is."""
        self._leaving(contract.ExitCode.SAVED)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(contract.ExitCode.SAVED)

    def _listen(self) -> None:
        while True:
            signal.sigwait({signal.SIGTERM})
            handler = signal.getsignal(signal.SIGTERM)
            if self._yields and callable(handler) and handler != self._handle:
                # It runs in the main thread, as if the signal had come there.
                _thread.interrupt_main(signal.SIGTERM)
                continue
            with self._lock:
                self._event.set()
                if self._nothing_to_save:
                    self.leave()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._event.set()
