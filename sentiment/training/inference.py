"""Logits of whole data sets."""

import torch
from torch import Tensor

from sentiment.data.batches import collate, sorted_batches
from sentiment.data.encoding import EncodedReviews
from sentiment.model.classifier import Classifier
from sentiment.training.runtime import Runtime

BATCH_SIZE = 128


@torch.inference_mode()
def predict_logits(model: Classifier, reviews: EncodedReviews, runtime: Runtime) -> Tensor:
    """Logit of every review, in their order.

    Batches are the same in every call: in bfloat16 the company that a review keeps can move its
    logit in the last digits.

    Returns:
        float32 `[N]` on the CPU.
    """
    model.eval()
    batches = sorted_batches(reviews.lengths_N.numpy(), BATCH_SIZE)
    logits_N = torch.empty(len(reviews), device=runtime.device)
    for rows in batches:
        batch = collate(reviews, rows, runtime.device)
        with runtime.autocast():
            logits_N[torch.from_numpy(rows)] = model(batch.ids_TB, batch.lengths_B)
    return logits_N.cpu()
