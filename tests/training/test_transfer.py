import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sentiment.config import Cell
from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.training.checkpoint import load_checkpoint
from sentiment.training.transfer import adopt_settings, require_same_split
from tests.conftest import compose_train, write_checkpoint


def test_the_kind_of_cell_comes_with_the_encoder() -> None:
    source = compose_train("model=gru", "model.bidirectional=false", "model.ngrams=0")
    config = copy.deepcopy(source)
    config.model.cell, config.model.bidirectional, config.model.hidden_size = Cell.rnn, True, 8
    adopt_settings(config, source)
    loaded, model = (Classifier(nn.Embedding(9, 100), c.model) for c in (source, config))
    model.encoder.load_state_dict(loaded.encoder.state_dict())
    assert model(torch.tensor([[2], [3]]), torch.tensor([2])).shape == (1,)


@pytest.mark.parametrize(
    ("trained_with", "now", "message"),
    [
        (["data=sample"], ["data=sample"], None),
        (["data=sample"], ["data=sample", "split.seed=1"], "split.seed is 1, but .* with 0 and"),
        (["data.train=a.csv"], ["data.train=a.csv"], None),
        (
            ["data.train=a.csv", "data.group_column=shop"],
            ["data.train=a.csv"],
            "data.group_column is null, but teacher=.* was trained with shop",
        ),
        (
            ["data.train=a.csv", "data.test=b.csv"],
            ["data.train=a.csv"],
            r"data.test is null, but teacher=.* was trained with b\.csv",
        ),
        (["data.train=a.csv", "data.test=b.csv"], ["data.train=c.csv"], None),
        (["data.train=a.csv", "data.test=b.csv"], ["data.train=a.csv", "data.test=d.csv"], None),
        (["data=sample", "split.labelled=20"], ["data=sample", "split.labelled=30"], None),
        (["data=sample", "split.labelled=20"], ["data=sample"], None),
        (
            ["data=sample"],
            ["data=sample", "split.labelled=20"],
            "split.labelled is 20, but",
        ),
    ],
)
def test_a_run_of_another_split_has_seen_what_is_set_aside(
    tmp_path: Path, trained_with: list[str], now: list[str], message: str | None
) -> None:
    config, was = (
        compose_train(*([] if "data=sample" in options else ["data=files"]), *options)
        for options in (now, trained_with)
    )
    teacher = load_checkpoint(write_checkpoint(tmp_path / "teacher", ["a good film"]))
    teacher = replace(teacher, config=was)
    if message is None:
        require_same_split(config, teacher, "teacher")
    else:
        with pytest.raises(UserError, match=message):
            require_same_split(config, teacher, "teacher")
