"""Looks up what the training labels say of the n-grams of a review.

Shapes: T time, B batch, V vocabulary, O lengths of n-grams (1, 2, ...), S n-grams of each length,
C = 2 features of an n-gram.
"""

import torch
from torch import Tensor, nn

FEATURES = 2
NO_NGRAM = torch.iinfo(torch.int64).max


class NGramFeatures(nn.Module):
    """Features of the n-grams that end at each token; 0 for one that is not known.

    The two features are its log-count ratio and its weight in a linear model, which are learned by
    `sentiment/training/ngrams.py` before the network is, and which the network does not change; it
    reads them multiplied by their scale.

    The key of a single token is its id, that of a longer n-gram the place of its first tokens times
    V plus its last token, so that keys lead to longer n-grams as through a trie.

    Args:
        vocabulary_size: V.
        longest: O.
        size: S.
    """

    keys_OS: Tensor
    features_OSC: Tensor
    scale_OC: Tensor

    def __init__(self, vocabulary_size: int, longest: int, size: int) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.register_buffer("keys_OS", torch.full((longest, size), NO_NGRAM))
        self.register_buffer("features_OSC", torch.zeros(longest, size, FEATURES))
        self.register_buffer("scale_OC", torch.ones(longest, FEATURES))

    def forward(self, ids_TB: Tensor) -> Tensor:
        """Return `[T, B, O * C]`."""
        found, key_TB = [], ids_TB
        for keys_S, features_SC in zip(self.keys_OS, self.features_OSC, strict=True):
            place_TB = torch.searchsorted(keys_S, key_TB).clamp(max=len(keys_S) - 1)
            is_known_TB = keys_S[place_TB] == key_TB
            found.append(features_SC[place_TB] * is_known_TB.unsqueeze(2))
            # After an unknown n-gram the key is below 0, which is unknown too.
            prefix_TB = torch.where(is_known_TB, place_TB, -1)
            key_TB = torch.full_like(ids_TB, -1)
            key_TB[1:] = prefix_TB[:-1] * self.vocabulary_size + ids_TB[1:]
        return torch.cat(found, dim=2) * self.scale_OC.flatten()


def lead_somewhere(keys_OS: Tensor, vocabulary_size: int) -> bool:
    """Whether keys are as `NGramFeatures` has them: ascending, first tokens being known, too."""
    prefixes = 1
    for keys_S in keys_OS:
        known_M = keys_S[: int((keys_S != NO_NGRAM).sum())]
        if not ((known_M >= 0) & (known_M < prefixes * vocabulary_size)).all():
            return False
        if not (known_M.diff() > 0).all():
            return False
        prefixes = len(known_M)
    return True
