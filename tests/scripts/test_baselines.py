"""The linear baselines by their door, on reviews of which the right answer is known."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix

from scripts import baselines
from sentiment.report.result import Result, read_results
from tests.cli.test_configuration import door_in

ROOT = Path(__file__).parents[2]


def write_reviews(folder: Path, flipped: bool = False) -> Path:
    """Only pairs of words tell the class; a tenth of the test reviews is labelled wrongly."""
    folder.mkdir()
    for name, count in (("train", 200), ("test", 50)):
        labels = np.arange(count) * 2 // count
        texts = [
            f"{name} {number}: {('bad , not good', 'good , not bad')[label]}"
            for number, label in enumerate(labels)
        ]
        if name == "test":
            labels[::10] = 1 - labels[::10]
            labels = 1 - labels if flipped else labels
        pq.write_table(pa.table({"text": texts, "label": labels}), folder / f"{name}.parquet")
    return folder


def measured(cwd: Path, *arguments: str) -> Result:
    cwd.mkdir(exist_ok=True)
    done = door_in(cwd, baselines.main, *arguments)
    assert done.returncode == 0, done.stderr
    name = arguments[0]
    return read_results(cwd / "results")[name][-1]


def test_validation_chooses_and_test_labels_do_not(tmp_path: Path) -> None:
    right, flipped = tmp_path / "right", tmp_path / "flipped"
    results = []
    for cwd in (right, flipped):
        cwd.mkdir()
        reviews = write_reviews(cwd / "reviews", flipped=cwd == flipped)
        results.append(measured(cwd, "nb-lr", f"data.path={reviews}"))
    found, mirrored = results
    assert found.metrics["longest_ngram"] > 1
    assert found.metrics["validation/accuracy"] == 1
    assert found.metrics["test/accuracy"] == 0.9
    alone = [row["validation/accuracy"] for row in found.history if row["longest_ngram"] == 1]
    assert max(alone) < 0.7
    assert mirrored.history == found.history
    assert mirrored.metrics["test/accuracy"] == pytest.approx(0.1)
    assert np.array_equal(mirrored.right_N, ~found.right_N)
    assert found.command == "python scripts/baselines.py nb-lr data.path=DIR"
    assert door_in(right, baselines.main, "nb-lr", "data.path=DIR").stdout.endswith("is there\n")


def test_few_labels_are_few(tmp_path: Path) -> None:
    reviews = write_reviews(tmp_path / "reviews")
    few, all_of_them = (
        measured(folder, "nb-lr", f"data.path={reviews}", *override)
        for folder, override in ((tmp_path / "few", ["split.labelled=20"]), (tmp_path / "all", []))
    )
    assert few.split["labelled"] == 20
    hashes = [run.environment["data_sha256"] for run in (few, all_of_them)]
    assert [name for name in hashes[0] if hashes[0][name] != hashes[1][name]] == ["train"]


def test_unigrams_alone_cannot_tell_such_reviews(tmp_path: Path) -> None:
    reviews = write_reviews(tmp_path / "reviews")
    result = measured(tmp_path, "tfidf-lr-unigrams", f"data.path={reviews}", "split.seed=1")
    assert result.split == {"validation_fraction": 0.1, "seed": 1, "kind": "grouped"}
    assert result.metrics["longest_ngram"] == 1
    assert result.metrics["test/accuracy"] < 0.7


def test_ratios_are_those_of_wang_and_manning() -> None:
    counts_NV = np.array([[2, 0, 1], [1, 1, 0], [0, 3, 0], [0, 1, 0]])
    found = baselines.LogCountRatio().fit(csr_matrix(counts_NV), np.array([1, 1, 0, 0]))
    p, q = np.array([3, 2, 2]), np.array([1, 3, 1])  # 1 + reviews that have it
    expected = np.log((p / 7) / (q / 5))
    assert found.ratio_V == pytest.approx(expected)
    weighed = found.transform(csr_matrix(counts_NV)).toarray()
    assert weighed == pytest.approx((counts_NV > 0) * expected)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.layers=1", "model.layers=1: expected settings of data and split, or the seed"),
        ("split.sed=1", "unknown setting split.sed, expected perhaps split.seed"),
        ("data.path=nowhere", "data.path=nowhere: not there; expected a folder with"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, override: str, message: str) -> None:
    done = door_in(tmp_path, baselines.main, "nb-lr", override)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_committed_figure_comes_out_again(tmp_path: Path, imdb_dir: Path) -> None:
    (committed, *_) = read_results(ROOT / "results")["tfidf-lr-unigrams"]
    found = measured(tmp_path, "tfidf-lr-unigrams", f"data.path={imdb_dir}")
    assert found.environment["data_sha256"] == committed.environment["data_sha256"]
    for name in ("validation/accuracy", "test/accuracy"):
        assert found.metrics[name] == pytest.approx(committed.metrics[name], abs=5e-4)
