"""The doors as a user runs them, on the bundled sample."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from sentiment import SentimentPredictor, evaluate, train
from sentiment.data.reviews import SAMPLE
from tests.cli.test_configuration import door_in

ROOT = Path(__file__).parents[2]
SMOKE = ("debug=smoke", "runtime.threads=1", "model.ngrams=2")


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def door(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def trained(workspace: Path) -> tuple[Path, str]:
    """A run directory made by the command line, and what the command printed."""
    done = door("-m", "sentiment.train", *SMOKE, cwd=workspace)
    assert done.returncode == 0, done.stderr
    (run,) = (workspace / "outputs" / "train").glob("*/*")
    return run, done.stdout


def test_a_run_leaves_what_the_design_promises(trained: tuple[Path, str]) -> None:
    run, _ = trained
    names = {path.name for path in run.iterdir() if "tfevents" not in path.name}
    assert names == {
        ".hydra",
        ".lock",
        "train.log",
        "metrics.json",
        "predictions.csv",
        "history.csv",
        "gradients.csv",
        "environment.json",
        "checkpoints",
        "projector",
        "projector_config.pbtxt",
    }
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best", "last", "last.1"}
    environment = json.loads((run / "environment.json").read_text())
    assert set(environment["data_sha256"]) == {"train", "validation", "test"}
    with (run / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    metrics = json.loads((run / "metrics.json").read_text())
    assert float(row["validation/accuracy"]) == metrics["validation/accuracy"]
    assert metrics["test/reviews"] == 1000
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = pq.read_table(SAMPLE / "test.parquet")["label"].to_pylist()
    assert [row["label"] for row in rows] == [("negative", "positive")[label] for label in labels]
    assert all((float(r["probability"]) > 0.5) == (r["prediction"] == "positive") for r in rows)
    right = sum(row["prediction"] == row["label"] for row in rows)
    assert right / len(rows) == metrics["test/accuracy"]


def test_the_best_checkpoint_ends_with_a_card_of_the_final_figures(
    trained: tuple[Path, str],
) -> None:
    run, _ = trained
    metrics = (run / "metrics.json").read_bytes()
    assert (run / "checkpoints/best/metrics.json").read_bytes() == metrics
    card = (run / "checkpoints/best/README.md").read_text()
    environment = json.loads((run / "environment.json").read_text())
    assert f"value: {json.loads(metrics)['test/accuracy']}" in card
    for name, digest in environment["data_sha256"].items():
        assert f"| {name} | `{digest}` |" in card
    assert "have not been scored" not in card
    assert "have not been scored" in (run / "checkpoints/last/README.md").read_text()


def test_it_names_the_run_and_the_next_commands(trained: tuple[Path, str]) -> None:
    run, printed = trained
    assert (
        f"test accuracy {json.loads((run / 'metrics.json').read_text())['test/accuracy']:.4f}"
        in (printed)
    )
    assert "tensorboard --logdir" in printed
    assert f"python -m sentiment.evaluate checkpoint={run}" in printed
    assert f"python -m sentiment.predict --checkpoint {run}" in printed
    assert (run / "train.log").read_text() == printed


def test_tensorboard_reads_the_curves_and_the_hyperparameters(trained: tuple[Path, str]) -> None:
    run, _ = trained
    events = EventAccumulator(str(run))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    expected = {"loss", "accuracy", "gradient_norm", "learning_rate", "reviews_per_second"}
    assert {f"train/{name}" for name in expected} <= tags
    assert {"validation/loss", "validation/accuracy", "test/loss", "test/accuracy"} <= tags
    assert [point.step for point in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [point.step for point in events.Scalars("validation/accuracy")] == [4]
    assert [image.step for image in events.Images("gradient/norm_by_distance")] == [0, 4]
    assert [image.step for image in events.Images("gates/layer_2")] == [0, 4]
    assert [p.step for p in events.Scalars("gradient/reach_layer_2_left_to_right")] == [0, 4]
    metrics = json.loads((run / "metrics.json").read_text())
    (tested,) = events.Scalars("test/accuracy")
    assert tested.value == pytest.approx(metrics["test/accuracy"])

    assert len(list(run.rglob("*tfevents*"))) == 1
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["model.hidden_size"].number_value == 16
    assert start.hparams["model.pooling"].string_value == "final"


@pytest.mark.parametrize(
    "command", [("-m", "sentiment.evaluate"), (str(ROOT / "scripts/evaluate.py"),)]
)
def test_evaluation_reports_the_very_figures_of_the_run(
    trained: tuple[Path, str], workspace: Path, command: tuple[str, ...]
) -> None:
    run, _ = trained
    done = door(*command, f"checkpoint={run}", "runtime.threads=1", cwd=workspace)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"accuracy {metrics['test/accuracy']:.4f}" in done.stdout
    latest = max((workspace / "outputs" / "evaluate").glob("*/*"), key=lambda p: p.stat().st_mtime)
    again = json.loads((latest / "metrics.json").read_text())
    assert again == {tag: value for tag, value in metrics.items() if tag.startswith("test/")}
    predictions = "predictions.csv"
    assert (latest / predictions).read_bytes() == (run / predictions).read_bytes()


def test_a_calibrated_checkpoint_says_the_same_with_other_probabilities(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    run, _ = trained
    options = (f"checkpoint={run}", "calibrate=true", "runtime.threads=1", "hydra.run.dir=out")
    done = door_in(tmp_path, evaluate.main, *options)
    assert done.returncode == 0, done.stderr
    assert f"python -m sentiment.predict --checkpoint {tmp_path / 'out'}" in done.stdout
    then, now = (
        json.loads((folder / "checkpoints/best/metrics.json").read_text())
        for folder in (run, tmp_path / "out")
    )
    for split in ("validation", "test"):
        for name in ("accuracy", "true_positives", "reviews"):
            assert now[f"{split}/{name}"] == then[f"{split}/{name}"]
        # Two float32 logits that are the same may differ once their weights are divided: a tie,
        # half a pair of AUROC's, is one no longer.
        assert now[f"{split}/auroc"] == pytest.approx(then[f"{split}/auroc"], abs=1e-5)
    assert now["validation/loss"] < then["validation/loss"]
    temperature = now["validation/temperature"]
    assert f"with logits divided by {temperature:.3f}:" in done.stdout
    options = ("checkpoint=out", "calibrate=true", "runtime.threads=1", "hydra.run.dir=again")
    assert "with logits divided by 1.000:" in door_in(tmp_path, evaluate.main, *options).stdout
    for folder in ("out", "again"):
        card = (tmp_path / folder / "checkpoints/best/README.md").read_text()
        assert f"divided by {temperature:.3f} after training" in card
    first, second = (
        SentimentPredictor.load(folder, threads=1)(["A dull film.", "It is anything but dull."])
        for folder in (run, tmp_path / "out")
    )
    for before, after in zip(first, second, strict=True):
        assert before.label == after.label
        assert before.probability is not None
        assert after.probability is not None
        assert logit(after.probability) == pytest.approx(
            logit(before.probability) / temperature, abs=1e-4
        )


def test_a_sweep_has_a_directory_per_job_and_the_seed_decides_the_bytes(
    trained: tuple[Path, str], workspace: Path
) -> None:
    done = door("-m", "sentiment.train", "-m", "seed=0,1", *SMOKE, cwd=workspace)
    assert done.returncode == 0, done.stderr
    (sweep,) = {path.parent for path in workspace.glob("outputs/train/*/*/0")}
    same, other = (sweep / job / "checkpoints/best/model.safetensors" for job in ("0", "1"))
    first = trained[0] / "checkpoints/best/model.safetensors"
    assert same.read_bytes() == first.read_bytes()
    assert other.read_bytes() != first.read_bytes()
    assert load_file(other).keys() == load_file(first).keys()


def test_a_run_starts_from_the_tokenizer_embedding_and_encoder_of_another(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    source, _ = trained
    command = (*SMOKE, f"init_from={source}", "seed=1")
    other_sizes = (
        "model.hidden_size=8",
        "model.ngrams=0",
        "embeddings.dimension=5",
        "tokenizer.vocabulary_size=10",
    )
    frozen = "model.freeze=[embedding,encoder]"
    done = door_in(tmp_path, train.main, *command, *other_sizes, frozen, "hydra.run.dir=frozen")
    assert done.returncode == 0, done.stderr
    assert f"starting from {source / 'checkpoints/best'}, 2 layers of 16; 0.0 % of" in done.stdout
    first, second = (run / "checkpoints/best" for run in (source, tmp_path / "frozen"))
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    # What n-grams say is learned anew, from the same reviews.
    assert moved == {"output.weight", "output.bias"}
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()

    done = door_in(tmp_path, train.main, *command, "hydra.run.dir=trained")
    assert done.returncode == 0, done.stderr
    after = load_file(tmp_path / "trained/checkpoints/best/model.safetensors")
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith("ngrams.")}
    # Four small steps away from where it started, not somewhere else.
    assert np.abs(after["embedding.weight"] - before["embedding.weight"]).max() < 0.01


def test_help_explains_groups_overrides_and_results() -> None:
    done = door("-m", "sentiment.train", "--help", cwd=ROOT)
    assert done.returncode == 0
    for part in (
        "data: files, imdb, sample",
        "data.path=DIR",
        "outputs/train/DATE/TIME-ID",
        "epochs: ",
    ):
        assert part in done.stdout
