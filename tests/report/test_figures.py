from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from sentiment.report.figures import confusion_matrix, pixels, reliability_diagram, save
from sentiment.report.metrics import calibration

COUNTS = {"true_negatives": 80, "false_positives": 20, "false_negatives": 1, "true_positives": 1999}


def texts(figure: Figure) -> list[str]:
    axes = figure.axes
    labels = (part for a in axes for part in (*a.get_xticklabels(), *a.get_yticklabels()))
    titles = (part for a in axes for part in (a.title, a.xaxis.label, a.yaxis.label))
    return [part.get_text() for part in (*labels, *titles, *(t for a in axes for t in a.texts))]


def test_the_confusion_matrix_has_the_counts_under_the_names_of_the_labels() -> None:
    figure = confusion_matrix(COUNTS, ("one star", "five stars"))
    (axes,) = figure.axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {
        (0, 0): "80\n80.0%",
        (1, 0): "20\n20.0%",
        (0, 1): "1\n0.1%",
        (1, 1): "1,999\n100.0%",
    }
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "label")
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["one star", "five stars"]


def test_the_reliability_diagram_has_a_point_and_a_count_per_bin() -> None:
    logits_N = torch.logit(torch.tensor([0.05, 0.05, 0.05, 0.95]))
    found = calibration(logits_N, torch.tensor([0, 0, 1, 1]), bins=10)
    figure = reliability_diagram(found, "good")
    above, below = figure.axes
    _, line = above.lines
    points = np.asarray(line.get_xydata())
    np.testing.assert_allclose(points, [[0.05, 1 / 3], [0.95, 1]], atol=1e-6)
    assert [text.get_text() for text in below.texts] == ["3", "1"]
    assert "share that is good" in texts(figure)
    assert "expected calibration error 0.2250" in texts(figure)  # (3 * (1/3 - .05) + .05) / 4


def test_a_picture_is_the_same_twice_whatever_the_labels_are_called() -> None:
    for name in ("$x^", "一星", "a" * 300):  # mathematics, no glyphs, too long
        first, second = (pixels(confusion_matrix(COUNTS, (name, "good"))) for _ in range(2))
        assert first.shape == (400, 400, 3)
        assert np.array_equal(first, second)
    calibrated = calibration(torch.zeros(3), torch.tensor([0, 1, 1]))
    assert pixels(reliability_diagram(calibrated, "$x^")).std() > 0


def test_a_saved_picture_is_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        found = calibration(torch.tensor([-1.0, 2.0]), torch.tensor([0, 1]))
        save(reliability_diagram(found, "positive"), tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"Matplotlib" not in (tmp_path / "a.png").read_bytes()
