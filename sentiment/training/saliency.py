"""What each token adds to a logit, at the price of one step back: gradient times input.

The gradient says how the logit moves with what the encoder reads (Simonyan et al., 2013); times
what it reads, this is the first-order estimate of what would be lost without it (Shrikumar et al.,
2017). A word vector's share goes to its token, that of an n-gram's features in equal parts to the
tokens of the n-gram.

Shapes: N texts, T time, B batch, E width of word vectors and features of n-grams together.
"""

import torch
from torch import Tensor

from sentiment.data.batches import pad, send, sorted_batches
from sentiment.data.encoded import EncodedTexts
from sentiment.model.classifier import Classifier
from sentiment.model.ngrams import FEATURES
from sentiment.training.inference import BATCH_SIZE, MAX_TOKENS


def saliency(model: Classifier, texts: EncodedTexts) -> list[Tensor]:
    """Weight of every token of every text, in float32 whatever the precision.

    Weights, gradients and random states of the model stay as they are; it is in evaluation mode
    afterwards.

    Returns:
        For each text float32 `[T]` on the CPU; above 0 for what speaks for the label 1.
    """
    model.eval()
    device = model.output.weight.device
    weights: dict[int, Tensor] = {}
    for rows in sorted_batches(texts.lengths_N.numpy(), BATCH_SIZE, MAX_TOKENS):
        ids_TB, lengths_B = (send(tensor, device) for tensor in pad(texts, rows))
        with torch.no_grad():
            x_TBE = model.inputs(ids_TB)
        x_TBE.requires_grad_()
        # cuDNN differentiates recurrent layers in training mode only.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            (gradient_TBE,) = torch.autograd.grad(model.logits(x_TBE, lengths_B).sum(), x_TBE)
        shares_TBE = (gradient_TBE * x_TBE).detach()
        weights_BT = _of_tokens(shares_TBE, model.embedding.embedding_dim).T.cpu()
        lengths = lengths_B.tolist()
        for row, weights_T, length in zip(rows.tolist(), weights_BT, lengths, strict=True):
            weights[row] = weights_T[:length]
    return [weights[row] for row in range(len(texts))]


def _of_tokens(shares_TBE: Tensor, dimension: int) -> Tensor:
    """Add up what belongs to each token, `[T, B]`; the features of n-grams stand at their ends."""
    weights_TB = shares_TBE[:, :, :dimension].sum(dim=2)
    of_ngrams = torch.split(shares_TBE[:, :, dimension:], FEATURES, dim=2)
    for tokens, share_TBC in enumerate(of_ngrams, start=1):
        part_TB = share_TBC.sum(dim=2) / tokens
        for back in range(tokens):
            weights_TB[: len(part_TB) - back] += part_TB[back:]
    return weights_TB
