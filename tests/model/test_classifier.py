import pytest
import torch
from torch import nn

from sentiment.config import ModelConfig, Pooling
from sentiment.model.classifier import Classifier
from sentiment.model.embedding import pretrained_embedding
from sentiment.text.tokenizer import PAD_ID
from sentiment.text.vectors import WordVectors


def classifier(*pooling: Pooling) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig(2, 8, 0.5, 0.3, pooling=list(pooling), word_dropout=0.1, freeze=[])
    return Classifier(nn.Embedding(20, 6), config)


@pytest.mark.parametrize("pooling", [*Pooling, tuple(Pooling)], ids=str)
def test_company_and_padding_of_a_review_do_not_change_its_logit(
    pooling: Pooling | tuple[Pooling, ...],
) -> None:
    model = classifier(*(pooling if isinstance(pooling, tuple) else (pooling,))).eval()
    short, long = torch.tensor([3, 4, 5]), torch.tensor([6, 7, 8, 9, 10, 11])
    alone = model(short.unsqueeze(1), torch.tensor([3]))
    ids_TB = torch.full((6, 2), PAD_ID)
    ids_TB[:3, 0], ids_TB[:, 1] = short, long
    together = model(ids_TB, torch.tensor([3, 6]))
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=0)
    assert together.shape == (2,)


@pytest.mark.parametrize("pooling", Pooling)
def test_padding_gets_no_gradient(pooling: Pooling) -> None:
    model = classifier(pooling)
    ids_TB, lengths_B = torch.tensor([[3, 6], [4, PAD_ID], [5, PAD_ID]]), torch.tensor([3, 1])
    model(ids_TB, lengths_B).sum().backward()
    gradient_VE = model.embedding.weight.grad
    assert gradient_VE is not None
    assert gradient_VE[PAD_ID].count_nonzero() == 0
    assert gradient_VE[3:7].count_nonzero() > 0


def test_final_pooling_joins_the_last_state_of_each_direction() -> None:
    model = classifier(Pooling.final).eval()
    ids_TB, lengths_B = torch.tensor([[3, 6], [4, 7], [5, 0]]), torch.tensor([3, 2])
    outputs_TBH, _ = model.encoder(model.embedding(ids_TB), lengths_B)
    at_end = torch.stack([outputs_TBH[2, 0, :8], outputs_TBH[1, 1, :8]])
    pooled = torch.cat([at_end, outputs_TBH[0, :, 8:]], dim=1)
    torch.testing.assert_close(model(ids_TB, lengths_B), model.output(pooled).squeeze(1))


def test_mean_and_max_pooling_by_hand() -> None:
    ids_TB, lengths_B = torch.tensor([[3, 6], [4, 7], [5, 0]]), torch.tensor([3, 2])
    for pooling, reduce in ((Pooling.mean, torch.mean), (Pooling.max, torch.amax)):
        model = classifier(pooling).eval()
        outputs_TBH, _ = model.encoder(model.embedding(ids_TB), lengths_B)
        pooled = torch.stack([reduce(outputs_TBH[:3, 0], dim=0), reduce(outputs_TBH[:2, 1], dim=0)])
        torch.testing.assert_close(model(ids_TB, lengths_B), model.output(pooled).squeeze(1))


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 on this processor"
)
def test_logits_stay_float32_under_bfloat16() -> None:
    model, ids_TB = classifier(*Pooling).eval(), torch.tensor([[3, 6], [4, 7]])
    exact = model(ids_TB, torch.tensor([2, 2]))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(ids_TB, torch.tensor([2, 2]))
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0)


def test_pretrained_vectors_are_kept_and_missing_words_get_random_ones() -> None:
    values = torch.arange(12, dtype=torch.float32).view(4, 3)
    found = torch.tensor([False, False, True, True])
    vectors = WordVectors(values.numpy(), found.numpy())
    embedding = pretrained_embedding(vectors, std=None)
    assert torch.equal(embedding.weight[2:], values[2:])
    assert embedding.weight[:2].abs().min() > 0
