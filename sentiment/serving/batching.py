"""Texts of requests that wait at the same time, computed in one call."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from itertools import chain, islice
from typing import Generic, TypeVar

Answer = TypeVar("Answer")
Request = tuple[Sequence[str], asyncio.Future[list[Answer]]]
"""The texts that belong together, and who waits for their answers."""


class OverloadError(Exception):
    """More work waits than may; ask again later."""


class Batcher(Generic[Answer]):
    """Computes the texts of many requests together, and never in the event loop.

    While the worker computes, requests gather; when it is done, it takes what has gathered. So an
    idle server answers at once, a busy one in large batches, and nothing ever waits for a clock.

    Args:
        compute: from texts to an answer for each.
        worker: where it runs. Several batchers may share one; they take turns.
        batch_size: characters of a call; a request that is larger is a call of its own.
        capacity: characters that may wait.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[str]], Sequence[Answer]],
        worker: Executor,
        batch_size: int,
        capacity: int,
    ) -> None:
        self.compute, self.worker = compute, worker
        self.batch_size, self.capacity = batch_size, capacity
        self._waiting: deque[Request[Answer]] = deque()
        self._waiting_size = 0
        self._draining: asyncio.Task[None] | None = None

    async def __call__(self, texts: Sequence[str]) -> list[Answer]:
        """Answers to the texts of one request, in their order.

        Raises:
            OverloadError: too much is waiting already.
        """
        if self._waiting_size + _size(texts) > self.capacity:
            raise OverloadError
        answers: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append((texts, answers))
        self._waiting_size += _size(texts)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await answers

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            requests = self._take()
            together = list(chain.from_iterable(texts for texts, _ in requests))
            try:
                computed = iter(await loop.run_in_executor(self.worker, self.compute, together))
            except Exception as error:
                for _, answers in requests:
                    if not answers.done():  # as it is when a shutdown does not wait for it
                        answers.set_exception(error)
                continue
            for texts, answers in requests:
                found = list(islice(computed, len(texts)))
                if not answers.done():
                    answers.set_result(found)
        self._draining = None

    def _take(self) -> list[Request[Answer]]:
        """The requests that waited longest and fit into one call, at least one."""
        taken = [self._waiting.popleft()]
        size = _size(taken[0][0])
        while self._waiting and size + _size(self._waiting[0][0]) <= self.batch_size:
            taken.append(self._waiting.popleft())
            size += _size(taken[-1][0])
        self._waiting_size -= size
        return taken


def _size(texts: Sequence[str]) -> int:
    return sum(len(text) + 1 for text in texts)
