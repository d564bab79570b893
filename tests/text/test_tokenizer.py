from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.config import TokenizerConfig, TruncationSide
from sentiment.errors import UserError
from sentiment.text.tokenizer import PAD, UNK, cached_tokenizer, train_tokenizer


def settings(size: int = 1000, min_frequency: int = 1) -> TokenizerConfig:
    return TokenizerConfig(size, min_frequency, None, TruncationSide.left)


def split(text: str) -> list[str]:
    return train_tokenizer([[text]], settings()).encode(text).tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I don't, can't, WON'T.", "i do n't , ca n't , wo n't ."),
        ("It's Ed's; they'd say we're, I'm, I've, you'll", None),
        ("one<br /><br />two<br>three <i>four</i>", "one two three four"),
        ("Tom &amp; Ann &quot;hi&quot; &#39;yo&#39; a&nbsp;b", "tom & ann \" hi \" ' yo ' a b"),
        ("don\u0092t \u0093so\u0094 wait\u0085 a\u0096b", 'do n\'t " so " wait ... a - b'),
        ("don\u2019t \u201cso\u201d wait\u2026 a\u2014b", 'do n\'t " so " wait ... a - b'),
        ("well....... ok.. yes. no", "well ... ok ... yes . no"),
        ("well-made 8/10 (really)", "well - made 8 / 10 ( really )"),
        ("_title_ caf\u00e9 cafe\u0301", "_ title _ caf\u00e9 caf\u00e9"),
        ("a < b and 3 > 2", "a < b and 3 > 2"),
        ("the 'best' one", "the ' best ' one"),
        ("tab\tnew\nline\x00end", "tab new line end"),
    ],
)
def test_splits_and_cleans_like_glove(text: str, words: str | None) -> None:
    if words is None:
        words = "it 's ed 's ; they 'd say we 're , i 'm , i 've , you 'll"
    assert split(text) == words.split(" ")


@given(st.text())
def test_any_text_encodes_to_known_ids(text: str) -> None:
    tokenizer = train_tokenizer([["some words"]], settings())
    assert all(0 <= i < tokenizer.get_vocab_size() for i in tokenizer.encode(text).ids)


def test_vocabulary_is_by_frequency_and_limited() -> None:
    tokenizer = train_tokenizer([["c b b a a a", "d"]], settings(size=4))
    assert tokenizer.get_vocab() == {PAD: 0, UNK: 1, "a": 2, "b": 3}
    assert tokenizer.encode("a d b").ids == [2, 1, 3]


def test_rare_words_are_unknown() -> None:
    assert set(train_tokenizer([["a a b"]], settings(min_frequency=2)).get_vocab()) == {
        PAD,
        UNK,
        "a",
    }


def test_a_vocabulary_without_words_is_refused() -> None:
    with pytest.raises(UserError, match=r"tokenizer\.min_frequency"):
        train_tokenizer([["a b c"]], settings(min_frequency=2))


def test_a_tokenizer_is_learned_once_per_reviews_and_settings(tmp_path: Path) -> None:
    first = cached_tokenizer([["a b"]], "one", settings(), tmp_path)
    again = cached_tokenizer(iter(()), "one", settings(), tmp_path)
    assert again.to_str() == first.to_str()
    other = cached_tokenizer([["c d"]], "two", settings(), tmp_path)
    assert "c" in other.get_vocab()
    smaller = cached_tokenizer([["a b"]], "one", settings(size=3), tmp_path)
    assert len(smaller.get_vocab()) == 3
    assert len(list(tmp_path.iterdir())) == 3
    for file in tmp_path.iterdir():
        file.write_text("damaged")
    assert cached_tokenizer([["a b"]], "one", settings(), tmp_path).to_str() == first.to_str()
