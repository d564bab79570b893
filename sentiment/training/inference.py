"""Logits of whole data sets."""

import torch
from torch import Tensor

from sentiment.data.batches import pad, sorted_batches
from sentiment.data.encoded import EncodedTexts
from sentiment.model.classifier import Classifier
from sentiment.training.runtime import Runtime

BATCH_SIZE = 128
MAX_TOKENS = 65_536  # bounds the memory of a batch where whole reviews are read


@torch.inference_mode()
def predict_logits(model: Classifier, texts: EncodedTexts, runtime: Runtime) -> Tensor:
    """Logit of every text, in their order.

    Batches are the same in every call: in bfloat16 the company that a text keeps can move its
    logit in the last digits.

    Returns:
        float32 `[N]` on the CPU.
    """
    model.eval()
    logits_N = torch.empty(len(texts), device=runtime.device)
    for rows in sorted_batches(texts.lengths_N.numpy(), BATCH_SIZE, MAX_TOKENS):
        ids_TB, lengths_B = pad(texts, rows)
        with runtime.autocast():
            logits_B = model(ids_TB.to(runtime.device), lengths_B.to(runtime.device))
        logits_N[torch.from_numpy(rows)] = logits_B
    return logits_N.cpu()
