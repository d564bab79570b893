from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sentiment.config import TokenizerConfig, TruncationSide
from sentiment.errors import UserError
from sentiment.text.glove import read_glove
from sentiment.text.tokenizer import train_tokenizer

VOCABULARY = {"<pad>": 0, "<unk>": 1, "the": 2, "café": 3, "zzz": 4}
LINES = "the 0.418 0.25 -0.4\nof 1 2 3\ncafé 1e-1 -2 .5\n"


def write(path: Path, content: str | bytes) -> Path:
    file = path / "vectors.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_reads_the_vocabularys_words_only(tmp_path: Path) -> None:
    vectors = read_glove(write(tmp_path, LINES), VOCABULARY, dimension=None)
    assert vectors.found_V.tolist() == [False, False, True, True, False]
    np.testing.assert_allclose(vectors.values_VE[2:4], [[0.418, 0.25, -0.4], [0.1, -2, 0.5]])
    assert (vectors.values_VE[[0, 1, 4]] == 0).all()


def test_coverage_counts_words_and_their_occurrences(tmp_path: Path) -> None:
    vectors = read_glove(write(tmp_path, LINES), VOCABULARY, dimension=3)
    coverage = vectors.coverage(np.array([1, 2, 2, 3, 4, 1], dtype=np.int32))
    assert coverage["embeddings/vocabulary_coverage"] == pytest.approx(2 / 3)
    assert coverage["embeddings/token_coverage"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("content", "dimension", "message"),
    [
        ("the 1 2 3\nof 1 2\n", None, r"line 2: 2 numbers after the word, expected 3"),
        ("the 1 2 3\nof 1 2 3 4\n", None, r"line 2: 4 numbers"),
        ("the 1 2 3\n", 50, r"line 1: 3 numbers.*expected 50.*embeddings\.dimension"),
        ("of 1 2\nthe 1 x\n", None, r"line 2: the vector of 'the'"),
        ("the 1 nan\n", None, r"line 1: the vector of 'the'"),
        ("the\n", None, r"line 1: expected a word and its numbers"),
        ("", None, r"line 1: expected a word and its numbers"),
        (b"\xff\xfe \x00\n", 3, r"line 1: 1 numbers"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, dimension: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_glove(write(tmp_path, content), VOCABULARY, dimension)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"embeddings\.path: no file"):
        read_glove(tmp_path / "glove.txt", VOCABULARY, None)


def test_real_glove_covers_the_words_of_real_imdb(imdb_dir: Path, glove_file: Path) -> None:
    texts = pq.read_table(imdb_dir / "train.parquet")["text"].to_pylist()[::10]
    tokenizer = train_tokenizer([texts], TokenizerConfig(30_000, 2, None, TruncationSide.left))
    vectors = read_glove(glove_file, tokenizer.get_vocab(), dimension=50)
    ids = np.concatenate([e.ids for e in tokenizer.encode_batch_fast(texts)]).astype(np.int32)
    assert vectors.coverage(ids)["embeddings/token_coverage"] > 0.99
    the = vectors.values_VE[tokenizer.get_vocab()["the"]]
    np.testing.assert_allclose(the[:4], [0.418, 0.24968, -0.41242, 0.1217])
