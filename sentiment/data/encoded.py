"""Texts as token ids, in memory.

Shapes: N texts, one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from sentiment.config import TruncationSide
from sentiment.errors import UserError
from sentiment.text.tokenizer import token_ids, vocabulary_size


@dataclass(frozen=True)
class EncodedTexts:
    """N texts as one run of token ids, without padding.

    Attributes:
        ids: int32, the tokens of all texts, one after the other.
        starts_N: int64, where in `ids` a text begins.
        lengths_N: int64, how many tokens it has, at least 1.
    """

    ids: Tensor
    starts_N: Tensor
    lengths_N: Tensor

    def __len__(self) -> int:
        return len(self.lengths_N)

    def truncate(self, max_length: int | None, side: TruncationSide) -> Self:
        """Shorten texts of more than `max_length` tokens; `left` drops their beginnings."""
        if max_length is None:
            return self
        lengths_N = self.lengths_N.clamp(max=max_length)
        dropped_N = self.lengths_N - lengths_N
        starts_N = self.starts_N + (dropped_N if side is TruncationSide.left else 0)
        return replace(self, starts_N=starts_N, lengths_N=lengths_N)

    def cut(self, span: int) -> "EncodedTexts":
        """Cut each text into pieces of nearly equal length, as near as can be to `span` tokens."""
        pieces_N = (self.lengths_N / span).round().long().clamp(min=1)
        text_P = torch.arange(len(self)).repeat_interleave(pieces_N)
        piece_P = torch.arange(len(text_P)) - (pieces_N.cumsum(0) - pieces_N)[text_P]
        length_P, pieces_P = self.lengths_N[text_P], pieces_N[text_P]
        first_P = length_P * piece_P // pieces_P
        last_P = length_P * (piece_P + 1) // pieces_P
        return EncodedTexts(self.ids, self.starts_N[text_P] + first_P, last_P - first_P)


@dataclass(frozen=True)
class EncodedReviews(EncodedTexts):
    """N texts and what was said of them.

    Attributes:
        labels_N: int64, 0 or 1.
        targets_N: float32, what is to be learned in place of the labels, from 0 to 1; `None`: the
            labels themselves.
        ngrams: cross-fitted features of the n-grams that end at each token of `ids`, a row each
            (`sentiment/training/ngrams.py`); `None` where the model looks them up itself.
    """

    labels_N: Tensor
    targets_N: Tensor | None = None
    ngrams: Tensor | None = None

    def select(self, rows: NDArray[np.int64]) -> Self:
        """The given reviews, in the given order."""
        index = torch.from_numpy(rows)
        return replace(
            self,
            starts_N=self.starts_N[index],
            lengths_N=self.lengths_N[index],
            labels_N=self.labels_N[index],
            targets_N=None if self.targets_N is None else self.targets_N[index],
        )


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> EncodedTexts:
    """Turn texts into token ids.

    Raises:
        UserError: a tokenizer whose parts do not fit together.
    """
    ids, lengths_N = map(torch.from_numpy, token_ids(tokenizer, texts))
    if len(ids) and int(ids.max()) >= vocabulary_size(tokenizer):
        raise UserError(
            f"the checkpoint's tokenizer gives the id {int(ids.max())}, expected less than the "
            f"size of its vocabulary, {vocabulary_size(tokenizer)}"
        )
    return EncodedTexts(ids.int(), lengths_N.cumsum(0) - lengths_N, lengths_N)
