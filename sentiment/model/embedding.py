"""What word vectors start from. Row 0, the padding, is 0 and stays so.

Shapes: V vocabulary, E width of a word vector.
"""

import torch
from torch import nn

from sentiment.text.glove import WordVectors
from sentiment.text.tokenizer import PAD_ID

RANDOM_STD = 0.1


def random_embedding(vocabulary_size: int, dimension: int) -> nn.Embedding:
    """Normally distributed vectors, `[V, E]`."""
    embedding = nn.Embedding(vocabulary_size, dimension, padding_idx=PAD_ID)
    with torch.no_grad():
        embedding.weight.normal_(std=RANDOM_STD)
        embedding.weight[PAD_ID] = 0
    return embedding


def pretrained_embedding(vectors: WordVectors, freeze: bool) -> nn.Embedding:
    """The given vectors `[V, E]`; words without one get random ones of the same spread."""
    values_VE, found_V = (
        torch.from_numpy(vectors.values_VE),
        torch.from_numpy(vectors.found_V),
    )
    spread = values_VE[found_V].std().item() if found_V.any() else RANDOM_STD
    random_VE = torch.empty_like(values_VE).normal_(std=spread)
    embedding = nn.Embedding(len(values_VE), values_VE.shape[1], padding_idx=PAD_ID)
    with torch.no_grad():
        embedding.weight.copy_(torch.where(found_V.unsqueeze(1), values_VE, random_VE))
        embedding.weight[PAD_ID] = 0
    embedding.weight.requires_grad = not freeze
    return embedding
