from pathlib import Path

import pytest
from datasets import Dataset
from tokenizers import Tokenizer

from sentiment.data.encoding import encode, fingerprint
from sentiment.text.tokenizer import UNK_ID, train_tokenizer
from tests.conftest import compose_train

TEXTS = ["A fine film.", "", "not a fine film"]


@pytest.fixture
def reviews() -> Dataset:
    return Dataset.from_dict({"text": TEXTS, "label": [1, 0, 0]})


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXTS], compose_train("tokenizer.min_frequency=1").tokenizer)


def test_ids_are_the_tokenizers_and_an_empty_review_is_one_unknown_word(
    reviews: Dataset, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    encoded = encode(reviews, fingerprint(reviews), tokenizer, tmp_path)
    starts, ends = encoded.starts_N, encoded.starts_N + encoded.lengths_N
    ids = [encoded.ids[a:b].tolist() for a, b in zip(starts, ends, strict=True)]
    assert ids == [tokenizer.encode(t).ids or [UNK_ID] for t in TEXTS]
    assert ids[1] == [UNK_ID]
    assert encoded.labels_N.tolist() == [1, 0, 0]


def test_the_second_time_comes_from_disk(
    reviews: Dataset, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = fingerprint(reviews)
    first = encode(reviews, data, tokenizer, tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    second = encode(reviews, data, tokenizer, tmp_path)
    assert first.ids.tolist() == second.ids.tolist()
    assert [f.stat().st_mtime_ns for f in tmp_path.iterdir()] == [written]


def test_other_reviews_or_another_tokenizer_do_not_share_a_file(
    reviews: Dataset, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    encode(reviews, fingerprint(reviews), tokenizer, tmp_path)
    other = Dataset.from_dict({"text": TEXTS, "label": [1, 0, 1]})
    assert encode(other, fingerprint(other), tokenizer, tmp_path).labels_N.tolist() == [1, 0, 1]
    tokenizer.add_tokens(["fi"])
    encode(reviews, fingerprint(reviews), tokenizer, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_file_is_made_anew(
    reviews: Dataset, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    data = fingerprint(reviews)
    first = encode(reviews, data, tokenizer, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"")
    assert encode(reviews, data, tokenizer, tmp_path).ids.tolist() == first.ids.tolist()


def test_the_fingerprint_sees_where_one_text_ends() -> None:
    one = Dataset.from_dict({"text": ["ab", "c"], "label": [0, 0]})
    other = Dataset.from_dict({"text": ["a", "bc"], "label": [0, 0]})
    assert fingerprint(one) != fingerprint(other)
