"""Progress of long loops: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Collection, Iterator
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 30


def progress(items: Collection[Item], description: str) -> Iterator[Item]:
    """Yield the items and show how far they are."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, leave=False)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            log.info("%s: %d of %d, %.0f s", description, done, len(items), now - started)
        yield item
