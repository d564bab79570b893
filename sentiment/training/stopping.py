"""SIGTERM and Ctrl-C, heard between two steps of the training loop."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn, Self

from sentiment.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO = 5.0
"""Seconds in which a SIGTERM that is passed on comes after the one that it repeats."""


class StopSignals:
    """Notes a first signal while the context lasts; the same again stops the process at once.

    A signal of another kind is no second one: who launches several processes may pass Ctrl-C on
    to them, and send SIGTERM after it. Nor is the same SIGTERM: a scheduler sends it to every
    process of a job, and `torchrun`, which is one of them, sends it on to those it has started.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._passed_on, self._terminated = "TORCHELASTIC_RUN_ID" in os.environ, 0.0
        self._immediately = False

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._received is not None

    def stop(self) -> NoReturn:
        """Stop here.

        Raises:
            Interrupted: always; by SIGTERM where only another process was told.
        """
        raise Interrupted(self._received or signal.SIGTERM)

    @contextmanager
    def immediately(self) -> Iterator[None]:
        """Within this context a signal interrupts whatever is going on."""
        self._immediately = True
        try:
            if self.requested:
                self.stop()
            yield
        finally:
            self._immediately = False

    def _note(self, number: int, _: FrameType | None) -> None:
        self._received = self._received or number
        if number == signal.SIGTERM and self._passed_on:
            self._terminated = self._terminated or time.monotonic()
            if time.monotonic() > self._terminated + ECHO:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
        else:
            signal.signal(number, signal.SIG_DFL)
        if self._immediately:
            self.stop()
