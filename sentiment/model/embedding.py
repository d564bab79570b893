"""What word vectors start from.

Shapes: V vocabulary, E width of a word vector.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sentiment.config import EmbeddingsConfig
from sentiment.text.vectors import WordVectors, read_vectors

log = logging.getLogger(__name__)


def build_embedding(
    config: EmbeddingsConfig, file: Path | None, vocabulary: Mapping[str, int], ids: Tensor
) -> tuple[nn.Embedding, dict[str, float]]:
    """Make the embedding that the configuration asks for.

    Args:
        config: width, and spread of random vectors.
        file: of vectors; `None`: they are random.
        vocabulary: ids by word.
        ids: tokens of the training reviews, to count what the vectors cover.

    Returns:
        The embedding `[V, E]`, and the share of words and tokens covered (nothing if random).

    Raises:
        UserError: a file of vectors that cannot be used.
    """
    if file is None:
        assert config.dimension is not None
        assert config.std is not None
        size = max(vocabulary.values()) + 1
        return random_embedding(size, config.dimension, config.std), {}
    vectors = read_vectors(file, vocabulary, config.dimension)
    coverage = vectors.coverage(ids.numpy())
    of_words, of_tokens = (100 * share for share in coverage.values())
    log.info("%s has %.2f %% of the words, %.2f %% of the tokens", file.name, of_words, of_tokens)
    return pretrained_embedding(vectors, config.std), coverage


def random_embedding(vocabulary_size: int, dimension: int, std: float) -> nn.Embedding:
    """Normally distributed vectors, `[V, E]`."""
    embedding = nn.Embedding(vocabulary_size, dimension)
    nn.init.normal_(embedding.weight, std=std)
    return embedding


def pretrained_embedding(vectors: WordVectors, std: float | None) -> nn.Embedding:
    """The given vectors `[V, E]`; words without one get random ones (as spread, if `None`)."""
    values_VE, found_V = (torch.from_numpy(vectors.values_VE), torch.from_numpy(vectors.found_V))
    spread = values_VE[found_V].std(correction=0).item() if std is None else std
    random_VE = torch.empty_like(values_VE).normal_(std=spread)
    embedding = nn.Embedding(*values_VE.shape)
    with torch.no_grad():
        embedding.weight.copy_(torch.where(found_V.unsqueeze(1), values_VE, random_VE))
    return embedding
