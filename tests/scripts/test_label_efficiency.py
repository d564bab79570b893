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
    for name, right in (("labels-100", 7), ("labels-100-taught", 8), ("best", 9)):
        for seed in range(2):
            result = make_result([True] * right + [False] * (10 - right), seed=seed)
            write_result(Path("results"), name, result)
    label_efficiency.main()
    lines = capsys.readouterr().out.splitlines()
    taught = "and texts without labels (self-training)"
    assert lines == [
        "   100 labels, labels alone: 70.00 (2 runs)",
        " 22500 labels, labels alone: 90.00 (2 runs)",
        f"   100 labels, {taught}: 80.00 (2 runs)",
    ]
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")


def test_each_student_is_taught_by_the_run_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[str]] = {}
    monkeypatch.setattr(
        label_efficiency.results, "run", lambda name, seeds, given: asked.update({name: given})
    )
    label_efficiency.train(["data.path=DIR"], seeds=3)
    assert list(asked) == [
        f"labels-{labels}{kind}" for labels in (100, 500, 2500) for kind in ("", "-taught")
    ]
    for name, given in asked.items():
        config = cli.compose_train([*given, "seed=2"])
        assert config.split.labelled == int(name.split("-")[1])
        assert config.split.seed == 2
        place = f"outputs/results/{name.removesuffix('-taught')}/split-2-seed-2"
        assert config.teacher == (place if name.endswith("-taught") else None)
