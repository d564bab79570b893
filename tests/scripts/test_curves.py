import sys
from pathlib import Path

import pytest

from scripts import curves
from sentiment.errors import UserError

LANGUAGE = """epoch,update,train/loss,validation/loss,validation/perplexity_left_to_right
1,10,5.1,5,150.5
2,20,4.8,4.7,110
"""
CLASSIFIER = """epoch,update,train/loss,train/accuracy,validation/loss,validation/accuracy
1,10,0.3,0.85,0.25,0.9012
"""


def test_perplexity_and_accuracy_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, history in (("language", LANGUAGE), ("alone", CLASSIFIER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.csv").write_text(history)
    monkeypatch.setattr(sys, "argv", ["curves.py", "language", "alone", "--output", "both.png"])
    curves.main()
    assert capsys.readouterr().out.splitlines() == [
        "language, left to right: validation perplexity 150.5, 110.0",
        "alone: validation accuracy, % 90.1",
    ]
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["curves.py", str(tmp_path), "--output", "both.png"])
    with pytest.raises(SystemExit):
        curves.main()
    assert (
        "has no history.csv, expected a run that has finished an epoch" in capsys.readouterr().err
    )


def test_a_run_without_a_finished_epoch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,update,validation/accuracy\n")
    with pytest.raises(UserError, match=r"history\.csv has no rows, expected one for each epoch"):
        curves.read_curves([tmp_path])


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        (LANGUAGE + "3,30\n", "is damaged"),
        (LANGUAGE.replace("110", "many"), "is damaged: .*'many'; expected a number per epoch"),
        ("epoch,update\n1,10\n", "has neither validation/accuracy nor validation/perplexity_"),
    ],
)
def test_a_history_that_cannot_be_drawn_is_refused(
    history: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "history.csv").write_text(history)
    with pytest.raises(UserError, match=rf"history\.csv {reason}"):
        curves.read_curves([tmp_path])
