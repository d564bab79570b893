"""The doors on a user's own files."""

import json
import re
import subprocess
from pathlib import Path

import datasets
import pandas as pd
import pytest
import yaml

from sentiment import evaluate, train
from sentiment.data.reviews import SAMPLE
from sentiment.report.run import recorded_hashes
from tests.cli.test_configuration import door_in, fail

TINY = (
    "embeddings.dimension=8",
    "model.hidden_size=8",
    "trainer.epochs=1",
    "trainer.batch_size=32",
    "runtime.threads=1",
)


def door(name: str, *overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return door_in(cwd, {"train": train, "evaluate": evaluate}[name].main, *overrides)


def own_reviews(rows: slice) -> pd.DataFrame:
    """A shop's export: other columns, other labels, three times as many good as bad."""
    sample = pd.read_parquet(SAMPLE / "train.parquet").sample(frac=1, random_state=0)
    counts = sample.groupby("label").cumcount()
    sample = sample[(sample.label == 1) | (counts % 3 == 0)].iloc[rows]
    verdict = sample.label.map({0: "returned", 1: "kept"})
    return pd.DataFrame({"order": range(len(sample)), "Comment": sample.text, "verdict": verdict})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    own_reviews(slice(0, 300)).to_csv(folder / "reviews.csv", index=False)
    own_reviews(slice(300, 400)).to_json(folder / "new.jsonl", orient="records", lines=True)
    return folder


MEANING = ("data.label_column=verdict", "data.positive=kept", "data.negative=returned")


@pytest.fixture(scope="module")
def run(workspace: Path) -> Path:
    settings = ("data=files", "data.train=reviews.csv", *MEANING, "objective.pos_weight=auto")
    done = door("train", *settings, *TINY, cwd=workspace)
    assert done.returncode == 0, done.stderr
    (run,) = (workspace / "outputs" / "train").glob("*/*")
    return run


def test_a_csv_trains_and_the_run_says_what_it_did(run: Path, workspace: Path) -> None:
    log = (run / "train.log").read_text()
    assert "no data.test: 30 of 300 reviews of data.train taken for it, stratified by label" in log
    assert "no data.validation: 27 of 270 reviews" in log
    assert "243 reviews to train on, 27 to validate, 30 to test" in log
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/reviews"] == 30

    config = yaml.safe_load((run / "checkpoints" / "best" / "config.yaml").read_text())
    assert config["data"]["train"] == str(workspace / "reviews.csv")
    assert (config["data"]["negative"], config["data"]["positive"]) == ("returned", "kept")
    kept = (own_reviews(slice(0, 300)).verdict == "kept").mean()
    weight = float(config["objective"]["pos_weight"])
    assert weight == pytest.approx((1 - kept) / kept, rel=0.02)
    assert f"{100 / (1 + weight):.1f} % of the training reviews are positive" in log


def test_evaluation_finds_the_test_reviews_again(run: Path, workspace: Path) -> None:
    done = door("evaluate", f"checkpoint={run}", "runtime.threads=1", cwd=workspace)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    latest = max((workspace / "outputs" / "evaluate").glob("*/*"), key=lambda p: p.stat().st_mtime)
    again = json.loads((latest / "metrics.json").read_text())
    assert again == {tag: value for tag, value in metrics.items() if tag.startswith("test/")}
    assert "said returned    said kept" in done.stdout


@pytest.mark.parametrize("source", [("data=files", "data.label_column=verdict"), ()])
def test_evaluation_scores_another_file(
    run: Path, workspace: Path, source: tuple[str, ...]
) -> None:
    settings = (f"checkpoint={run}", *source, "data.test=new.jsonl", "runtime.threads=1")
    done = door("evaluate", *settings, cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "on 100 test reviews:" in done.stdout


def test_accuracy_is_given_by_length_and_by_any_column(run: Path, workspace: Path) -> None:
    new = pd.read_json(workspace / "new.jsonl", lines=True)
    new["shop"] = [f"shop {number % 25 * (number % 2)}" for number in range(len(new))]
    new.to_csv(workspace / "shops.csv", index=False)
    settings = (f"checkpoint={run}", "data.test=shops.csv", "runtime.threads=1")
    done = door("evaluate", *settings, "slice_by=shop", "hydra.run.dir=slices", cwd=workspace)
    assert done.returncode == 0, done.stderr
    said = pd.read_csv(workspace / "slices/predictions.csv")
    slices = pd.read_csv(workspace / "slices/slices.csv")
    right = said.label == said.prediction
    for by, rows in slices.groupby("by"):
        assert rows.reviews.sum() == 100
        assert rows.right.sum() == right.sum(), by
    by_shop = slices[slices.by == "shop"].set_index("value")
    for shop, rows in right.groupby(new.shop):
        assert by_shop.loc[shop, "accuracy"] == pytest.approx(rows.mean())
    assert (slices.by == "tokens").sum() == 4
    assert "accuracy by tokens:" in done.stdout
    assert f"shop 0           {by_shop.loc['shop 0', 'accuracy']:.4f} of 52" in done.stdout
    assert f"and {len(by_shop) - 20} more in {workspace / 'slices/slices.csv'}" in done.stdout
    done = door("evaluate", *settings, "slice_by=shoe", cwd=workspace)
    assert done.returncode == 2
    assert "no column 'shoe' beside text and label, only 'order', 'shop'" in done.stderr


def test_a_changed_file_has_lost_its_test_reviews(run: Path, workspace: Path) -> None:
    path = workspace / "reviews.csv"
    settings = (f"checkpoint={run}", "runtime.threads=1")
    again = ("data=files", f"data.train={path}", "data.label_column=verdict")
    before = path.read_text()
    own_reviews(slice(0, 310)).to_csv(path, index=False)
    drawn, named = (door("evaluate", *settings, *more, cwd=workspace) for more in ((), again))
    other = door("evaluate", *settings, "calibrate=true", "data.test=new.jsonl", cwd=workspace)
    path.write_text(before)
    for done in (drawn, named):
        assert done.returncode == 2
        assert f"{path} has changed since {run}" in done.stderr
        assert done.stderr.endswith("give others with data.test=FILE\n")
    assert other.returncode == 2
    assert "calibrate needs the validation reviews of the run" in other.stderr


def test_calibration_finds_the_validation_reviews_whatever_is_tested(tmp_path: Path) -> None:
    # Every seventh label is wrong: something to be unsure of.
    rows = [f"film {i} is {('dull', 'fine')[i % 2]},{(i + (i % 7 == 0)) % 2}\n" for i in range(300)]
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(rows))
    (tmp_path / "new.csv").write_text("text,label\n" + "".join(rows[:100]).replace("film", "play"))
    learn = (*TINY, "trainer.epochs=3", "optimizer.learning_rate=0.03", "hydra.run.dir=run")
    settings = ("checkpoint=run", "calibrate=true", "runtime.threads=1")
    doors = [("train", "data=files", "data.train=train.csv", *learn)]
    doors += [("evaluate", *settings, "hydra.run.dir=own")]
    doors += [("evaluate", *settings, "data.test=new.csv", "hydra.run.dir=other")]
    for name, *options in doors:
        done = door(name, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    own, other = (
        json.loads((tmp_path / name / "checkpoints/best/metrics.json").read_text())
        for name in ("own", "other")
    )
    assert own["validation/temperature"] == other["validation/temperature"]
    assert (own["validation/reviews"], own["test/reviews"]) == (27, 30)
    # The card is of the run's own test reviews, or of none.
    assert not [name for name in other if name.startswith("test/")]
    scored = json.loads((tmp_path / "other/metrics.json").read_text())
    assert scored["test/reviews"] == 100
    hashes = recorded_hashes(tmp_path / "run/checkpoints/best")
    assert recorded_hashes(tmp_path / "own/checkpoints/best") == hashes
    # What was scored comes beside, and the reviews of the run are still known as such.
    others = recorded_hashes(tmp_path / "other/checkpoints/best")
    assert {name: others[name] for name in hashes} == hashes
    assert set(others) - set(hashes) == {"tested on"}
    done = door("evaluate", "checkpoint=other", "runtime.threads=1", cwd=tmp_path)
    assert "on 30 test reviews" in done.stdout, done.stderr
    # Another file may have other columns.
    renamed = (tmp_path / "new.csv").read_text().replace("text,label", "said,meant")
    (tmp_path / "renamed.csv").write_text(renamed)
    columns = ("data.text_column=said", "data.label_column=meant", "data.test=renamed.csv")
    done = door("evaluate", *settings, *columns, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


CAFE = b"text,label\ncaf\xe9,1\n"


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        (CAFE, (), r"reviews\.csv is not UTF-8 in line 2 \(byte 14 of the file\)"),
        (b"text,label\na,1\nb,1\n", (), "has only the label '1'"),
        (
            b"review,stars\na,1\nb,0\n",
            (),
            "has only 'review', 'stars': name the column with data.label_column=NAME",
        ),
        (b"text,label\na,1\nb,0\n", ("data.positive=x",), r"'1' \(1 rows"),
        (CAFE, ("data.path=x",), "data.path is x, expected null with data=files"),
        (CAFE, ("data=sample",), r"data\.train is .*reviews\.csv, .*\(data=files reads your own\)"),
        (None, (), r"reviews\.csv: there is no such file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    content: bytes | None,
    overrides: tuple[str, ...],
    message: str,
    cwd: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("mine") / "reviews.csv"
    if content is not None:
        path.write_bytes(content)
    settings = ("data=files", f"data.train={path}", *overrides)
    line = fail(train.main, *settings, capsys=capsys, cwd=cwd)
    assert re.search(message, line)


def test_a_row_that_the_parser_refuses_is_one_line_and_leaves_no_cache(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"text,label\n" + b"a,b\n" * 9 + b"c,1,2\n")
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    before = set(cache.rglob("*"))
    done = door("train", "data=files", "data.train=reviews.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: cannot read data.train={path}: data row 10 has 3 fields, the header 2; a text "
        'with the separator in it has to stand in quotes ("...")\n'
    )
    assert list(tmp_path.iterdir()) == [path]
    assert set(cache.rglob("*")) == before


def test_there_is_something_to_train_on(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fail(train.main, "data=files", "data.test=x.csv", capsys=capsys, cwd=cwd)
    assert line == "error: data.train is None, expected a file to train on (data.train=reviews.csv)"
