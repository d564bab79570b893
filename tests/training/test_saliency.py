import torch

from sentiment.data.encoded import EncodedTexts
from sentiment.model.classifier import Classifier
from sentiment.model.ngrams import FEATURES
from sentiment.training.saliency import saliency
from tests.conftest import compose_train

LENGTHS = (5, 1, 9)


def model_and_texts() -> tuple[Classifier, EncodedTexts]:
    torch.manual_seed(0)
    config = compose_train("model.hidden_size=8", "model.ngrams=2", "model.ngrams_size=6").model
    model = Classifier(torch.nn.Embedding(6, 4), config)
    # Every token is known, and every pair (0, token).
    model.ngrams.keys_OS.copy_(torch.arange(6))
    model.ngrams.features_OSC.normal_()
    lengths_N = torch.tensor(LENGTHS)
    ids = torch.randint(0, 3, (sum(LENGTHS),), dtype=torch.int32)
    return model, EncodedTexts(ids, lengths_N.cumsum(0) - lengths_N, lengths_N)


def test_a_weight_is_how_the_logit_moves_with_what_is_known_of_the_token() -> None:
    model, texts = model_and_texts()
    found = saliency(model, texts)
    step, pairs = 0.01, 4 + FEATURES
    for row, length in enumerate(LENGTHS):
        start = int(texts.starts_N[row])
        ids_T1 = texts.ids[start : start + length].long().unsqueeze(1)
        x_T1E = model.inputs(ids_T1).detach()
        assert x_T1E[:, :, pairs:].any() or length == 1  # some pairs are known
        for token in range(length):
            # The token's word and single n-gram, and half of the two pairs that it is part of.
            share_T1E = torch.zeros_like(x_T1E)
            share_T1E[token, :, :pairs] = 1
            share_T1E[token : token + 2, :, pairs:] = 0.5
            with torch.no_grad():
                above, below = (
                    model.logits(x_T1E * (1 + sign * step * share_T1E), torch.tensor([length]))
                    for sign in (1, -1)
                )
            slope = (above - below).item() / (2 * step)
            assert abs(found[row][token].item() - slope) < 1e-4
    assert max(weights_T.abs().max() for weights_T in found) > 0.01


def test_model_and_generator_stay_as_they_are() -> None:
    model, texts = model_and_texts()
    before = [weight.clone() for weight in model.state_dict().values()]
    generator = torch.get_rng_state()
    first, second = saliency(model, texts), saliency(model, texts)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(weight.grad is None for weight in model.parameters())
    assert all(map(torch.equal, before, model.state_dict().values()))
