import os
import platform
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sentiment.errors import UserError
from sentiment.training import replicas
from sentiment.training.processes import Processes
from sentiment.training.replicas import SharedMean
from tests.cli.test_processes import run_several

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux")


def members(count: int, size: int, alive: list[int] | None = None) -> list[SharedMean]:
    """As many as processes would have, in this one."""
    memory = torch.zeros(SharedMean.room(count, size))
    return [SharedMean(Processes(rank, count), memory, alive or []) for rank in range(count)]


def at_once(work: list[Callable[[], None]]) -> None:
    done = queue.SimpleQueue[BaseException | None]()

    def run(each: Callable[[], None]) -> None:
        try:
            each()
            done.put(None)
        except BaseException as error:
            done.put(error)

    # Who waits for one that has failed waits for ever, but nobody for him.
    for each in work:
        threading.Thread(target=run, args=[each], daemon=True).start()
    for _ in work:
        if (error := done.get(timeout=60)) is not None:
            raise error


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
    # Not even for one that nobody has asked how it ended.
    processes = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)]
    processes += [subprocess.Popen([sys.executable, "-c", ""])]
    alive = [os.pidfd_open(process.pid) for process in processes]
    first, _ = members(2, 3, alive)
    with pytest.raises(UserError, match="process 1 of 2 has ended"):
        first.average(torch.ones(3))
    for process in processes:
        process.kill()
        process.communicate()
    for descriptor in alive:
        os.close(descriptor)


def test_one_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "PATIENCE", 1)
    first, _ = members(2, 3)
    with pytest.raises(UserError, match="process 1 of 2 has not sent its gradient"):
        first.average(torch.ones(3))


def run_script(folder: Path, count: int, code: str) -> None:
    (folder / "trains.py").write_text(code)
    done = run_several(count, str(folder / "trains.py"))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="not shared")
def test_processes_of_one_machine_share_the_mean_of_their_gradients(tmp_path: Path) -> None:
    run_script(
        tmp_path,
        3,
        """
import torch
from sentiment.training.processes import joined
from sentiment.training.replicas import replicate

with joined() as processes:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Linear(5, 1))
    model[0].bias.requires_grad_(False)
    learner = replicate(model, processes)
    (hook, _), = learner._comm_hooks
    assert hook.__name__ == "hook", hook
    for step in range(4):
        inputs = torch.randn(3, 7)
        alone = torch.autograd.grad(model(inputs).mean(), [*model.parameters()][::2])
        learner(inputs[processes.rank:][:1]).mean().backward()
        for mean, expected in zip(alone, [*model.parameters()][::2], strict=True):
            torch.testing.assert_close(expected.grad, mean)
            everyone = processes.gather(expected.grad.contiguous())
            assert all(torch.equal(one, expected.grad) for one in everyone)
        model.zero_grad()
""",
    )


@pytest.mark.slow
def test_where_memory_cannot_be_shared_gradients_are_sent(tmp_path: Path) -> None:
    run_script(
        tmp_path,
        2,
        """
import os
import torch
from sentiment.training.processes import joined
from sentiment.training.replicas import SharedMean, replicate

with joined() as processes:
    os.environ["LOCAL_WORLD_SIZE"] = "1"  # one process each of two machines
    assert SharedMean.among(processes, 9) is None
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    stat = os.fstat
    os.fstat = lambda file: stat(0 if processes.is_first else file)  # another machine's file
    assert SharedMean.among(processes, 9) is None
    os.fstat = stat
    if processes.is_first and hasattr(os, "memfd_create"):
        del os.memfd_create
    assert SharedMean.among(processes, 9) is None

    model = torch.nn.Linear(2, 1)
    learner = replicate(model, processes)
    learner(torch.full((1, 2), processes.rank + 1.0)).sum().backward()
    assert model.weight.grad.tolist() == [[1.5, 1.5]], model.weight.grad
""",
    )
