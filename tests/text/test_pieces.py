from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from sentiment.config import TokenizerConfig, TokenizerModel, TruncationSide
from sentiment.text.tokenizer import token_ids, train_tokenizer
from tests.conftest import FUZZ_EXAMPLES

# What the rules of cleaning and splitting look at, whole and in halves, and what Unicode does to
# letters and spaces.
FRAGMENTS = (
    *(" ", "  ", "\t", "\n", "\u00a0", "\u2028", "\u200b", "\x00", "\x1c"),
    *("<", ">", "</", "/>", "<br />", "<br/>", "<i>", "<a href='x'>", "< b>", "<unk>", "<pad>"),
    *("&", ";", "#", "&quot;", "&amp;", "&#39;", "&nbsp;", "&amp;quot;", "amp;"),
    *("n't", "N'T", "'s", "'", "`", "\u0092", "\u2019", "\u0093", "\u0096", "\u2014"),
    *(".", "..", "...", "\u0085", "\u2026", "-", "--", "_", ",", "8/10"),
    *("a", "do", "Do", "film", "x" * 39, "e\u0301", "\u0301", "\u0338", "\u0130", "\u1100\u1161"),
    *("\u03a3", "\u00df", "\u4f60", "\U0001f600", "\ufb01"),
)
TOKENIZERS = {
    model: train_tokenizer(
        [[" ".join(FRAGMENTS)] * 3],
        TokenizerConfig(model, 90, 1, None, None, TruncationSide.left),
    )
    for model in TokenizerModel
}
texts = st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=20).map("".join) | st.text())


def expect_ids_of_whole_texts(tokenizer: Tokenizer, texts: list[str]) -> None:
    ids, lengths_N = token_ids(tokenizer, texts)
    wholes = [tokenizer.encode(text, add_special_tokens=False).ids or [1] for text in texts]
    assert lengths_N.tolist() == [len(whole) for whole in wholes]
    assert ids.tolist() == list(chain.from_iterable(wholes))


@settings(max_examples=FUZZ_EXAMPLES, deadline=None)
@given(st.sampled_from(TokenizerModel), texts)
@example(TokenizerModel.word, ["a <b c> a <b a a> c>", "a <b a> c", "a<b a film> film>"])
@example(TokenizerModel.word, ["<unk> do<pad>n't a<unk >b <a <unk>> </unk>", "<p<b a>ad>"])
@example(TokenizerModel.word, ["", " ", "<br />", "  a  film "])
def test_pieces_have_the_ids_of_the_whole_text(model: TokenizerModel, texts: list[str]) -> None:
    expect_ids_of_whole_texts(TOKENIZERS[model], texts)


@settings(max_examples=FUZZ_EXAMPLES, deadline=None)
@given(st.lists(texts, max_size=3), st.integers(3, 40), st.integers(1, 3))
@example([["<unk> <b a>film</b> <pad>", "a <b"], ["c> film"]], 40, 1)
def test_words_are_numbered_as_the_librarys_trainer_does(
    batches: list[list[str]], size: int, min_frequency: int
) -> None:
    batches = [*batches, ["film " * 3]]
    config = TokenizerConfig(
        TokenizerModel.word, size, min_frequency, None, None, TruncationSide.left
    )
    ours = train_tokenizer(batches, config)
    theirs = Tokenizer(models.WordLevel(unk_token="<unk>"))
    theirs.normalizer, theirs.pre_tokenizer = ours.normalizer, ours.pre_tokenizer
    trainer = trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=min_frequency, special_tokens=["<pad>", "<unk>"]
    )
    theirs.train_from_iterator(batches, trainer)
    assert ours.to_str() == theirs.to_str()


def test_more_pieces_than_are_tokenized_at_once() -> None:
    words = [f"{word}{mark}" for word in ("a", "film", "do", "x") for mark in map(chr, range(300))]
    expect_ids_of_whole_texts(TOKENIZERS[TokenizerModel.word], [" ".join(words), *words])


def other_normalizer(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Replace("a film", "do")


def other_pre_tokenizer(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Split(",", "isolated")


def added_token(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens(["a film"])


def post_processor(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)


def truncation(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(3)


def padding(tokenizer: Tokenizer) -> None:
    tokenizer.enable_padding(length=9)


@pytest.mark.parametrize(
    "change",
    [other_normalizer, other_pre_tokenizer, added_token, post_processor, truncation, padding],
)
def test_a_tokenizer_that_looks_across_spaces_sees_whole_texts(
    change: Callable[[Tokenizer], None],
) -> None:
    tokenizer = Tokenizer.from_str(TOKENIZERS[TokenizerModel.word].to_str())
    change(tokenizer)
    expect_ids_of_whole_texts(tokenizer, ["do a film, do a film", "a film", ","])


@pytest.mark.slow
@pytest.mark.parametrize("model", TokenizerModel)
def test_real_reviews_have_the_ids_of_the_whole_text(imdb_dir: Path, model: TokenizerModel) -> None:
    texts = pq.read_table(imdb_dir / "train.parquet")["text"].to_pylist()[::5]
    config = TokenizerConfig(model, 5000, 2, None, None, TruncationSide.left)
    tokenizer = train_tokenizer([texts[:1000]], config)
    ids, lengths_N = token_ids(tokenizer, texts)
    wholes = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    assert lengths_N.tolist() == [len(whole) for whole in wholes]
    np.testing.assert_array_equal(ids, np.concatenate([whole.ids for whole in wholes]))
