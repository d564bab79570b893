"""Several processes that train one model, as `torchrun` starts them.

Every process runs the same pipeline on its share of each batch; the first alone reads the command
line and writes files. Alone, a process shares with nobody, and nothing here costs anything.
"""

import gc
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]
Items = TypeVar("Items", Rows, list[Rows])


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: of this one, from 0.
        count: of all.
    """

    rank: int
    count: int

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, items: Items) -> Items:
        """Every `count`-th item, from `rank` on; none where there are too few."""
        return items[self.rank :: self.count]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of everyone's tensor, in its place."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def ask(self, *flags: bool) -> Callable[[], list[bool]]:
        """For each flag, ask whether it is set anywhere; what is returned waits for the answer."""
        if self.count == 1:
            return lambda: list(flags)
        counts = torch.tensor(flags, dtype=torch.int32)
        asked = dist.all_reduce(counts, async_op=True)

        def answer() -> list[bool]:
            asked.wait()
            return (counts > 0).tolist()

        return answer

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            dist.barrier()

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Everyone's tensor, all of one shape, by rank."""
        if self.count == 1:
            return [tensor]
        tensors = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(tensors, tensor)
        return tensors

    def from_first(self, value: Any) -> Any:
        """What the first process has; the others' values do not matter."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """Let the others find in the cache what the first one has put there."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()


ALONE = Processes(rank=0, count=1)


@contextmanager
def joined() -> Iterator[Processes]:
    """Be one of the processes that `torchrun` has started, or alone where it has not."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    # Gloo's threads end with the last reference to the group; those that outlive it now and then
    # abort the process at its end. `torch.distributed.nn` keeps the group, as the default of
    # arguments, when it is first imported while there is one, as DistributedDataParallel does.
    importlib.import_module("torch.distributed.nn")
    # What leaves by an exception lets `torchrun` end the others, which wait for it.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    yield Processes(dist.get_rank(), count)
    # DistributedDataParallel, which has the group, is part of a cycle.
    gc.collect()
    dist.destroy_process_group()
