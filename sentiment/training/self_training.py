"""Learning from texts without labels what a trained model says of them (Scudder, 1965; Lee, 2013).

The probabilities of the teacher take the place of labels, as in distillation (Hinton et al., 2015).
"""

import logging

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sentiment.data.encoded import EncodedReviews
from sentiment.data.encoding import encode, fingerprint, without_labels
from sentiment.errors import UserError
from sentiment.training.checkpoint import Checkpoint
from sentiment.training.inference import predict_logits
from sentiment.training.runtime import Runtime

log = logging.getLogger(__name__)


def label_texts(
    texts: Dataset, teacher: Checkpoint, tokenizer: Tokenizer, runtime: Runtime
) -> tuple[EncodedReviews, str]:
    """Let a teacher label texts.

    Args:
        texts: in the column `text`.
        teacher: is asked about every one.
        tokenizer: of the student.
        runtime: where to compute, and caches.

    Returns:
        The texts with the teacher's labels, its probabilities as `targets_N`, and a hash of texts
        and labels. Of several processes each asks the teacher about its share, and gets all.

    Raises:
        UserError: there are no texts.
    """
    if len(texts) == 0:
        raise UserError(
            "teacher needs texts without labels, and there are none: use data=imdb, which has "
            "some, or give data.unlabelled=FILE with data=files"
        )
    plain = without_labels(texts)
    sha256 = fingerprint(plain)
    with runtime.processes.first_goes_first():
        read, encoded = (
            encode(plain, sha256, known, runtime.cache_dir)
            for known in (teacher.tokenizer, tokenizer)
        )
    reading = teacher.config.tokenizer
    read = read.truncate(reading.max_length, reading.truncation_side)
    model = teacher.build_model().to(runtime.device)
    probability_N = torch.sigmoid(predict_logits(model, read, runtime))
    labels_N = (probability_N > 0.5).long()
    log.info(
        "%s has labelled %d texts, %.1f %% of them positive",
        *(teacher.folder, len(texts), 100 * labels_N.double().mean()),
    )
    labelled = EncodedReviews(
        encoded.ids, encoded.starts_N, encoded.lengths_N, labels_N, probability_N
    )
    return labelled, fingerprint(texts.add_column("label", labels_N.numpy()))


def add_reviews(reviews: EncodedReviews, more: EncodedReviews) -> EncodedReviews:
    """Reviews with labels, and after them others with targets."""
    assert more.targets_N is not None
    return EncodedReviews(
        torch.cat([reviews.ids, more.ids]),
        torch.cat([reviews.starts_N, more.starts_N + len(reviews.ids)]),
        torch.cat([reviews.lengths_N, more.lengths_N]),
        torch.cat([reviews.labels_N, more.labels_N]),
        torch.cat([reviews.labels_N.float(), more.targets_N]),
    )


def add_groups(groups_N: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Numbers of groups, and a further one for each of some more reviews."""
    return np.concatenate([groups_N, groups_N.max() + 1 + np.arange(count)])
