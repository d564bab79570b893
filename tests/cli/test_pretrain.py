"""Pretraining as a user runs it, on the bundled sample, and what a classifier makes of it."""

import csv
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sentiment import cli, evaluate, pretrain, train
from sentiment.config import PretrainConfig
from sentiment.model.language_model import LanguageModel
from tests.cli.test_configuration import door_in, fail, run_door
from tests.cli.test_resume import Died, points

TINY = ("debug=smoke", "runtime.threads=1")
SMALL = (
    *("data=sample", "embeddings.dimension=8", "model.hidden_size=8", "runtime.threads=1"),
    *("trainer.epochs=2", "trainer.max_train_batches=6", "trainer.log_every=2"),
    *("checkpoint.every_updates=2", "language.samples=20"),
)
RESULTS = (
    *("checkpoints/best/model.safetensors", "checkpoints/last/model.safetensors"),
    *("checkpoints/last/training_state.safetensors", "history.csv", "metrics.json"),
    *("checkpoints/best/metrics.json", "checkpoints/best/README.md"),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def pretrained(workspace: Path) -> Path:
    done = door_in(workspace, pretrain.main, *TINY, "hydra.run.dir=language")
    assert done.returncode == 0, done.stderr
    assert "python -m sentiment.train init_from=" in done.stdout
    return workspace / "language"


def test_a_run_leaves_curves_perplexities_and_a_checkpoint(pretrained: Path) -> None:
    names = {path.name for path in pretrained.iterdir() if "tfevents" not in path.name}
    assert names == {
        *(".hydra", ".lock", "pretrain.log", "metrics.json", "history.csv", "environment.json"),
        "checkpoints",
    }
    metrics = json.loads((pretrained / "metrics.json").read_text())
    (row,) = csv.DictReader((pretrained / "history.csv").read_text().splitlines())
    losses = []
    for direction in ("left_to_right", "right_to_left"):
        name = f"validation/perplexity_{direction}"
        assert metrics[name] == float(row[name])
        # It begins with how often the 436 words of the vocabulary stand in the texts.
        assert 100 < metrics[name] < 150
        losses.append(math.log(metrics[name]))
    assert metrics["validation/loss"] == pytest.approx(np.mean(losses))
    events = EventAccumulator(str(pretrained))
    events.Reload()
    curves = {"loss", "loss_left_to_right", "loss_right_to_left", "learning_rate"}
    assert {f"train/{name}" for name in curves} <= set(events.Tags()["scalars"])
    card = (pretrained / "checkpoints/best/README.md").read_text()
    assert f"| left to right | {metrics['validation/perplexity_left_to_right']:.1f} |" in card
    assert str(pretrained.parent) not in card


def test_a_classifier_starts_from_it_with_n_grams_of_its_own(
    pretrained: Path, workspace: Path
) -> None:
    command = (*TINY, "init_from=language", "model.ngrams=2", "optimizer.learning_rate=1e-9")
    done = door_in(workspace, train.main, *command, "hydra.run.dir=classifier")
    assert done.returncode == 0, done.stderr
    assert "known n-grams of 1 to 2 tokens" in done.stdout
    before = load_file(pretrained / "checkpoints/best/model.safetensors")
    after = load_file(workspace / "classifier/checkpoints/best/model.safetensors")
    for name in before.keys() & after.keys():
        width = before[name].shape[-1]
        np.testing.assert_allclose(after[name][..., :width], before[name], atol=1e-6)
    inputs = "encoder.left_to_right.0.weight_ih_l0"
    assert after[inputs].shape[1] == before[inputs].shape[1] + 4
    assert np.abs(after[inputs][:, -4:]).max() > 0.01
    tokenizers = [run / "checkpoints/best/tokenizer.json" for run in (pretrained, workspace)]
    assert tokenizers[0].read_bytes() == (
        (workspace / "classifier/checkpoints/best/tokenizer.json").read_bytes()
    )


def test_a_run_that_was_killed_ends_with_the_same_bytes(cwd: Path) -> None:
    run_door(pretrain.main, *SMALL, "hydra.run.dir=undisturbed")
    forward, numbers = LanguageModel.forward, itertools.count(1)

    def mortal(self: LanguageModel, *arguments: object) -> object:
        if self.training and next(numbers) == 9:
            raise Died
        return forward(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanguageModel, "forward", mortal)
        with pytest.raises(Died):
            run_door(pretrain.main, *SMALL, "hydra.run.dir=killed")
    run_door(pretrain.main, "resume=killed")
    for name in RESULTS:
        assert Path("undisturbed", name).read_bytes() == Path("killed", name).read_bytes(), name
    assert points(Path("undisturbed")) == points(Path("killed"))


def test_no_test_review_is_learned_from(cwd: Path) -> None:
    checkpoints = []
    for run in range(2):
        folder = Path(f"reviews{run}")
        folder.mkdir()
        for name, count in (("train", 60), ("test", 10), ("unsupervised", 30)):
            labels = np.arange(count) * 2 // count
            texts = [f"{name} film {number} is fine , really" for number in range(count)]
            if name == "unsupervised":
                texts += [f"{texts[0]} , seen", "test film 3 is fine , really"]
                labels = np.full(len(texts), -1)
            if name == "test" and run == 1:
                labels = 1 - labels
                texts[4:] = [f"{text} , unheard of" for text in texts[4:]]
            pq.write_table(pa.table({"text": texts, "label": labels}), folder / f"{name}.parquet")
        settings = (*SMALL[1:], f"data.path={folder}", "tokenizer.min_frequency=1")
        run_door(pretrain.main, *settings, "split.kind=random", f"hydra.run.dir=run{run}")
        checkpoints.append(Path(f"run{run}/checkpoints/last"))
    for name in ("model.safetensors", "tokenizer.json", "metrics.json"):
        one, other = ((folder / name).read_bytes() for folder in checkpoints)
        assert one == other, name
    assert "unheard" not in (checkpoints[1] / "tokenizer.json").read_text()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.pooling=[max]", r"unknown setting model\.pooling"),
        ("language.samples=0", r"language\.samples is 0, expected 1 or more, or null"),
        ("language.sample=5", r"unknown setting .*sample, expected perhaps language\.samples"),
        ("size=tpu", r"size=tpu: there is no such choice, expected perhaps gpu"),
        ("+split.labelled=9", r"split\.labelled is 9, expected null: no label is read"),
        ("init_from=x", r"unknown setting init_from"),
        ("data.unlabelled=x", r"data\.unlabelled is x, expected null with data=imdb"),
        ("resume=nowhere", r"resume=nowhere is no run.*outputs/pretrain/DATE"),
    ],
)
def test_a_mistake_is_one_line(
    override: str, message: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(message, fail(pretrain.main, override, capsys=capsys, cwd=cwd))


def test_a_language_model_is_no_classifier(pretrained: Path, tmp_path: Path) -> None:
    done = door_in(tmp_path, evaluate.main, f"checkpoint={pretrained}")
    assert done.returncode == 2
    assert "is a language model, which knows no labels; train a classifier" in done.stderr
    assert f"init_from={pretrained}" in done.stderr


def test_the_sample_has_settings_of_its_own() -> None:
    config = cli.compose_config("pretrain", PretrainConfig, ["data=sample"])
    assert (config.embeddings.dimension, config.language.samples) == (32, None)
