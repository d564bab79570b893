import sys
from pathlib import Path

import pytest

from scripts import label_efficiency
from sentiment import cli
from sentiment.report.result import write_result
from tests.report.test_result import make_result


def test_a_picture_and_its_numbers_come_from_the_raw_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["label_efficiency.py", "--output", "curve.png"])
    with pytest.raises(SystemExit):
        label_efficiency.main()
    assert "has no such runs; --seeds=1 makes some" in capsys.readouterr().err
    for root, name, right in (
        ("results/labels", "100-alone", 7),
        ("results/labels", "100-pretrained", 8),
        ("results", "best", 9),
    ):
        for seed in range(2):
            result = make_result([True] * right + [False] * (10 - right), seed=seed)
            write_result(Path(root), name, result)
    label_efficiency.main()
    lines = capsys.readouterr().out.splitlines()
    more = "and texts without labels (pretraining)"
    assert lines == [
        "   100 labels, labels alone: 70.00 (2 runs)",
        " 22500 labels, labels alone: 90.00 (2 runs)",
        f"   100 labels, {more}: 80.00 (2 runs)",
    ]
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")


def test_runs_differ_in_labels_and_in_what_they_start_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, list[str]] = {}

    def note(name: str, seeds: int, given: list[str], root: Path) -> None:
        assert (seeds, root) == (3, Path("results/labels"))
        asked[name] = given

    monkeypatch.setattr(label_efficiency.results, "run", note)
    label_efficiency.train(["data.path=DIR"], 3, Path("language"))
    assert list(asked) == [
        f"{labels}-{kind}" for labels in (100, 500, 2500) for kind in ("alone", "pretrained")
    ]
    for name, given in asked.items():
        config = cli.compose_train([*given, "seed=2"])
        assert config.split.labelled == int(name.split("-")[0])
        assert config.split.seed == 2
        assert config.init_from == ("language" if name.endswith("-pretrained") else None)


def test_what_to_start_from_must_be_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["label_efficiency.py", "--seeds=1", "--output", "x.png"])
    with pytest.raises(SystemExit):
        label_efficiency.main()
    assert "--seeds needs --language" in capsys.readouterr().err


def test_nothing_is_trained_for_a_picture_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(label_efficiency, "train", pytest.fail)
    command = ["label_efficiency.py", "--seeds=1", "--language=RUN", "--output"]
    for output, reason in (
        (tmp_path, "is a folder, expected a file to write"),
        (tmp_path / "none" / "x.png", f"there is no folder {tmp_path / 'none'}"),
    ):
        monkeypatch.setattr(sys, "argv", [*command, str(output)])
        with pytest.raises(SystemExit) as stop:
            label_efficiency.main()
        assert stop.value.code == 2
        assert reason in capsys.readouterr().err
