import os

import numpy as np
import pytest
import torch

from sentiment.config import Device, Kernel, Precision, RuntimeConfig
from sentiment.data.encoded import EncodedTexts
from sentiment.model.classifier import Classifier
from sentiment.training.inference import predict_logits
from sentiment.training.runtime import prepare
from tests.conftest import compose_train

CACHE = os.environ["SENTIMENT_CACHE"]


@pytest.mark.parametrize("kernel", [Kernel.plain, Kernel.auto])
def test_logits_are_in_order_and_the_same_on_any_number_of_threads(kernel: Kernel) -> None:
    torch.manual_seed(0)
    config = compose_train("model.hidden_size=32").model
    model = Classifier(torch.nn.Embedding(50, 8), config)
    lengths_N = torch.from_numpy(np.random.default_rng(0).integers(1, 60, size=300))
    ids = torch.randint(2, 50, (int(lengths_N.sum()),), dtype=torch.int32)
    texts = EncodedTexts(ids, lengths_N.cumsum(0) - lengths_N, lengths_N)

    found = []
    for threads in (1, 3):
        runtime = prepare(
            RuntimeConfig(Device.cpu, Precision.float32, threads, False, CACHE, kernel)
        )
        found.append(predict_logits(model, texts, runtime))
        assert torch.get_num_threads() == threads  # training goes on as before
    assert torch.equal(found[0], found[1])

    model.eval()
    with torch.no_grad():
        for row in (0, 150, 299):
            start, length = int(texts.starts_N[row]), int(lengths_N[row])
            alone = model(ids[start : start + length].long().unsqueeze(1), lengths_N[row : row + 1])
            torch.testing.assert_close(found[0][row : row + 1], alone, atol=1e-5, rtol=0)
