"""Word vectors learned from texts: what they know, and that they are learned once."""

import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer

from sentiment.data.encoding import without_labels
from sentiment.errors import UserError
from sentiment.text.tokenizer import train_tokenizer
from sentiment.text.vectors import read_vectors
from sentiment.training.word2vec import learn_vectors
from tests.conftest import compose_train

GOOD, BAD = (tuple(f"{kind}{number}" for number in range(10)) for kind in ("good", "bad"))


def texts_of_two_kinds() -> Dataset:
    """Texts in which words of praise have one company, and words of blame another."""
    generator = np.random.default_rng(0)
    texts = []
    for _ in range(10_000):
        for words, letter in ((GOOD, "g"), (BAD, "b")):
            company = [f"{letter}{number}" for number in generator.integers(300, size=8)]
            texts.append(" ".join([*company[:4], generator.choice(words), *company[4:]]))
    return without_labels(Dataset.from_dict({"text": texts}))


@pytest.fixture(scope="module")
def texts() -> Dataset:
    return texts_of_two_kinds()


@pytest.fixture(scope="module")
def tokenizer(texts: Dataset) -> Tokenizer:
    return train_tokenizer([texts["text"]], compose_train().tokenizer)


def learn(texts: Dataset, tokenizer: Tokenizer, folder: Path, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    config = compose_train("embeddings=word2vec", "embeddings.dimension=16").embeddings
    return learn_vectors(texts, tokenizer, config, seed, folder)


def test_words_of_the_same_company_have_similar_vectors(
    texts: Dataset, tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        file = learn(texts, tokenizer, tmp_path)
    assert "learning word vectors from 20000 texts" in caplog.text
    vocabulary = tokenizer.get_vocab()
    vectors = read_vectors(file, vocabulary, 16)
    without = {word for word, index in vocabulary.items() if not vectors.found_V[index]}
    assert without == {"<pad>", "<unk>"}  # neither occurs
    rows_WE = vectors.values_VE[[vocabulary[word] for word in (*GOOD, *BAD)]]
    rows_WE -= rows_WE.mean(axis=0)
    cosines_WW = np.corrcoef(rows_WE) - 2 * np.eye(len(rows_WE))
    nearest_W = cosines_WW.argmax(axis=1)
    is_good_W = np.arange(len(rows_WE)) < len(GOOD)
    assert (is_good_W[nearest_W] == is_good_W).all()


def test_the_same_texts_and_seed_give_the_same_file(
    texts: Dataset, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    few = texts.select(range(500))
    first, again = (learn(few, tokenizer, tmp_path / name) for name in ("first", "again"))
    assert first.name == again.name
    assert first.read_bytes() == again.read_bytes()
    other = learn(few, tokenizer, tmp_path / "first", seed=1)
    assert other.read_bytes() != first.read_bytes()


def test_vectors_are_learned_once(
    texts: Dataset, tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = learn(texts.select(range(500)), tokenizer, tmp_path)
    with caplog.at_level("INFO"):
        assert learn(texts.select(range(500)), tokenizer, tmp_path) == first
    assert "learning" not in caplog.text


def test_without_gensim_the_way_out_is_named(
    texts: Dataset, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(UserError, match=r"needs gensim, .* pip install 'sentiment\[vectors\]'"):
        learn(texts, tokenizer, tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
