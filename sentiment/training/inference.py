"""Logits of whole data sets."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sentiment.data.batches import pad, send, sorted_batches
from sentiment.data.encoded import EncodedTexts
from sentiment.model.classifier import Classifier
from sentiment.training.runtime import Runtime

BATCH_SIZE = 64
MAX_TOKENS = 16_384  # with padding: bounds the memory of a batch of long texts
TIMES_ON_GPU = 8  # as much at once, which takes it hardly longer


def predict_logits(model: Classifier, texts: EncodedTexts, runtime: Runtime) -> Tensor:
    """Logit of every text, in their order.

    Batches are the same in every call: in bfloat16 the company that a text keeps can move its
    logit in the last digits. On a CPU every thread computes batches of its own, which is faster
    than to divide each of an LSTM's many small steps, and gives the same on any number of threads.
    Of several processes each computes its share of the batches, and gets all logits.

    Returns:
        float32 `[N]` on the CPU.
    """
    model.eval()
    logits_N = torch.zeros(len(texts), device=runtime.device)

    def compute(rows: NDArray[np.int64]) -> None:
        ids_TB, lengths_B = pad(texts, rows)
        with torch.inference_mode(), runtime.autocast():
            logits_B = model(send(ids_TB, runtime.device), send(lengths_B, runtime.device))
            logits_N[send(torch.from_numpy(rows), runtime.device)] = logits_B

    times = TIMES_ON_GPU if runtime.device.type == "cuda" else 1
    batches = runtime.processes.share(
        sorted_batches(texts.lengths_N.numpy(), times * BATCH_SIZE, times * MAX_TOKENS)
    )
    if runtime.device.type == "cpu" and len(batches) > 1:
        with one_thread_each() as pool:
            list(pool.map(compute, batches))
    else:
        for rows in batches:
            compute(rows)
    return runtime.processes.sum(logits_N).cpu()


def word_logits(model: Classifier, runtime: Runtime) -> Tensor:
    """For every id of the vocabulary the logit of the text that is this token and nothing else.

    Returns:
        float32 `[V]` on the CPU.
    """
    ids_V = torch.arange(model.embedding.num_embeddings)
    return predict_logits(model, EncodedTexts(ids_V.int(), ids_V, torch.ones_like(ids_V)), runtime)


@contextlib.contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """As many workers as torch has threads, each of which computes alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # read by a thread when it first computes
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)
