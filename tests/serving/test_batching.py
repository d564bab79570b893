import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from sentiment.serving.batching import Batcher, OverloadError


class Upper:
    """Computes capitals, when it is told to, and notes what it was given together."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.go = threading.Event()

    def __call__(self, texts: Sequence[str]) -> list[str]:
        self.calls.append(list(texts))
        self.go.wait(10)
        if "bad" in texts:
            raise ValueError("bad")
        return [text.upper() for text in texts]


def test_what_waits_together_is_computed_together_and_answered_apart() -> None:
    compute = Upper()

    async def ask() -> list[list[str]]:
        with ThreadPoolExecutor(1) as worker:
            batcher = Batcher(compute, worker, batch_size=6, capacity=100)
            first = asyncio.create_task(batcher(["a"]))
            while not compute.calls:
                await asyncio.sleep(0.001)
            rest = [batcher(texts) for texts in (["b", "c"], ["d"], ["e"], ["long enough"], ["f"])]
            waiting = asyncio.gather(first, *rest)
            await asyncio.sleep(0.01)
            compute.go.set()
            return await waiting

    answers = asyncio.run(ask())
    assert answers == [["A"], ["B", "C"], ["D"], ["E"], ["LONG ENOUGH"], ["F"]]
    # Two characters each with the end of the text; what is too large for a call is one of its own.
    assert compute.calls == [["a"], ["b", "c", "d"], ["e"], ["long enough"], ["f"]]


def test_more_than_may_wait_is_refused_until_there_is_room() -> None:
    compute = Upper()

    async def ask() -> None:
        with ThreadPoolExecutor(1) as worker:
            batcher = Batcher(compute, worker, batch_size=100, capacity=10)
            first = asyncio.create_task(batcher(["a"]))
            while not compute.calls:
                await asyncio.sleep(0.001)
            second = asyncio.create_task(batcher(["12345678"]))
            await asyncio.sleep(0)
            with pytest.raises(OverloadError):
                await batcher(["b"])
            compute.go.set()
            await first
            await second
            assert await batcher(["123456789"]) == ["123456789"]

    asyncio.run(ask())


def test_a_call_that_fails_is_over_for_those_in_it_alone() -> None:
    compute = Upper()
    compute.go.set()

    async def ask() -> None:
        with ThreadPoolExecutor(1) as worker:
            batcher = Batcher(compute, worker, batch_size=1, capacity=100)
            bad, good = await asyncio.gather(
                batcher(["bad"]), batcher(["good"]), return_exceptions=True
            )
            assert isinstance(bad, ValueError)
            assert good == ["GOOD"]

    asyncio.run(ask())
