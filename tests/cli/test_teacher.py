"""Learning from texts without labels: a student of a teacher, and objectives that need no label."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sentiment import pretrain, train
from sentiment.training.calibration import divide_logits
from sentiment.training.checkpoint import load_checkpoint, save_checkpoint
from tests.cli.test_configuration import door_in

TINY = (
    *("data.path=reviews", "tokenizer.min_frequency=1", "embeddings.dimension=8"),
    *("embeddings.std=1", "model.hidden_size=8", "trainer.epochs=2", "trainer.batch_size=20"),
    *("optimizer.learning_rate=0.03", "runtime.threads=1", "split.kind=random"),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews with and without labels, a teacher, and a language model."""
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
    words = tuple(setting for setting in TINY if "learning_rate" not in setting)
    for main, settings, name in ((train.main, TINY, "teacher"), (pretrain.main, words, "language")):
        done = door_in(folder, main, *settings, f"hydra.run.dir={name}")
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
    splits = {"train", "validation", "test", "unlabelled"}
    assert set(environment["data_sha256"]) == splits | {"weights of teacher"}


def test_all_at_once_has_its_curves_and_goes_on_to_the_same_bytes(workspace: Path) -> None:
    weights = ("objective.adversarial=1", "objective.virtual_adversarial=1")
    settings = (*TINY, *weights, "objective.entropy=0.5", "objective.epsilon=1")
    settings += ("init_from=language", "teacher=teacher", "model.ngrams=2", "trainer.log_every=1")
    settings += ("model.embedding_dropout=0.2", "trainer.max_train_batches=3")
    settings += ("optimizer.schedule=constant", "optimizer.warmup_fraction=0")
    for name, epochs in (("whole", 2), ("parts", 1)):
        command = (*settings, f"trainer.epochs={epochs}", f"hydra.run.dir={name}")
        done = door_in(workspace, train.main, *command)
        assert done.returncode == 0, done.stderr
        assert "known n-grams of 1 to 2 tokens" in done.stdout
    done = door_in(workspace, train.main, "resume=parts", "trainer.epochs=2")
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "training_state.safetensors"):
        whole, parts = (workspace / run / "checkpoints/last" / name for run in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()

    events = EventAccumulator(str(workspace / "whole"))
    events.Reload()
    curves = {
        name: [point.value for point in events.Scalars(f"train/{name}")]
        for name in ("loss", "adversarial", "virtual_adversarial", "entropy")
    }
    assert {len(values) for values in curves.values()} == {6}
    assert min(min(values) for values in curves.values()) > 0
    # Other dropout masks, but on average it is worse where it was made worse.
    assert np.mean(curves["adversarial"]) > np.mean(curves["loss"])
    assert max(curves["entropy"]) <= np.log(2) + 1e-6

    untaught = (*TINY, "seed=1", "trainer.epochs=1", "optimizer.learning_rate=1e-9")
    assert door_in(workspace, train.main, *untaught, "hydra.run.dir=untaught").returncode == 0
    done = door_in(workspace, train.main, "resume=parts", "trainer.epochs=3", "teacher=untaught")
    assert done.returncode == 2
    assert "the unlabelled reviews are others than those that the run" in done.stderr
    # Calibration changes probabilities, which are learned, but no label.
    softer = divide_logits(load_checkpoint(workspace / "teacher"), 2.0)
    parts = (softer.build_model(), softer.tokenizer, softer.config, softer.metrics)
    save_checkpoint(workspace / "softer", *parts)
    done = door_in(workspace, train.main, "resume=parts", "trainer.epochs=3", "teacher=softer")
    assert done.returncode == 2
    assert "the weights of teacher are others than those that the run" in done.stderr
    done = door_in(workspace, train.main, "resume=parts", "trainer.epochs=3", "teacher=null")
    assert done.returncode == 2
    assert "are others than those that the run" in done.stderr


def test_reviews_that_lose_their_labels_are_labelled_by_the_teacher(workspace: Path) -> None:
    few = (*TINY, "split.labelled=20", "trainer.epochs=1")
    for settings, name in ((few, "few"), ((*few, "teacher=few"), "taught")):
        done = door_in(workspace, train.main, *settings, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
        assert "20 reviews to train on, 10 to validate" in done.stdout
    assert "has labelled 270 texts" in done.stdout
    card = (workspace / "taught/checkpoints/best/README.md").read_text()
    assert "Of the training reviews 20 had a label." in card
    done = door_in(workspace, train.main, *few, "teacher=teacher", "hydra.run.dir=refused")
    assert "split.labelled is 20, but teacher=" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("objective.entropy=-1",), "objective.entropy is -1.0, expected a number, 0 or above"),
        (("objective.epsilon=0",), "objective.epsilon is 0.0, expected a number above 0"),
        (("teacher=nowhere",), "nowhere is no checkpoint: it does not exist"),
        (("teacher=teacher", "split.seed=1"), "split.seed is 1, but teacher="),
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
