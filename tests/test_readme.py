"""The README's commands and snippets do what they say."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sentiment import cli
from sentiment.config import PretrainConfig
from sentiment.data.reviews import SAMPLE
from tests.conftest import compose_train

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = sorted(
    {
        command.partition("#")[0].strip()
        for command in re.findall(
            r"^(?:python|torchrun .*) -m sentiment\.(?:pre)?train(?: .*)?$", README, re.MULTILINE
        )
    }
)
BEFORE, OWN_REVIEWS = README.split("## Your own reviews\n")
SETTING = re.compile(r"^\| [a-z.].* \| `([a-z_.]+=[^`]+)`", re.MULTILINE)
SETTINGS = SETTING.findall(BEFORE)
# A setting that only goes with others is shown together with them, or with these.
SETTINGS += [f"data=files data.train=x.csv {setting}" for setting in SETTING.findall(OWN_REVIEWS)]


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) >= 3
    assert len(SETTINGS) >= 15


@pytest.mark.parametrize(
    "overrides",
    [*(c.partition("sentiment.train")[2] for c in COMMANDS if "pretrain" not in c), *SETTINGS],
)
def test_overrides_compose(overrides: str) -> None:
    compose_train(*shlex.split(overrides))


@pytest.mark.parametrize(
    "overrides", [c.partition("sentiment.pretrain")[2] for c in COMMANDS if "pretrain" in c]
)
def test_overrides_of_pretraining_compose(overrides: str) -> None:
    cli.compose_config("pretrain", PretrainConfig, shlex.split(overrides))


def masked(line: str) -> str:
    """What is the same on any machine and with any reviews."""
    return re.sub(r"\d+(\.\d+)?", "0", re.sub("positive|negative", "LABEL", line)).rstrip()


def run(command: str, folder: Path) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", command.replace("python -m", f"{sys.executable} -m")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.slow
def test_own_reviews_from_a_csv_to_predictions(tmp_path: Path) -> None:
    own = pd.read_parquet(SAMPLE / "train.parquet").sample(400, random_state=0)
    own["sentiment"] = own["label"].map({0: "negative", 1: "positive"})
    reviews = own.rename(columns={"text": "review"})[["review", "sentiment"]]
    reviews.to_csv(tmp_path / "reviews.csv", index=False)
    reviews[:20][["review"]].to_csv(tmp_path / "new.csv", index=False)
    (tmp_path / "lines.txt").write_text("\n".join(own["text"][:20]))

    session, *_ = re.findall(r"```console\n(.*?)```", OWN_REVIEWS, re.DOTALL)
    commands = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", session, re.MULTILINE)
    assert [command.split()[:3] for command, _ in commands[1:]] == [
        ["python", "-m", f"sentiment.{door}"] for door in ("train", "evaluate", "predict")
    ]
    for command, shown in commands:
        tiny = " trainer.epochs=1 model.hidden_size=8" if "sentiment.train" in command else ""
        printed = set(map(masked, run(command + tiny, tmp_path)))
        if command.startswith("head"):
            assert shown.startswith("review,sentiment\n")
            continue
        expected = [masked(line) for line in shown.splitlines() if " epoch" not in line]
        assert len(expected) >= 2
        assert [line for line in expected if line not in printed] == []

    for block in re.findall(r"```bash\n(.*?)```", OWN_REVIEWS, re.DOTALL)[:2]:
        run(block, tmp_path)
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    labelled = pd.read_csv(tmp_path / "labelled.csv")
    assert [json.loads(line)["label"] for line in lines] == labelled["prediction"].tolist()

    for heading in ("See it", "Take it elsewhere"):
        block, *_ = re.findall(rf"## {heading}\n.*?```bash\n(.*?)```", README, re.DOTALL)
        # What is installed here already, and what serves until it is stopped.
        block = re.sub(r"^(pip install|python -m sentiment\.serve) .*\n", "", block, flags=re.M)
        assert block.count("python") == 2
        run(block.replace("python exported", f"{sys.executable} exported"), tmp_path)
    assert "<html" in (tmp_path / "report.html").read_text()

    snippet, *_ = re.findall(r"```python\n(.*?)```", OWN_REVIEWS, re.DOTALL)
    (tmp_path / "snippet.py").write_text(snippet)
    assert len(run(f"{sys.executable} snippet.py", tmp_path)) == 2
