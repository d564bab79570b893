"""SIGTERM and Ctrl-C, heard between two steps of the training loop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from sentiment.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Notes the first signal while the context lasts; a second one stops the process at once."""

    def __init__(self) -> None:
        self._received: int | None = None
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

    def check(self) -> None:
        """Stop here if a signal has come.

        Raises:
            Interrupted: one has.
        """
        if self._received is not None:
            raise Interrupted(self._received)

    @contextmanager
    def immediately(self) -> Iterator[None]:
        """Within this context a signal interrupts whatever is going on."""
        self._immediately = True
        try:
            self.check()
            yield
        finally:
            self._immediately = False

    def _note(self, number: int, _: FrameType | None) -> None:
        self._received = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if self._immediately:
            self.check()
