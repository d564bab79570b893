"""Several processes that train one model, as `torchrun` starts them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sentiment import train
from tests.cli.test_configuration import run_door

# No dropout, and float32 where `auto` would take bfloat16: then any number of processes compute the
# same, but for rounding. Batches of 7 give them shares of 4 and 3; the last one is a single review.
SAME_FOR_ALL = (
    *("data=files", "data.train=train.csv", "data.test=test.csv", "tokenizer.min_frequency=1"),
    *("embeddings.dimension=8", "model.hidden_size=8", "runtime.threads=1", "trainer.epochs=2"),
    *("model.dropout=0", "model.embedding_dropout=0", "model.word_dropout=0"),
    *("trainer.batch_size=7", "trainer.log_every=3", "runtime.precision=float32"),
)


def history(run: Path) -> np.ndarray:
    with (run / "history.csv").open() as file:
        return np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])


def run_several(count: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def run_two(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = run_several(2, *arguments)
    assert done.returncode == 0, done.stderr
    return done


def write_reviews(**counts: int) -> None:
    for name, count in counts.items():
        rows = [
            f"a {'fine' if i % 2 else 'dull'} {name} film {'of ' * (i % 9)}" for i in range(count)
        ]
        table = "\n".join(f"{text} number {i},{i % 2}" for i, text in enumerate(rows))
        Path(f"{name}.csv").write_text(f"text,label\n{table}\n")


@pytest.mark.slow
def test_two_processes_learn_from_a_teacher_as_one_does(cwd: Path) -> None:
    write_reviews(train=72, test=20, more=150)
    run_door(train.main, *SAME_FOR_ALL, "hydra.run.dir=teacher")
    taught = (*SAME_FOR_ALL, "data.unlabelled=more.csv", "teacher=teacher")
    run_door(train.main, *taught, "hydra.run.dir=one")
    done = run_two("-m", "sentiment.train", *taught, "hydra.run.dir=two")
    assert done.stdout.count("has labelled 150 texts") == 1
    np.testing.assert_allclose(history(Path("two")), history(Path("one")), rtol=1e-4)
    hashes = [
        json.loads(Path(run, "environment.json").read_text())["data_sha256"]
        for run in ("one", "two")
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_two_processes_train_as_one_does(cwd: Path) -> None:
    write_reviews(train=72, test=20)
    run_door(train.main, *SAME_FOR_ALL, "hydra.run.dir=one")
    done = run_two("-m", "sentiment.train", *SAME_FOR_ALL, "hydra.run.dir=two")
    assert done.stdout.count("test accuracy") == 1

    one, two = Path("one"), Path("two")
    weights = [load_file(run / "checkpoints/last/model.safetensors") for run in (one, two)]
    for name in weights[0]:
        np.testing.assert_allclose(weights[1][name], weights[0][name], atol=2e-5)
    np.testing.assert_allclose(history(two), history(one), rtol=1e-4)
    tested = [json.loads((run / "metrics.json").read_text())["test/loss"] for run in (one, two)]
    np.testing.assert_allclose(tested[1], tested[0], rtol=1e-4)
    assert len(list(two.glob("events.out.tfevents.*"))) == 1
    curves = [EventAccumulator(str(run)).Reload().Scalars("train/loss") for run in (one, two)]
    for alone, together in zip(*curves, strict=True):
        assert together.step == alone.step
        np.testing.assert_allclose(together.value, alone.value, rtol=1e-4)


@pytest.mark.slow
def test_three_processes_go_on_to_the_same_bytes(cwd: Path) -> None:
    # The sum of three numbers depends on their order.
    write_reviews(train=72, test=20)
    settings = (*SAME_FOR_ALL, "model.dropout=0.3", "optimizer.schedule=constant")
    settings += ("optimizer.warmup_fraction=0",)
    for name, epochs in (("whole", 2), ("parts", 1)):
        command = (*settings, f"trainer.epochs={epochs}", f"hydra.run.dir={name}")
        assert run_several(3, "-m", "sentiment.train", *command).returncode == 0
    done = run_several(3, "-m", "sentiment.train", "resume=parts", "trainer.epochs=2")
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "training_state.safetensors"):
        whole, parts = (Path(run, "checkpoints/last", name) for run in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.slow
def test_what_is_wrong_and_what_helps_is_printed_once(cwd: Path) -> None:
    done = run_several(2, "-m", "sentiment.train", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("hidden_size:") == 1
    for mistake in (("data.path=nowhere",), ("data=sample", "teacher=nowhere")):
        done = run_several(2, "-m", "sentiment.train", *mistake)
        assert done.returncode != 0
        assert done.stderr.count("error: ") == 1, done.stderr


@pytest.mark.slow
def test_a_loss_that_is_infinite_in_one_process_is_a_fault_in_all(cwd: Path) -> None:
    table = "\n".join(f"a {'fine' if i % 2 else 'dull'} film number {i},{i % 2}" for i in range(72))
    for name in ("train", "test"):
        Path(f"{name}.csv").write_text(f"text,label\n{table.replace('film', name)}\n")
    Path("breaks.py").write_text(
        """
import os
import torch
from sentiment import train

forward, calls = torch.nn.BCEWithLogitsLoss.forward, 0

def broken(*batch):
    global calls
    calls += 1
    return forward(*batch) + (torch.inf if calls == 3 and os.environ["RANK"] == "1" else 0)

torch.nn.BCEWithLogitsLoss.forward = broken
train.main()
"""
    )
    run_two("breaks.py", *SAME_FOR_ALL, "trainer.max_skipped_steps=1", "hydra.run.dir=run")
    (fault,) = json.loads(Path("run/faults.json").read_text())
    assert (fault["epoch"], fault["batch"], fault["update"]) == (1, 2, 1)
    assert fault["found"].endswith("gradient norm nan")


@pytest.mark.slow
def test_a_run_goes_on_from_where_the_system_killed_a_process(cwd: Path) -> None:
    write_reviews(train=72, test=20)
    Path("dies.py").write_text(
        """
import os
import signal
import torch
from sentiment import train

forward, calls = torch.nn.BCEWithLogitsLoss.forward, 0

def dies(*batch):
    global calls
    calls += 1
    if calls == 4 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(*batch)

torch.nn.BCEWithLogitsLoss.forward = dies
train.main()
"""
    )
    settings = (*SAME_FOR_ALL, "checkpoint.every_updates=1")
    killed = run_several(2, "dies.py", *settings, "hydra.run.dir=killed")
    assert killed.returncode != 0
    assert killed.stderr.count("error: process 1 of 2 has ended") == 1, killed.stderr
    run_two("-m", "sentiment.train", "resume=killed")
    run_two("-m", "sentiment.train", *settings, "hydra.run.dir=whole")
    weights = [
        Path(run, "checkpoints/last/model.safetensors").read_bytes() for run in ("killed", "whole")
    ]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted on Linux")
def test_nothing_that_sends_outlives_the_training(cwd: Path) -> None:
    # Its threads would now and then abort a process at the interpreter's end.
    Path("trains.py").write_text(
        """
import gc
from pathlib import Path
import torch
from sentiment.training.processes import joined
from sentiment.training.replicas import replicate

def threads():
    return {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}

def train(processes):
    learner = replicate(torch.nn.Linear(3, 1), processes)
    learner(torch.ones(2, 3)).sum().backward()

gc.disable()
with joined() as processes:
    train(processes)
    assert any("gloo" in name for name in threads()), threads()
assert not any("gloo" in name for name in threads()), threads()
"""
    )
    run_two("trains.py")
