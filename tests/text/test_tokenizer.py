import json
from pathlib import Path

import hypothesis
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers

from sentiment.config import TokenizerConfig, TokenizerModel, TruncationSide
from sentiment.errors import UserError
from sentiment.text.tokenizer import (
    PAD,
    UNK,
    build_tokenizer,
    cached_tokenizer,
    parse_tokenizer,
    read_tokenizer,
    token_ids,
    token_spans,
    train_tokenizer,
    vocabulary_size,
)
from tests.conftest import FUZZ_EXAMPLES

PIECES = (TokenizerModel.bpe, TokenizerModel.wordpiece)
REVIEWS = [["The film is lovely. " * 3, "I loved the acting, I hated the lighting!"] * 5]


def settings(
    size: int = 1000,
    min_frequency: int = 1,
    model: TokenizerModel = TokenizerModel.word,
    path: str | None = None,
) -> TokenizerConfig:
    return TokenizerConfig(model, size, min_frequency, path, None, TruncationSide.left)


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    ids, lengths_N = token_ids(tokenizer, texts)
    return [part.tolist() for part in np.split(ids, lengths_N.cumsum()[:-1])]


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


@pytest.mark.parametrize("model", PIECES)
def test_pieces_spell_words_that_were_never_seen(model: TokenizerModel) -> None:
    tokenizer = train_tokenizer(REVIEWS, settings(size=40, model=model))
    tokens = tokenizer.encode("Loving, fighting \u4f60!").tokens
    assert "".join(tokens) == "loving,fighting<unk>!"
    assert 5 < len(tokens) < len("loving,fighting!")
    assert tokenizer.get_vocab_size() == vocabulary_size(tokenizer) == 40
    assert (tokenizer.id_to_token(0), tokenizer.id_to_token(1)) == (PAD, UNK)


@pytest.mark.parametrize("model", TokenizerModel)
def test_training_twice_gives_the_same_tokenizer(model: TokenizerModel) -> None:
    first, second = (train_tokenizer(REVIEWS, settings(60, model=model)) for _ in range(2))
    assert first.to_str() == second.to_str()


@pytest.mark.parametrize("model", PIECES)
def test_an_alphabet_larger_than_the_vocabulary_is_cut(model: TokenizerModel) -> None:
    assert vocabulary_size(train_tokenizer(REVIEWS, settings(size=9, model=model))) == 9


def test_each_kind_of_tokenizer_is_kept_apart_in_the_cache(tmp_path: Path) -> None:
    for model in TokenizerModel:
        cached_tokenizer(REVIEWS, "reviews", settings(60, model=model), tmp_path)
    assert len(list(tmp_path.iterdir())) == len(TokenizerModel)


def test_any_tokenizer_json_will_do(tmp_path: Path) -> None:
    """One like BERT's: special tokens, its own truncation and padding, `[UNK]` not at 1."""
    theirs = Tokenizer(models.WordLevel({"[PAD]": 0, "[CLS]": 7, "[UNK]": 3, "film": 9}, "[UNK]"))
    theirs.pre_tokenizer = pre_tokenizers.Whitespace()
    theirs.add_special_tokens([AddedToken("[CLS]"), AddedToken("[PAD]")])
    theirs.post_processor = processors.TemplateProcessing("[CLS] $A", None, [("[CLS]", 7)])
    theirs.enable_truncation(2)
    theirs.enable_padding(length=5)
    path = tmp_path / "tokenizer.json"
    theirs.save(str(path))
    tokenizer = build_tokenizer(iter(()), "", settings(path=str(path)), tmp_path)
    texts = ["film film film", "a film", ""]
    assert ids_of(tokenizer, texts) == [[9, 9, 9], [3, 9], [3]]
    assert vocabulary_size(tokenizer) == 10


def test_a_tokenizer_without_unknown_tokens_will_do(tmp_path: Path) -> None:
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    theirs.train_from_iterator(
        ["some text"], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet)
    )
    theirs.save(str(tmp_path / "tokenizer.json"))
    tokenizer = read_tokenizer(tmp_path / "tokenizer.json")
    (ids, nothing) = ids_of(tokenizer, ["some \u4f60", ""])
    assert tokenizer.decode(ids) != ""
    assert nothing == [0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"", "no usable tokenizer.json"),
        (b"{}", "no usable tokenizer.json"),
        (b"\xff\xfe", "no usable tokenizer.json"),
        (
            Tokenizer(models.WordLevel({"film": 0}, "[UNK]")).to_str().encode(),
            r"Missing \[UNK\] token",
        ),
        (Tokenizer(models.BPE()).to_str().encode(), "no vocabulary"),
    ],
)
def test_what_is_no_tokenizer_is_told(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"tokenizer\.path=.*{says}"):
        read_tokenizer(path)


