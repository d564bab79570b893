import copy

import torch
from torch import nn

from sentiment.config import Cell
from sentiment.model.classifier import Classifier
from sentiment.training.transfer import adopt_settings
from tests.conftest import compose_train


def test_the_kind_of_cell_comes_with_the_encoder() -> None:
    source = compose_train("model=gru", "model.bidirectional=false", "model.ngrams=0")
    config = copy.deepcopy(source)
    config.model.cell, config.model.bidirectional, config.model.hidden_size = Cell.rnn, True, 8
    adopt_settings(config, source)
    loaded, model = (Classifier(nn.Embedding(9, 100), c.model) for c in (source, config))
    model.encoder.load_state_dict(loaded.encoder.state_dict())
    assert model(torch.tensor([[2], [3]]), torch.tensor([2])).shape == (1,)
