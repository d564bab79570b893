"""Progress of long loops: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 30


def progress(items: Sequence[Item], description: str, skip: int = 0) -> Iterator[Item]:
    """Yield the items, but for the first `skip`, and show how far they are."""
    if sys.stderr.isatty():
        rest, total = items[skip:], len(items)
        yield from tqdm(rest, desc=description, total=total, initial=skip, leave=False)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items[skip:], start=skip):
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            log.info("%s: %d of %d, %.0f s", description, done, len(items), now - started)
        yield item


@contextmanager
def byte_progress(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """Give a function that is told how many bytes of how many are there, and shows it.

    Nothing is shown where it is never called.
    """
    last = time.monotonic()

    def log_line(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            of_total = "" if total is None else f" of {total / 1e6:.0f}"
            log.info("%s: %.0f%s MB", description, done / 1e6, of_total)

    if not sys.stderr.isatty():
        yield log_line
        return
    with tqdm(desc=description, unit="B", unit_scale=True, leave=False, delay=0.1) as bar:

        def move_bar(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move_bar
