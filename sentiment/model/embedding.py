"""What word vectors start from.

Shapes: V vocabulary, E width of a word vector.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sentiment.config import EmbeddingsConfig, EmbeddingSource
from sentiment.text.glove import WordVectors, read_glove

log = logging.getLogger(__name__)

RANDOM_STD = 0.3


def build_embedding(
    config: EmbeddingsConfig, vocabulary: Mapping[str, int], ids: Tensor
) -> tuple[nn.Embedding, dict[str, float]]:
    """Make the embedding that the configuration asks for.

    Args:
        config: where vectors come from.
        vocabulary: ids by word.
        ids: tokens of the training reviews, to count what the vectors cover.

    Returns:
        The embedding `[V, E]`, and the share of words and tokens covered (nothing if random).

    Raises:
        UserError: a file of vectors that cannot be used.
    """
    if config.source is EmbeddingSource.random:
        assert config.dimension is not None
        return random_embedding(len(vocabulary), config.dimension), {}
    assert config.path is not None
    path = Path(os.path.expanduser(config.path))
    vectors = read_glove(path, vocabulary, config.dimension)
    coverage = vectors.coverage(ids.numpy())
    of_words, of_tokens = (100 * share for share in coverage.values())
    log.info("%s has %.2f %% of the words, %.2f %% of the tokens", path.name, of_words, of_tokens)
    return pretrained_embedding(vectors), coverage


def random_embedding(vocabulary_size: int, dimension: int) -> nn.Embedding:
    """Normally distributed vectors, `[V, E]`."""
    embedding = nn.Embedding(vocabulary_size, dimension)
    nn.init.normal_(embedding.weight, std=RANDOM_STD)
    return embedding


def pretrained_embedding(vectors: WordVectors) -> nn.Embedding:
    """The given vectors `[V, E]`; words without one get random ones of the same spread."""
    values_VE, found_V = (torch.from_numpy(vectors.values_VE), torch.from_numpy(vectors.found_V))
    spread = values_VE[found_V].std(correction=0).item() if found_V.any() else RANDOM_STD
    random_VE = torch.empty_like(values_VE).normal_(std=spread)
    embedding = nn.Embedding(*values_VE.shape)
    with torch.no_grad():
        embedding.weight.copy_(torch.where(found_V.unsqueeze(1), values_VE, random_VE))
    return embedding
