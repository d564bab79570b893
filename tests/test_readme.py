"""The README's commands and snippets do what they say."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from sentiment.config import DataConfig, DataSource, SplitConfig
from sentiment.data.reviews import SAMPLE, load_splits
from tests.conftest import compose_train

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = sorted(
    {
        command.partition("#")[0].strip()
        for command in re.findall(r"^python -m sentiment\.train(?: .*)?$", README, re.MULTILINE)
    }
)
SETTINGS = re.findall(r"^\| [a-z].* \| `([a-z_.]+=[^`]+)`", README, re.MULTILINE)


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) >= 4
    assert len(SETTINGS) >= 4


@pytest.mark.parametrize(
    "overrides", [*(c[len("python -m sentiment.train") :] for c in COMMANDS), *SETTINGS]
)
def test_overrides_compose(overrides: str) -> None:
    compose_train(*shlex.split(overrides))


def test_own_reviews_load_as_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = pd.read_parquet(SAMPLE / "train.parquet").sample(frac=1, random_state=0)
    own.assign(stars=3).to_csv("reviews.csv", index=False)
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(snippet, {})
    splits = load_splits(DataConfig(DataSource.imdb, "mine"), SplitConfig(0.1, 0))
    assert len(splits["test"]) == 500
    assert len(splits["train"]) + len(splits["validation"]) == 3500
