"""Nothing is learned from, or chosen by, what the test reviews are labelled."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment import train
from tests.cli.test_configuration import run_door
from tests.cli.test_resume import points

SMALL = (
    *("data.path=reviews", "tokenizer.min_frequency=1", "embeddings.dimension=8"),
    *("embeddings.std=1", "model.hidden_size=8", "model.word_dropout=0", "trainer.epochs=5"),
    *("trainer.batch_size=20", "trainer.log_every=2", "optimizer.learning_rate=0.03"),
    *("trainer.patience=2", "runtime.threads=1"),
)


def write_reviews(flipped: bool) -> None:
    """Reviews of which two in five are labelled at random; all test labels may be turned round."""
    Path("reviews").mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for name, count in (("train", 300), ("test", 60)):
        labels_N = np.arange(count) * 2 // count
        said_N = np.where(generator.random(count) < 0.4, generator.integers(0, 2, count), labels_N)
        texts = [
            f"{name} film {number} is {('dull', 'fine')[said]}{' of it' * (number % 7)}"
            for number, said in enumerate(said_N)
        ]
        labels_N = 1 - labels_N if name == "test" and flipped else labels_N
        pq.write_table(pa.table({"text": texts, "label": labels_N}), f"reviews/{name}.parquet")


def checkpoints(run: Path) -> dict[str, bytes]:
    """All files but those that hold hashes or figures of the test reviews, or the hash of these."""
    files = {str(p.relative_to(run)): p for p in (run / "checkpoints").rglob("*") if p.is_file()}
    for name in ("README.md", "manifest.json"):
        for checkpoint in ("best", "last", "last.1"):
            del files[f"checkpoints/{checkpoint}/{name}"]
    for last in ("last", "last.1"):
        del files[f"checkpoints/{last}/training_state.json"]
    del files["checkpoints/best/metrics.json"]
    return {name: path.read_bytes() for name, path in files.items()}


def predictions(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_flipped_test_labels_change_the_test_figures_only(cwd: Path) -> None:
    for name in ("right", "flipped"):
        write_reviews(flipped=name == "flipped")
        run_door(train.main, *SMALL, f"hydra.run.dir={name}")
    right, flipped = Path("right"), Path("flipped")

    assert checkpoints(flipped) == checkpoints(right)
    assert (flipped / "history.csv").read_bytes() == (right / "history.csv").read_bytes()
    before = [[p for p in points(run) if not p[0].startswith("test/")] for run in (flipped, right)]
    assert before[0] == before[1]

    figures, mirrored = (json.loads((run / "metrics.json").read_text()) for run in (right, flipped))
    chosen, chosen_again = (
        {tag: value for tag, value in found.items() if not tag.startswith("test/")}
        for found in (figures, mirrored)
    )
    assert chosen == chosen_again
    for run, found in ((right, figures), (flipped, mirrored)):
        assert json.loads((run / "checkpoints/best/metrics.json").read_text()) == found
    assert abs(figures["test/accuracy"] - 0.5) > 0.05
    assert mirrored["test/accuracy"] == pytest.approx(1 - figures["test/accuracy"], abs=1e-12)
    assert mirrored["test/true_positives"] == figures["test/false_positives"]
    assert mirrored["test/true_negatives"] == figures["test/false_negatives"]
    for one, other in zip(predictions(right), predictions(flipped), strict=True):
        assert one.pop("label") != other.pop("label")
        assert one == other
