import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sentiment.errors import UserError
from sentiment.report.result import (
    Result,
    read_results,
    result_path,
    without_places,
    write_result,
)


def make_result(
    right: list[bool], *, seed: int = 0, kind: str = "grouped", tests: str = "a", gap: float = 0.0
) -> Result:
    """A run that tells these test reviews right, and does `gap` better on validation."""
    accuracy = float(np.mean(right))
    return Result(
        command=f"python -m sentiment.train data.path=DIR seed={seed}",
        seed=seed,
        split={"validation_fraction": 0.1, "seed": 0, "kind": kind},
        environment={"git_commit": "c", "device": "EPYC", "data_sha256": {"test": tests}},
        history=[{"epoch": 1.0, "validation/accuracy": accuracy + gap}],
        metrics={
            **{"validation/accuracy": accuracy + gap, "test/accuracy": accuracy},
            "test/auroc": (1 + accuracy) / 2,
        },
        seconds=90,
        right_N=np.array(right),
    )


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1003])
def test_a_raw_file_holds_the_whole_run(tmp_path: Path, count: int) -> None:
    right_N = np.random.default_rng(count).random(count) < 0.9
    result = make_result(right_N.tolist(), seed=3)
    path = write_result(tmp_path, "default", result)
    assert path == tmp_path / "default/split-0-seed-3.json"
    assert path.stat().st_size < 1000 + count / 5
    (found,) = read_results(tmp_path)["default"]
    assert np.array_equal(found.right_N, right_N)
    assert replace(found, right_N=result.right_N) == result


def test_commands_lose_their_places_and_nothing_else() -> None:
    overrides = ["data.path=/home/me/imdb", "embeddings.path=~/v=1.txt", "model.pooling=[max,mean]"]
    shown = ["data.path=DIR", "embeddings.path=FILE", "model.pooling=[max,mean]"]
    assert without_places(overrides) == shown
    assert without_places(["data=files", "data.train=/home/me/own.csv"]) == [
        "data=files",
        "data.train=FILE",
    ]
    assert without_places(["init_from=outputs/a", "experiment=x"]) == [
        "init_from=RUN",
        "experiment=x",
    ]


def test_runs_of_a_row_differ_in_their_seeds_only(tmp_path: Path) -> None:
    first = make_result([True, False])
    write_result(tmp_path, "default", first)
    write_result(tmp_path, "default", make_result([True, False], seed=1))
    other = replace(first, seed=2, command=f"{first.command} model.layers=1")
    with pytest.raises(UserError, match=r"default holds runs of .*give these runs another name"):
        write_result(tmp_path, "default", other)
    assert len(read_results(tmp_path)["default"]) == 2
    write_result(tmp_path, "one-layer", other)
    assert list(read_results(tmp_path)) == ["default", "one-layer"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a b"])
def test_a_row_has_a_plain_name(name: str) -> None:
    with pytest.raises(UserError, match="expected lower-case letters"):
        result_path(Path("results"), name, 0, 0)


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    path = write_result(tmp_path, "default", make_result([True, False]))
    values = json.loads(path.read_text())
    values["metrics"]["test/accuracy"] = 0.9
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"says 0\.9 of its test reviews are right, and 0\.5"):
        read_results(tmp_path)
    path.write_text("{}")
    with pytest.raises(UserError, match="is no raw file of a result"):
        read_results(tmp_path)
