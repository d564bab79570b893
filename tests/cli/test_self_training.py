"""A student of a teacher, as a user trains both."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment import train
from tests.cli.test_configuration import door_in

TINY = (
    *("data.path=reviews", "tokenizer.min_frequency=1", "embeddings.dimension=8"),
    *("embeddings.std=1", "model.hidden_size=8", "trainer.epochs=2", "trainer.batch_size=20"),
    *("optimizer.learning_rate=0.03", "runtime.threads=1", "split.kind=random"),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews with and without labels, and a teacher."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "reviews").mkdir()
    for name, count in (("train", 100), ("test", 40), ("unsupervised", 200)):
        labels_N = np.arange(count) * 2 // count
        texts = [
            f"{name} film {number} is {('dull', 'fine')[label]}{' of it' * (number % 7)}"
            for number, label in enumerate(labels_N)
        ]
        labels_N = labels_N * 0 - 1 if name == "unsupervised" else labels_N
        table = pa.table({"text": texts, "label": labels_N})
        pq.write_table(table, folder / f"reviews/{name}.parquet")
    done = door_in(folder, train.main, *TINY, "hydra.run.dir=teacher")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_student_learns_from_labels_and_teacher(workspace: Path) -> None:
    command = (*TINY, "teacher=teacher", "hydra.run.dir=student")
    done = door_in(workspace, train.main, *command)
    assert done.returncode == 0, done.stderr
    assert "has labelled 200 texts, 50.0 % of them positive" in done.stdout
    metrics = json.loads((workspace / "student/metrics.json").read_text())
    assert metrics["update"] == metrics["epoch"] * 15  # 90 reviews with labels, 200 without
    assert metrics["test/accuracy"] == 1
    card = (workspace / "student/checkpoints/best/README.md").read_text()
    assert "had no label but what another model said of them" in card
    assert "| unlabelled | `" in card
    assert str(workspace) not in card
    environment = json.loads((workspace / "student/environment.json").read_text())
    assert set(environment["data_sha256"]) == {"train", "validation", "test", "unlabelled"}


def test_a_student_goes_on_to_the_same_bytes(workspace: Path) -> None:
    steady = ("optimizer.schedule=constant", "optimizer.warmup_fraction=0", "teacher=teacher")
    for name, epochs in (("whole", 2), ("parts", 1)):
        settings = (*TINY, *steady, f"trainer.epochs={epochs}", f"hydra.run.dir={name}")
        assert door_in(workspace, train.main, *settings).returncode == 0
    done = door_in(workspace, train.main, "resume=parts", "trainer.epochs=2")
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "training_state.safetensors"):
        whole, parts = (workspace / run / "checkpoints/last" / name for run in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()

    other = (*TINY, "seed=1", "trainer.epochs=1", "optimizer.learning_rate=1e-9")
    assert door_in(workspace, train.main, *other, "hydra.run.dir=untaught").returncode == 0
    done = door_in(workspace, train.main, "resume=parts", "trainer.epochs=3", "teacher=untaught")
    assert done.returncode == 2
    assert "the unlabelled reviews are others than those that the run" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("teacher=nowhere",), "nowhere is no checkpoint: it does not exist"),
        (("teacher=teacher", "split.seed=1"), "has learned from reviews that are to validate"),
        (("teacher=teacher", "data=sample", "data.path=null"), "use data=imdb, which has some"),
    ],
)
def test_what_cannot_teach_is_refused(
    workspace: Path, overrides: tuple[str, ...], message: str
) -> None:
    done = door_in(workspace, train.main, *TINY, *overrides, "hydra.run.dir=refused")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (workspace / "refused").exists()
