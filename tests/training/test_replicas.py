import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sentiment.training.processes import Processes
from sentiment.training.replicas import SharedMean
from tests.cli.test_processes import run_several


def members(count: int, size: int, pids: list[int] | None = None) -> list[SharedMean]:
    """As many as processes would have, in this one."""
    memory = torch.zeros(SharedMean.room(count, size))
    pids = pids or [os.getpid()] * count
    return [SharedMean(Processes(rank, count), memory, pids) for rank in range(count)]


def at_once(work: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(each) for each in work]:
            done.result()


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(2, 4),
    sizes=st.lists(st.integers(1, 64), min_size=1, max_size=8),
    seed=st.integers(0, 2**31),
)
def test_all_have_the_mean_of_all(count: int, sizes: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    tensors_SPN = [torch.randn(count, size) for size in sizes]
    means = [tensor_PN.double().mean(0) for tensor_PN in tensors_SPN]

    def average_all(member: SharedMean, rank: int) -> None:
        # Without a wait in between: nobody may overwrite what another has yet to read.
        for tensor_PN in tensors_SPN:
            member.average(tensor_PN[rank])

    at_once([partial(average_all, each, rank) for rank, each in enumerate(members(count, 64))])
    for tensor_PN, mean_N in zip(tensors_SPN, means, strict=True):
        assert (tensor_PN == tensor_PN[0]).all()
        torch.testing.assert_close(tensor_PN[0].double(), mean_N, atol=1e-6, rtol=0)


def test_what_is_no_number_in_one_is_none_in_all() -> None:
    tensors: list[Tensor] = [torch.tensor([1.0, torch.nan, 3.0]), torch.ones(3)]
    first, second = members(2, 3)
    at_once([lambda: first.average(tensors[0]), lambda: second.average(tensors[1])])
    for tensor in tensors:
        assert tensor.isnan().tolist() == [False, True, False]


def test_nobody_waits_for_one_that_has_ended() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    first, _ = members(2, 3, [os.getpid(), ended.pid])
    with pytest.raises(RuntimeError, match="process 1 of 2 has ended"):
        first.average(torch.ones(3))


@pytest.mark.slow
def test_where_memory_cannot_be_shared_gradients_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trains.py").write_text(
        """
import os
import torch
from sentiment.training.processes import joined
from sentiment.training.replicas import SharedMean, replicate

with joined() as processes:
    shares = [SharedMean.among(processes, 9) is not None]
    os.environ["LOCAL_WORLD_SIZE"] = "1"  # one process each of two machines
    shares.append(SharedMean.among(processes, 9) is not None)
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    if processes.is_first:
        del os.memfd_create
    shares.append(SharedMean.among(processes, 9) is not None)
    assert shares == [True, False, False], shares

    model = torch.nn.Linear(2, 1)
    learner = replicate(model, processes)
    learner(torch.full((1, 2), processes.rank + 1.0)).sum().backward()
    assert model.weight.grad.tolist() == [[1.5, 1.5]], model.weight.grad
"""
    )
    done = run_several(2, "trains.py")
    assert done.returncode == 0, done.stderr
