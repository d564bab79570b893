"""What word vectors start from. Row 0, the padding, is 0 and stays so.

Shapes: V vocabulary, E width of a word vector.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sentiment.config import EmbeddingsConfig
from sentiment.text.tokenizer import PAD_ID
from sentiment.text.vectors import WordVectors, read_vectors

log = logging.getLogger(__name__)

RANDOM_STD = 0.3


def build_embedding(
    config: EmbeddingsConfig, file: Path | None, vocabulary: Mapping[str, int], ids: Tensor
) -> tuple[nn.Embedding, dict[str, float]]:
    """Make the embedding that the configuration asks for.

    Args:
        config: width and whether to freeze.
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
        return random_embedding(len(vocabulary), config.dimension), {}
    vectors = read_vectors(file, vocabulary, config.dimension)
    coverage = vectors.coverage(ids.numpy())
    of_words, of_tokens = (100 * share for share in coverage.values())
    log.info("%s has %.2f %% of the words, %.2f %% of the tokens", file.name, of_words, of_tokens)
    return pretrained_embedding(vectors, config.freeze), coverage


def random_embedding(vocabulary_size: int, dimension: int) -> nn.Embedding:
    """Normally distributed vectors, `[V, E]`."""
    embedding = nn.Embedding(vocabulary_size, dimension, padding_idx=PAD_ID)
    with torch.no_grad():
        embedding.weight.normal_(std=RANDOM_STD)
        embedding.weight[PAD_ID] = 0
    return embedding


def pretrained_embedding(vectors: WordVectors, freeze: bool) -> nn.Embedding:
    """The given vectors `[V, E]`; words without one get random ones of the same spread."""
    values_VE, found_V = (torch.from_numpy(vectors.values_VE), torch.from_numpy(vectors.found_V))
    spread = values_VE[found_V].std(correction=0).item() if found_V.any() else RANDOM_STD
    random_VE = torch.empty_like(values_VE).normal_(std=spread)
    embedding = nn.Embedding(len(values_VE), values_VE.shape[1], padding_idx=PAD_ID)
    with torch.no_grad():
        embedding.weight.copy_(torch.where(found_V.unsqueeze(1), values_VE, random_VE))
        embedding.weight[PAD_ID] = 0
    embedding.weight.requires_grad = not freeze
    return embedding
