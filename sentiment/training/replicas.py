"""Replicas of a model, one in each process, which learn from the mean of their gradients."""

import contextlib
import itertools
import logging
import os
import platform
import select
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from sentiment.errors import UserError
from sentiment.training.processes import Processes

log = logging.getLogger(__name__)

ALL_AT_ONCE = 1 << 20
"""Megabytes of gradients, at most, that are averaged together."""
LINE = 16
"""Float32 numbers of a line of the cache, which two processes do not write at once."""
PATIENCE = 30 * 60
"""Seconds until a process that lives but does not come is given up, as Gloo does by default."""


def replicate(model: nn.Module, processes: Processes) -> DistributedDataParallel:
    """What wraps this process's model, so that all compute one gradient.

    On CPUs those of one machine average it in memory that they share: to send it by Gloo, as they
    do else, takes longer (docs/performance.md).
    """
    shared, parameters = None, list(model.parameters())
    if all(parameter.is_cpu and parameter.dtype == torch.float32 for parameter in parameters):
        shared = SharedMean.among(processes, sum(parameter.numel() for parameter in parameters))
    learner = DistributedDataParallel(
        model,
        bucket_cap_mb=None if shared is None else ALL_AT_ONCE,
        gradient_as_bucket_view=True,
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
    leaves them the mean. So all get the same bytes. The memory holds a counter for each process,
    in a line of its own, then what each gives, then the mean.

    Args:
        processes: all that take part.
        memory: float32 `[room(...)]`, zeros at first, the same for all processes.
        alive: file descriptors that can be read once a process has ended (pidfd_open(2)), by rank.
    """

    def __init__(self, processes: Processes, memory: Tensor, alive: list[int]) -> None:
        self._rank, self._count, self._alive = processes.rank, processes.count, alive
        arrived, numbers = memory[: self._count * LINE], memory[self._count * LINE :]
        self._arrived_P = arrived.view(torch.int64).view(self._count, -1)[:, 0].numpy()
        *self._given_PN, self._mean_N = numbers.view(self._count + 1, -1)

    @staticmethod
    def room(count: int, size: int) -> int:
        """How many numbers of memory so many processes need for tensors of at most this size."""
        return count * LINE + (count + 1) * -(-size // LINE) * LINE

    @classmethod
    def among(cls, processes: Processes, size: int) -> "SharedMean | None":
        """Share memory, if this is one machine that can; every process has to ask at once.

        Args:
            processes: all that take part.
            size: how many numbers a tensor has at most.
        """
        # `torchrun` says how many of the processes are of this machine.
        if int(os.environ.get("LOCAL_WORLD_SIZE", "0")) != processes.count:
            return None
        room = cls.room(processes.count, size)
        pids = [int(pid) for pid in processes.gather(torch.tensor(os.getpid()))]
        with contextlib.ExitStack() as until_all_have_it:
            created = None
            with contextlib.suppress(AttributeError, OSError):
                if processes.is_first:
                    created = os.memfd_create("gradients")
                    until_all_have_it.callback(os.close, created)
                    os.ftruncate(created, 4 * room)
            path, identity = processes.from_first(
                created and (f"/proc/{pids[0]}/fd/{created}", _identity(created))
            ) or ("", None)
            memory, alive = None, []
            # Other processes see stores in their order on x86 only.
            with contextlib.suppress(AttributeError, OSError, RuntimeError):
                alive = [os.pidfd_open(pid) for pid in pids]
                with open(path, "r+b") as file:
                    if _identity(file.fileno()) == identity and platform.machine() == "x86_64":
                        own = f"/proc/self/fd/{file.fileno()}"
                        memory = torch.from_file(own, shared=True, size=room)
            lacking = any(processes.ask(memory is None)())
            if memory is None or lacking:
                for descriptor in alive:
                    os.close(descriptor)
                log.info("processes of this machine cannot share memory: gradients are sent")
                return None
        return cls(processes, memory, alive)

    def average(self, own_N: Tensor) -> None:
        """Replace a float32 tensor by the mean of everyone's.

        Raises:
            UserError: another process has ended, or does not come.
        """
        ends = [len(own_N) * rank // self._count for rank in range(self._count + 1)]
        parts = [slice(*between) for between in itertools.pairwise(ends)]
        mine, others = self._rank, [rank for rank in range(self._count) if rank != self._rank]
        given_PN, mean_N = self._given_PN, self._mean_N
        for rank in others:
            given_PN[mine][parts[rank]] = own_N[parts[rank]]
        self._meet()
        for rank in others:
            own_N[parts[mine]] += given_PN[rank][parts[mine]]
        own_N[parts[mine]] /= self._count
        mean_N[parts[mine]] = own_N[parts[mine]]
        self._meet()
        for rank in others:
            own_N[parts[rank]] = mean_N[parts[rank]]

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
                self._require_everyone(waited)

    def _require_everyone(self, waited: float) -> None:
        poll = select.poll()
        for descriptor in self._alive:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(0):
            rank = self._alive.index(descriptor)
            raise UserError(
                f"process {rank} of {self._count} has ended; unless it said why, the system may "
                "have stopped it for want of memory; resume=RUN goes on"
            )
        if waited > PATIENCE:
            rank = int(self._arrived_P.argmin())
            raise UserError(
                f"process {rank} of {self._count} has not sent its gradient for {PATIENCE // 60} "
                "minutes, though it has not ended; stop all of them, then resume=RUN goes on"
            )


def _identity(descriptor: int) -> tuple[int, int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size
