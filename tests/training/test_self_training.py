from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from sentiment.config import Kernel, Precision
from sentiment.data.batches import collate
from sentiment.data.encoded import EncodedReviews
from sentiment.data.encoding import fingerprint
from sentiment.errors import UserError
from sentiment.training.checkpoint import load_checkpoint
from sentiment.training.predictor import SentimentPredictor
from sentiment.training.runtime import Runtime
from sentiment.training.self_training import (
    add_groups,
    add_reviews,
    label_texts,
)
from tests.conftest import write_checkpoint

TEXTS = ["a good film", "bad", "good bad good " * 20, "unheard of"]


def make_runtime(folder: Path) -> Runtime:
    return Runtime(torch.device("cpu"), Precision.float32, Kernel.plain, folder)


def test_targets_are_what_the_teacher_says(tmp_path: Path) -> None:
    teacher = load_checkpoint(write_checkpoint(tmp_path / "teacher", TEXTS))
    student = load_checkpoint(write_checkpoint(tmp_path / "student", TEXTS[:2]))
    runtime = make_runtime(tmp_path)
    texts = Dataset.from_dict({"text": TEXTS})
    found, sha256 = label_texts(texts, teacher, student.tokenizer, runtime)
    expected = [p for _, p in SentimentPredictor(teacher, runtime)(TEXTS)]
    assert found.targets_N is not None
    # Its words and its truncation; predictions are rounded.
    np.testing.assert_allclose(found.targets_N.tolist(), np.array(expected, float), atol=1e-6)
    assert found.labels_N.tolist() == [int(p > 0.5) for p in found.targets_N.tolist()]
    # The student's words, and all of them.
    assert found.lengths_N.tolist() == [3, 1, 60, 2]
    first = student.tokenizer.encode(TEXTS[0], add_special_tokens=False).ids
    assert found.ids[:3].tolist() == first
    labelled = texts.add_column("label", found.labels_N.numpy())
    assert sha256 == fingerprint(labelled)


def test_without_texts_it_is_said_where_to_get_some(tmp_path: Path) -> None:
    teacher = load_checkpoint(write_checkpoint(tmp_path / "teacher", TEXTS))
    nothing = Dataset.from_dict({"text": TEXTS}).select([])
    with pytest.raises(UserError, match=r"there are none: use data=imdb.*data\.unlabelled=FILE"):
        label_texts(nothing, teacher, teacher.tokenizer, make_runtime(tmp_path))


def test_labels_and_targets_stand_side_by_side() -> None:
    one = EncodedReviews(
        *(torch.tensor(v) for v in ([5, 6, 7], [0, 2], [2, 1], [1, 0])),
    )
    other = EncodedReviews(
        *(torch.tensor(v) for v in ([8, 9], [0, 1], [1, 1], [1, 0], [0.75, 0.25])),
    )
    both = add_reviews(one, other)
    batch = collate(both, np.array([3, 0, 2]), torch.device("cpu"))
    assert batch.ids_TB[:2].T.tolist() == [[9, 0], [5, 6], [8, 0]]
    assert batch.labels_B.tolist() == [0.25, 1.0, 0.75]
    assert both.labels_N.tolist() == [1, 0, 1, 0]
    chosen = both.select(np.array([2]))
    assert chosen.targets_N is not None
    assert chosen.targets_N.tolist() == [0.75]
    assert add_groups(np.array([4, 4, 1]), 2).tolist() == [4, 4, 1, 5, 6]
