import math
from pathlib import Path

import numpy as np
import pytest

from sentiment.errors import UserError
from sentiment.report.figures import pixels
from sentiment.report.gradients import Curve, Gate, Gates, draw_gates, draw_gradients
from sentiment.report.journal import Journal
from sentiment.report.run import GRADIENTS, read_gradients


@pytest.mark.parametrize(
    ("norms", "reach"),
    [
        ([1.0, 0.5, 0.0101, 0.0099, 1.0], 3),
        ([1.0, 2.0, 3.0], 3),
        ([1.0, 0.0], 1),
        ([0.0, 0.0], 0),
    ],
)
def test_reach_ends_where_less_than_a_hundredth_is_felt(norms: list[float], reach: int) -> None:
    assert Curve(1, "left_to_right", norms).reach == reach


def test_rows_after_the_update_that_a_run_goes_back_to_are_dropped(tmp_path: Path) -> None:
    def curves(norm: float) -> list[Curve]:
        return [Curve(1, "left_to_right", [norm, norm / 3]), Curve(1, "right_to_left", [2.0, 1.0])]

    with Journal(tmp_path) as journal:
        journal.gradients(curves(1.0), 0)
        journal.gradients(curves(3e-9), 6)
        journal.gradients(curves(7.0), 12)
    with Journal(tmp_path, {}, update=6):
        assert list(read_gradients(tmp_path)) == [0, 6]
    assert (tmp_path / GRADIENTS).read_text().splitlines()[:3] == [
        "update,layer,direction,distance,norm",
        "0,1,left_to_right,0,1",
        "0,1,left_to_right,1,0.333333",
    ]
    with Journal(tmp_path, {}, update=6) as journal:
        journal.gradients(curves(5.0), 6)
    assert read_gradients(tmp_path)[6][0].norms == [5.0, pytest.approx(5 / 3, rel=1e-5)]
    (tmp_path / GRADIENTS).write_text("update,layer\nx,1\n")
    with pytest.raises(UserError, match=r"gradients\.csv holds no gradient norms"):
        Journal(tmp_path)


def test_what_cannot_be_drawn_is_left_out() -> None:
    curves = [Curve(1, "left_to_right", [0.0, math.inf]), Curve(1, "right_to_left", [0.0, 0.0])]
    assert pixels(draw_gradients(curves, "none")).shape == (360, 640, 3)


def test_the_same_gates_give_the_same_picture_whatever_the_tokens() -> None:
    tokens = ["$x_", "\\frac{", "映画", "🙂", "", "a" * 100]
    values_TH = np.linspace(0, 1, 24).reshape(6, 4)
    first, second = (
        pixels(draw_gates(Gates(1, tokens, [Gate("forget", values_TH)]), "gates")) for _ in range(2)
    )
    assert np.array_equal(first, second)
    other = pixels(draw_gates(Gates(1, tokens, [Gate("forget", 1 - values_TH)]), "gates"))
    assert not np.array_equal(first, other)
