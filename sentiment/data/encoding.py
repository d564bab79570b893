"""Reviews as token ids: encoded once with a tokenizer and kept on disk as an Arrow file."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, List, Value
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from sentiment.config import TruncationSide
from sentiment.text.tokenizer import encode_texts

FEATURES = Features({"ids": List(Value("int32")), "label": Value("int64")})


@dataclass(frozen=True)
class EncodedReviews:
    """N reviews as one run of token ids, without padding.

    Attributes:
        ids: int32, the tokens of all reviews, one after the other.
        starts_N: int64, where in `ids` a review begins.
        lengths_N: int64, how many tokens it has, at least 1.
        labels_N: int64, 0 or 1.
    """

    ids: Tensor
    starts_N: Tensor
    lengths_N: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def select(self, rows: NDArray[np.int64]) -> "EncodedReviews":
        """The given reviews, in the given order."""
        index = torch.from_numpy(rows)
        return replace(
            self,
            starts_N=self.starts_N[index],
            lengths_N=self.lengths_N[index],
            labels_N=self.labels_N[index],
        )

    def truncate(self, max_length: int | None, side: TruncationSide) -> "EncodedReviews":
        """Shorten reviews of more than `max_length` tokens; `left` drops their beginnings."""
        if max_length is None:
            return self
        lengths_N = self.lengths_N.clamp(max=max_length)
        dropped_N = self.lengths_N - lengths_N
        starts_N = self.starts_N + (dropped_N if side is TruncationSide.left else 0)
        return replace(self, starts_N=starts_N, lengths_N=lengths_N)


def fingerprint(reviews: Dataset) -> str:
    """Hash of all texts and labels in their order, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in reviews.with_format("arrow").iter(10_000):
        for text, label in zip(part["text"].to_pylist(), part["label"].to_pylist(), strict=True):
            encoded = text.encode()
            digest.update(b"%d %d " % (label, len(encoded)))
            digest.update(encoded)
    return digest.hexdigest()


def encode(
    reviews: Dataset, data_fingerprint: str, tokenizer: Tokenizer, cache_dir: Path
) -> EncodedReviews:
    """Turn reviews into token ids, or read them back where this has been done before.

    The file's name is a hash of the texts, the labels and the whole tokenizer. Truncation is left
    to `EncodedReviews.truncate`, so changing it encodes nothing anew. A review without any token
    becomes a single `<unk>`.
    """

    def encode_batch(texts: list[str]) -> dict[str, list[list[int]]]:
        return {"ids": encode_texts(tokenizer, texts)}

    key = hashlib.sha256(f"{data_fingerprint} {tokenizer.to_str()}".encode()).hexdigest()[:32]
    path = cache_dir / f"encoded-{key}.arrow"
    if path.exists() and not _is_readable(path):
        path.unlink()
    encoded = reviews.map(
        encode_batch,
        input_columns="text",
        remove_columns="text",
        batched=True,
        batch_size=2000,
        features=FEATURES,
        cache_file_name=str(path),
        new_fingerprint=key,
        desc="encoding reviews",
    )
    table = encoded.with_format("arrow")[:]
    lists = table["ids"].combine_chunks()
    offsets = torch.from_numpy(lists.offsets.to_numpy().astype(np.int64))
    return EncodedReviews(
        ids=torch.from_numpy(lists.values.to_numpy().copy()),
        starts_N=offsets[:-1],
        lengths_N=offsets.diff(),
        labels_N=torch.from_numpy(table["label"].to_numpy().copy()),
    )


def _is_readable(path: Path) -> bool:
    try:
        Dataset.from_file(str(path))
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True
