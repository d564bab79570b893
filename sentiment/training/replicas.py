"""Replicas of a model, one in each process, which learn from the mean of their gradients."""

import contextlib
import os
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from sentiment.training.processes import Processes

ONE_MESSAGE = 1 << 20
"""Megabytes of gradients, at most, that go together: all of them."""
LINE = 16
"""Numbers of a line of the cache, which two processes do not write at once."""


def replicate(model: nn.Module, processes: Processes) -> DistributedDataParallel:
    """What wraps this process's model, so that all compute one gradient.

    Those of one machine average it in memory that they share, where there are no GPUs to do so:
    Gloo, which else sends it, takes several times as long (docs/performance.md).
    """
    on_cpu = all(parameter.is_cpu for parameter in model.parameters())
    size = sum(parameter.numel() for parameter in model.parameters())
    shared = SharedMean.among(processes, size) if on_cpu else None
    learner = DistributedDataParallel(
        model, bucket_cap_mb=shared and ONE_MESSAGE, gradient_as_bucket_view=True
    )
    # Buffers, the tables of n-grams above all, never change, and are many megabytes. The
    # argument of this name is deprecated since torch 2.13, its successor unknown before.
    learner.broadcast_buffers = False
    if shared is not None:
        learner.register_comm_hook(None, shared.hook)
    return learner


class SharedMean:
    """The mean of a tensor of each process of a machine, in memory that all of them have.

    Each averages its own part of the numbers: it takes what the others give of that part, and
    leaves them the mean. So all get the same bytes.

    Args:
        processes: all that take part.
        memory: float32 `[room(...)]`, zeros at first, the same for all processes.
        pids: process numbers, by rank.
    """

    def __init__(self, processes: Processes, memory: Tensor, pids: list[int]) -> None:
        self._rank, self._count, self._pids = processes.rank, processes.count, pids
        arrived, numbers = memory[: self._count * LINE], memory[self._count * LINE :]
        self._arrived_P = arrived.view(torch.int64).view(self._count, -1)[:, 0].numpy()
        *self._given_PN, self._mean_N = numbers.view(self._count + 1, -1)

    @staticmethod
    def room(count: int, size: int) -> int:
        """How many numbers of memory so many processes need for tensors of at most this size."""
        return count * LINE + (count + 1) * -(-size // LINE) * LINE

    @classmethod
    def among(cls, processes: Processes, size: int) -> "SharedMean | None":
        """Share memory, if this is one machine that has such; every process has to ask at once.

        Args:
            processes: all that take part.
            size: how many numbers a tensor has at most.
        """
        if int(os.environ.get("LOCAL_WORLD_SIZE", "0")) != processes.count:
            return None
        opened, memory = None, None
        with contextlib.suppress(AttributeError, OSError):
            opened = os.memfd_create("gradients") if processes.is_first else None
        pids = [int(pid) for pid in processes.gather(torch.tensor(os.getpid()))]
        path = f"/proc/{pids[0]}/fd/{processes.from_first(opened)}"
        with contextlib.suppress(RuntimeError):
            memory = torch.from_file(path, shared=True, size=cls.room(processes.count, size))
        lacking = any(processes.ask(memory is None)())
        if opened is not None:
            os.close(opened)
        return None if memory is None or lacking else cls(processes, memory, pids)

    def average(self, numbers_N: Tensor) -> None:
        """Replace a float32 tensor by the mean of everyone's.

        Raises:
            RuntimeError: another process has ended.
        """
        own, mean, *given = (
            whole_N[: len(numbers_N)].tensor_split(self._count)
            for whole_N in (numbers_N, self._mean_N, *self._given_PN)
        )
        mine, others = self._rank, [rank for rank in range(self._count) if rank != self._rank]
        for rank in others:
            given[mine][rank].copy_(own[rank])
        self._meet()
        for rank in others:
            own[mine].add_(given[rank][mine])
        mean[mine].copy_(own[mine].div_(self._count))
        self._meet()
        for rank in others:
            own[rank].copy_(mean[rank])

    def hook(self, _: None, bucket: dist.GradBucket) -> Future[Tensor]:  # type: ignore[name-defined]
        """What DistributedDataParallel calls when gradients are there."""
        self.average(bucket.buffer())
        done: Future[Tensor] = Future()
        done.set_result(bucket.buffer())
        return done

    def _meet(self) -> None:
        """Wait until all have come here as often as this process."""
        self._arrived_P[self._rank] += 1
        began = time.monotonic()
        while self._arrived_P.min() < self._arrived_P[self._rank]:
            waited = time.monotonic() - began
            if waited < 0.01:
                os.sched_yield()
            else:
                time.sleep(0.001)
            if waited > 1:
                self._miss_nobody()

    def _miss_nobody(self) -> None:
        for rank, pid in enumerate(self._pids):
            try:
                os.kill(pid, 0)
            except ProcessLookupError as error:
                raise RuntimeError(f"process {rank} of {self._count} has ended") from error
