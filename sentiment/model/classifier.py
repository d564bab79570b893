"""Embedding, encoder, pooling and one logit.

Shapes: T time, B batch, E width of a word vector, X features of n-grams, H width of the
encoder's outputs, V vocabulary.
"""

import torch
from torch import Tensor, nn

from sentiment.config import ModelConfig, Pooling
from sentiment.model.encoder import SharedDropout, build_encoder
from sentiment.model.ngrams import FEATURES, NGramFeatures


class Attention(nn.Module):
    """Mean over time, weighted by a learned score of each output (Yang et al., 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, x_TBE: Tensor, padding_TB1: Tensor) -> Tensor:
        """Return `[B, E]`; padding gets no weight."""
        score_TB1: Tensor = self.score(torch.tanh(self.projection(x_TBE)))
        weight_TB1 = score_TB1.masked_fill(padding_TB1, -torch.inf).softmax(dim=0)
        return (weight_TB1 * x_TBE).sum(dim=0)


class Classifier(nn.Module):
    """From token ids to the logit of "this review is positive".

    Args:
        embedding: `[V, E]`.
        config: sizes of the encoder and of the tables of n-grams, pooling and dropout.
    """

    def __init__(self, embedding: nn.Embedding, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = embedding
        self.word_dropout = config.word_dropout
        self.embedding_dropout = SharedDropout(config.embedding_dropout)
        if config.ngrams > 0:
            vocabulary_size = embedding.num_embeddings
            self.ngrams = NGramFeatures(vocabulary_size, config.ngrams, config.ngrams_size)
        self.encoder = build_encoder(embedding.embedding_dim + FEATURES * config.ngrams, config)
        width = self.encoder.output_size
        self.pooling = tuple(config.pooling)
        if Pooling.attention in self.pooling:
            self.attention = Attention(width)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(width * len(self.pooling), 1)

    def forward(
        self, ids_TB: Tensor, lengths_B: Tensor, ngrams_TBX: Tensor | None = None
    ) -> Tensor:
        """Compute logits.

        Args:
            ids_TB: int64 token ids.
            lengths_B: int64 lengths, 1 to T.
            ngrams_TBX: features of n-grams, cross-fitted, of reviews that they were learned from;
                `None` looks them up.

        Returns:
            float32 logits `[B]`, also where autocast runs the encoder in bfloat16.
        """
        return self.logits(self.inputs(ids_TB, ngrams_TBX), lengths_B)

    def inputs(self, ids_TB: Tensor, ngrams_TBX: Tensor | None = None) -> Tensor:
        """What the encoder reads: word vectors and features of n-grams, `[T, B, E + X]`."""
        x_TBE: Tensor = self.embedding_dropout(self._drop_words(self.embedding(ids_TB), ids_TB))
        if not hasattr(self, "ngrams"):
            return x_TBE
        if ngrams_TBX is None:
            ngrams_TBX = self.ngrams(ids_TB)
        return torch.cat([x_TBE, ngrams_TBX], dim=2)

    def of_tokens(self, shares_TBE: Tensor) -> Tensor:
        """Add up shares of what `inputs` returned by the tokens that they belong to, `[T, B]`.

        A word vector's go to its token, those of an n-gram's features, which stand at its last
        token, in equal parts to all of its tokens.
        """
        width = self.embedding.embedding_dim
        shares_TB = shares_TBE[:, :, :width].sum(dim=2)
        for order, ngrams_TBC in enumerate(torch.split(shares_TBE[:, :, width:], FEATURES, 2)):
            part_TB = ngrams_TBC.sum(dim=2) / (order + 1)
            for back in range(order + 1):
                shares_TB[: len(part_TB) - back] += part_TB[back:]
        return shares_TB

    def logits(self, x_TBE: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits `[B]` of what `inputs` returned."""
        outputs_TBH, final_BH = self.encoder(x_TBE, lengths_B)
        return self.decide(outputs_TBH, final_BH, lengths_B)

    def decide(self, outputs_TBH: Tensor, final_BH: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits `[B]` of what the encoder returned."""
        with torch.autocast(outputs_TBH.device.type, enabled=False):
            pooled = [self._pool(kind, outputs_TBH, final_BH, lengths_B) for kind in self.pooling]
            logits_B1: Tensor = self.output(self.dropout(torch.cat(pooled, dim=1)))
        return logits_B1.squeeze(1)

    def _drop_words(self, x_TBE: Tensor, ids_TB: Tensor) -> Tensor:
        # Gal & Ghahramani (2016): a word is dropped wherever it stands in the batch.
        if not self.training or self.word_dropout == 0:
            return x_TBE
        ones_V1 = x_TBE.new_ones(self.embedding.num_embeddings, 1)
        kept_V1 = nn.functional.dropout(ones_V1, self.word_dropout)
        return x_TBE * nn.functional.embedding(ids_TB, kept_V1)

    def _pool(
        self, kind: Pooling, outputs_TBH: Tensor, final_BH: Tensor, lengths_B: Tensor
    ) -> Tensor:
        if kind is Pooling.final:
            return final_BH.float()
        if kind is Pooling.mean:
            return outputs_TBH.sum(dim=0, dtype=torch.float32) / lengths_B.unsqueeze(1)
        time_T = torch.arange(outputs_TBH.shape[0], device=lengths_B.device)
        padding_TB1 = (time_T.unsqueeze(1) >= lengths_B).unsqueeze(2)
        if kind is Pooling.max:
            return outputs_TBH.masked_fill(padding_TB1, -torch.inf).amax(dim=0).float()
        return self.attention(outputs_TBH.float(), padding_TB1)  # type: ignore[no-any-return]
