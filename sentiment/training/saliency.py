"""What each token adds to a logit, at the price of one step back: gradient times input.

The gradient says how the logit moves with what the encoder reads (Simonyan et al., 2013); times
what it reads, this is the first-order estimate of what would be lost without it (Shrikumar et al.,
2017).

Shapes: N texts, T time, B batch, E width of word vectors and features of n-grams together.
"""

import torch
from torch import Tensor

from sentiment.data.batches import pad, send, sorted_batches
from sentiment.data.encoded import EncodedTexts
from sentiment.model.classifier import Classifier
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
        weights_BT = model.of_tokens(shares_TBE).T.cpu()
        lengths = lengths_B.tolist()
        for row, weights_T, length in zip(rows.tolist(), weights_BT, lengths, strict=True):
            weights[row] = weights_T[:length]
    return [weights[row] for row in range(len(texts))]
