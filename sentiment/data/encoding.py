"""Data sets as token ids: encoded once with a tokenizer and kept on disk as an Arrow file."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, List, Value
from tokenizers import Tokenizer

from sentiment.data.encoded import EncodedReviews
from sentiment.text.tokenizer import token_ids

FEATURES = Features({"ids": List(Value("int32")), "label": Value("int64")})


def without_labels(texts: Dataset) -> Dataset:
    """The column `text`, and -1 in the place of every label."""
    texts = texts.select_columns(["text"])
    return texts.add_column("label", np.full(len(texts), -1))


def fingerprint(reviews: Dataset) -> str:
    """Hash of all texts and labels in their order, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in _in_arrow(reviews).iter(10_000):
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
    to `EncodedReviews.truncate`, so changing it encodes nothing anew.

    Raises:
        OSError: the cache folder cannot be made.
    """

    def encode_batch(batch: pa.Table) -> pa.Table:
        ids, lengths_N = token_ids(tokenizer, batch["text"].to_pylist())
        ends = np.concatenate(([0], lengths_N.cumsum()))
        lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(ids, pa.int32()))
        return pa.table({"ids": lists, "label": batch["label"]})

    key = hashlib.sha256(f"{data_fingerprint} {tokenizer.to_str()}".encode()).hexdigest()[:32]
    cache_dir.mkdir(parents=True, exist_ok=True)
    path = cache_dir / f"encoded-{key}.arrow"
    if path.exists() and not _is_readable(path):
        path.unlink()
    encoded = _in_arrow(reviews).map(
        encode_batch,
        batched=True,
        batch_size=10_000,
        features=FEATURES,
        cache_file_name=str(path),
        new_fingerprint=key,
        desc="encoding reviews",
    )
    table = encoded[:]
    lists = table["ids"].combine_chunks()
    offsets = torch.from_numpy(lists.offsets.to_numpy().astype(np.int64))
    return EncodedReviews(
        ids=torch.from_numpy(lists.values.to_numpy().copy()),
        starts_N=offsets[:-1],
        lengths_N=offsets.diff(),
        labels_N=torch.from_numpy(table["label"].to_numpy().copy()),
    )


def _in_arrow(reviews: Dataset) -> Dataset:
    return reviews.select_columns(["text", "label"]).with_format("arrow")


def _is_readable(path: Path) -> bool:
    try:
        Dataset.from_file(str(path))
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True
