"""`report=` of the evaluation, as a user gives it."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment import evaluate, train
from sentiment.data.reviews import SAMPLE
from sentiment.report import html
from tests.cli.test_configuration import fail, run_door
from tests.conftest import write_checkpoint


def test_a_page_is_written_beside_the_figures(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(html, "EXPLAINED", 2)
    texts = pq.read_table(SAMPLE / "test.parquet")["text"].to_pylist()[:40]
    write_checkpoint(cwd / "run" / "checkpoints" / "best", texts)
    table = pa.table({"text": texts, "label": [0, 1] * 20, "rating": [2, 9] * 20})
    pq.write_table(table, cwd / "test.parquet")
    options = ("data=imdb", "data.path=.", "report=page.html", "hydra.run.dir=out")
    run_door(evaluate.main, "checkpoint=run", *options)
    assert capsys.readouterr().out.endswith("the report is in page.html\n")
    page = (cwd / "page.html").read_text("utf-8")
    said = (cwd / "out" / "predictions.csv").read_text().splitlines()[1:]
    errors = sum(len({*line.split(",")[:2]}) == 2 for line in said)
    assert page.count('class="error"') == errors > 10
    assert "Of the first 2 the words are marked" in page
    assert "Of a longer review the last 20 are read" in page
    assert "Accuracy by rating" in page


def test_what_stands_against_a_page_is_told_before_the_work(
    cwd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("checkpoint=nowhere", "report=pages/page.html")
    line = fail(evaluate.main, *options, capsys=capsys, cwd=cwd)
    assert line == "error: report=pages/page.html: there is no folder pages; make it first"
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    options = ("checkpoint=nowhere", "report=page.html")
    line = fail(evaluate.main, *options, capsys=capsys, cwd=cwd)
    assert line.endswith("pip install 'sentiment[explain]'")


@pytest.mark.slow
def test_weights_of_a_trained_checkpoint_add_up_within_a_hundredth(cwd: Path) -> None:
    from sentiment import SentimentPredictor

    learned = ("trainer.epochs=2", "model.hidden_size=32")
    run_door(train.main, "data=sample", *learned, "hydra.run.dir=run")
    predictor = SentimentPredictor.load("run")
    texts = pq.read_table(SAMPLE / "test.parquet")["text"].to_pylist()[::100]
    for found in predictor.explain(texts):
        assert found.logit is not None
        assert found.baseline is not None
        total, difference = (
            sum(token.weight for token in found.tokens),
            found.logit - found.baseline,
        )
        assert total == pytest.approx(difference, rel=0.0101, abs=0.00101)
