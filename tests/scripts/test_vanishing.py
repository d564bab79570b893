from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from scripts.vanishing import draw, read_runs, table
from sentiment.config import Cell
from sentiment.errors import UserError
from sentiment.report.gradients import Curve
from sentiment.report.run import write_gradients, write_metrics
from tests.conftest import compose_train


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    config = compose_train("experiment=vanishing")
    for job, (cell, norm) in enumerate(((Cell.rnn, 1.0), (Cell.lstm, float("inf")))):
        config.model = replace(config.model, cell=cell)
        config.optimizer = replace(config.optimizer, max_gradient_norm=norm)
        run = tmp_path / "sweep" / str(job)
        (run / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.structured(config), run / ".hydra/config.yaml")
        norms = [0.5 * (0.8 + 0.1 * job) ** distance for distance in range(120)]
        curves = {
            0: [Curve(1, "left_to_right", norms)],
            9: [Curve(1, "left_to_right", [0.5] * 120)],
        }
        write_gradients(run, curves)
        write_metrics(run, {"validation/accuracy": 0.6 + job / 10})
    return tmp_path / "sweep"


def test_a_figure_and_its_numbers_come_from_the_runs(sweep: Path) -> None:
    runs = read_runs(sweep)
    shown = [line.split() for line in table(runs)]
    assert shown[1] == ["RNN:", "update", "0", "0.5", "1e-10", "1.5e-12", "2e-10", "21"]
    assert shown[2] == ["RNN:", "update", "9", "0.5", "0.5", "0.5", "1", "120"]
    assert " ".join(shown[4][:7]) == "LSTM, forget bias 1, no clipping: update"
    assert " ".join(shown[6][-3:]) == "validation accuracy 0.7000"
    draw(runs, sweep / "all.png")
    assert (sweep / "all.png").read_bytes().startswith(b"\x89PNG")


def test_reviews_shorter_than_100_tokens_have_no_norm_there(sweep: Path) -> None:
    curve = Curve(1, "left_to_right", [0.5] * 40)
    run = read_runs(sweep)[0]._replace(before=[curve], after=[curve])
    shown = list(table([run]))[1].split()
    assert shown == ["RNN:", "update", "0", "0.5", "nan", "0.5", "nan", "40"]


def test_a_folder_without_finished_runs_is_refused(sweep: Path) -> None:
    (sweep / "1/metrics.json").unlink()
    with pytest.raises(UserError, match=r"1 is not finished; .* resume="):
        read_runs(sweep)
    with pytest.raises(UserError, match="expected a run or the folder of a sweep"):
        read_runs(sweep / "0/.hydra")