VALID = [
    train_tokenizer(REVIEWS, settings(60, model=model)).to_str().encode()
    for model in TokenizerModel
]


@st.composite
def nearly_tokenizers(draw: st.DrawFn) -> bytes:
    """A real `tokenizer.json` with a piece of it replaced."""
    content = draw(st.sampled_from(VALID))
    start = draw(st.integers(0, len(content)))
    end = start + draw(st.integers(0, 40))
    values = (b"", b"0", b"-1", b"null", b"[]", b"{}", b'""', b"99999999999", b'"[a"', b"}")
    return content[:start] + draw(st.sampled_from(values) | st.binary(max_size=4)) + content[end:]


@hypothesis.settings(max_examples=FUZZ_EXAMPLES, deadline=None)
@given(st.binary(max_size=200) | nearly_tokenizers())
def test_any_bytes_are_a_tokenizer_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "tokenizer.json"
    path.write_bytes(content)
    try:
        tokenizer = read_tokenizer(path)
    except UserError:
        return
    for ids in ids_of(tokenizer, ["I loved the film", ""]):
        assert 0 <= min(ids) <= max(ids) < vocabulary_size(tokenizer)


def test_padding_of_its_own_is_ignored() -> None:
    plain = train_tokenizer([["a fine film"]], settings())
    padded = json.loads(plain.to_str())
    padded["padding"] = {
        **{"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"},
    }
    parsed = parse_tokenizer(json.dumps(padded).encode())
    assert ids_of(parsed, ["a film"]) == ids_of(plain, ["a film"])


@pytest.mark.parametrize("model", list(TokenizerModel))
def test_spans_are_characters_of_the_text_as_it_was_given(model: TokenizerModel) -> None:
    text = (
        "  I don&#39;t like 😀: it's<br />cafe\u0301&quot;bad&quot; well\u2014no... \u0130s\x85  "
    )
    words = ["I", "do", "n&#39;t", "like", "😀", ":", "it", "'s", "cafe\u0301", "&quot;", "bad"]
    words += ["&quot;", "well", "\u2014", "no", "...", "\u0130s", "\x85"]
    tokenizer = train_tokenizer([[text]], settings(model=model))
    (spans,) = token_spans(tokenizer, [text])
    assert [text[start:end] for start, end in spans] == words
    assert len(spans) == token_ids(tokenizer, [text])[1][0]


def test_spans_of_pieces_of_words_are_theirs() -> None:
    seen = [["good good film film"]]
    tokenizer = train_tokenizer(seen, settings(min_frequency=2, model=TokenizerModel.bpe))
    text = "Goodfilm &amp; FILM<br />"
    (spans,) = token_spans(tokenizer, [text])
    assert [text[start:end] for start, end in spans] == ["Good", "film", "&amp;", "FILM"]


def test_an_unknown_token_stands_for_a_text_without_any() -> None:
    tokenizer = train_tokenizer([["good"]], settings())
    assert token_spans(tokenizer, ["<br />", ""]) == [[(0, 6)], [(0, 0)]]


@given(st.lists(st.text(), max_size=5))
@hypothesis.settings(max_examples=FUZZ_EXAMPLES, deadline=None)
def test_any_text_has_a_span_inside_it_for_each_token(texts: list[str]) -> None:
    tokenizer = train_tokenizer([["good film"]], settings())
    spans, (_, lengths_N) = token_spans(tokenizer, texts), token_ids(tokenizer, texts)
    assert [len(spans_T) for spans_T in spans] == lengths_N.tolist()
    for text, spans_T in zip(texts, spans, strict=True):
        assert all(0 <= start <= end <= len(text) for start, end in spans_T)
        assert spans_T == sorted(spans_T)


@pytest.mark.slow
@pytest.mark.parametrize("model", list(TokenizerModel))
def test_spans_of_real_reviews_spell_their_tokens(imdb_dir: Path, model: TokenizerModel) -> None:
    texts = pq.read_table(imdb_dir / "train.parquet")["text"].to_pylist()[::25]
    tokenizer = train_tokenizer([texts], settings(15_000, model=model))
    alike = tokens = 0
    for text, spans in zip(texts, token_spans(tokenizer, texts), strict=True):
        encoded = tokenizer.encode(text, add_special_tokens=False)
        for token, (start, end) in zip(encoded.tokens, spans, strict=True):
            tokens += 1
            alike += token in (UNK, tokenizer.normalizer.normalize_str(text[start:end]).strip())
    assert tokens > 200_000
    assert alike == tokens
