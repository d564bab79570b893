"""What a training run reads: splits, texts without labels, tokenizer, features of n-grams."""

import logging
from dataclasses import dataclass, replace

import numpy as np
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sentiment.config import ModelConfig, TrainConfig
from sentiment.data.encoded import EncodedReviews, EncodedTexts
from sentiment.data.encoding import encode, fingerprint, without_labels
from sentiment.data.reviews import (
    groups_of,
    label_names,
    load_splits,
    load_unlabelled,
    take_labelled,
)
from sentiment.errors import UserError
from sentiment.model.ngrams import NO_NGRAM, NGramFeatures
from sentiment.text.tokenizer import build_tokenizer, vocabulary_size
from sentiment.training.checkpoint import Checkpoint, Saved
from sentiment.training.ngrams import fit_ngrams
from sentiment.training.objectives import resolve_pos_weight
from sentiment.training.runtime import Runtime
from sentiment.training.self_training import add_groups, add_reviews, label_texts
from sentiment.training.state import PRIOR, TEACHER
from sentiment.training.transfer import prior_sha256, tensors_sha256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """The three splits as token ids, and what turned them into these."""

    tokenizer: Tokenizer
    train: EncodedReviews
    groups_N: NDArray[np.int64]
    """A number per training review, the same one for those that belong together."""
    validation: EncodedReviews
    test: EncodedReviews
    sha256: dict[str, str]
    """Hash of each split's texts and labels, of a prior for the n-grams, and of a teacher."""
    label_names: tuple[str, str]
    """Of the labels 0 and 1."""
    unlabelled: EncodedTexts | None
    """For objectives that need no label; `None`: not asked for, or there are none."""
    untaught: Dataset | None = None
    """Texts for a teacher to label; `None`: without one."""
    ngrams: NGramFeatures | None = None
    """Learned from the training reviews; `None`: not yet, or without n-grams."""


def load_data(config: TrainConfig, runtime: Runtime, loaded: Saved | None) -> Data:
    """Read, split and encode the reviews; the vocabulary is learned from those to train on.

    Args:
        config: gets the names of the labels, and `pos_weight` as a number.
        runtime: where caches lie.
        loaded: a checkpoint whose tokenizer to take instead.

    Raises:
        UserError: reviews or a tokenizer that cannot be used.
    """
    splits = load_splits(config.data, config.split)
    known = dict(splits)
    splits["train"], rest = take_labelled(splits["train"], config.split)
    names = label_names(splits["train"])
    config.data.negative, config.data.positive = names
    sha256 = {name: fingerprint(reviews) for name, reviews in splits.items()}
    if loaded is None:
        texts = (part["text"] for part in splits["train"].iter(10_000))
        tokenizer = build_tokenizer(texts, sha256["train"], config.tokenizer, runtime.cache_dir)
    else:
        tokenizer = loaded.tokenizer
    log.info(
        "%d reviews to train on, %d to validate, %d to test; vocabulary of %d",
        *map(len, splits.values()),
        tokenizer.get_vocab_size(),
    )
    limits = (config.tokenizer.max_length, config.tokenizer.truncation_side)
    train, validation, test = (
        encode(reviews, sha256[name], tokenizer, runtime.cache_dir).truncate(*limits)
        for name, reviews in splits.items()
    )
    pos_weight = resolve_pos_weight(config.objective, train.labels_N)
    config.objective.pos_weight = str(pos_weight)
    log.info(
        "%.1f %% of the training reviews are positive; objective.pos_weight is %.4g",
        *(100 * train.labels_N.double().mean(), pos_weight),
    )
    groups_N = groups_of(splits["train"])
    unlabelled, untaught = None, None
    needs_no_label = {"virtual_adversarial", "entropy"} & config.objective.added.keys()
    if needs_no_label or config.teacher is not None:
        texts = concatenate_datasets([load_unlabelled(config.data, known), rest])
        if "entropy" in needs_no_label and len(texts) == 0:
            raise UserError(
                "objective.entropy is that of texts without labels, and there are none: use "
                "data=imdb, which has some, give data.unlabelled=FILE with data=files, or "
                "split.labelled=N, which leaves the other reviews without"
            )
        if needs_no_label and len(texts) > 0:
            plain = without_labels(texts)
            sha256["unlabelled"] = fingerprint(plain)
            encoded = encode(plain, sha256["unlabelled"], tokenizer, runtime.cache_dir)
            unlabelled = encoded.truncate(*limits)
        if config.teacher is not None:
            untaught = texts
    return Data(tokenizer, train, groups_N, validation, test, sha256, names, unlabelled, untaught)


def learn_from(teacher: Checkpoint, config: TrainConfig, runtime: Runtime, data: Data) -> Data:
    """The same reviews, to train on also the texts without labels as a teacher labels them.

    Raises:
        UserError: there are no texts.
    """
    assert data.untaught is not None
    more, sha256 = label_texts(data.untaught, teacher, data.tokenizer, runtime)
    more = more.truncate(config.tokenizer.max_length, config.tokenizer.truncation_side)
    weights = (tensor for _, tensor in sorted(teacher.weights.items()))
    return replace(
        data,
        train=add_reviews(data.train, more),
        groups_N=add_groups(data.groups_N, len(more)),
        sha256=data.sha256 | {"unlabelled": sha256, TEACHER: tensors_sha256(weights)},
        untaught=None,
    )


def learn_ngrams(config: ModelConfig, data: Data, prior: NGramFeatures | None) -> Data:
    """The same reviews, those to train on with cross-fitted features of their n-grams.

    Args:
        config: how many; gets the number of those that are known.
        data: the reviews.
        prior: what another run says of n-grams.
    """
    if config.ngrams == 0:
        return data
    log.info("learning the features of n-grams")
    size = vocabulary_size(data.tokenizer)
    ngrams, of_train = fit_ngrams(
        data.train, data.groups_N, size, config.ngrams, config.ngrams_size, prior
    )
    config.ngrams_size = ngrams.keys_OS.shape[1]
    counts = (ngrams.keys_OS != NO_NGRAM).sum(dim=1).tolist()
    log.info("known n-grams of 1 to %d tokens: %s", len(counts), ", ".join(map(str, counts)))
    sha256 = data.sha256 | ({PRIOR: prior_sha256(prior)} if prior is not None else {})
    train = replace(data.train, ngrams=of_train)
    return replace(data, train=train, sha256=sha256, ngrams=ngrams)
