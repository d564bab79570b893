"""Text to token ids: words as GloVe has them, pieces of such words, or any `tokenizer.json`.

GloVe was trained on text split the Penn Treebank way ("do n't", "it 's"), in lower case. The rules
here reproduce that as far as IMDB needs it: 99.6 % of its tokens are words of GloVe 6B. All of it,
the cleaning included, lives inside `tokenizer.json`.
"""

import contextlib
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.models import BPE, Model, WordLevel, WordPiece
from tokenizers.normalizers import NFC, Lowercase, Normalizer, Replace
from tokenizers.pre_tokenizers import Split
from tokenizers.trainers import BpeTrainer, Trainer, WordPieceTrainer

from sentiment.config import TokenizerConfig, TokenizerModel
from sentiment.errors import UserError
from sentiment.text.pieces import TAG, count_words, piecewise_ids

Span = tuple[int, int]

PAD, UNK = "<pad>", "<unk>"
PAD_ID, UNK_ID = 0, 1
MAX_ALPHABET = 1000

# What to clean, in this order. U+0080 to U+009F are punctuation of Windows-1252 that was read as
# Latin-1 somewhere on its way: 3.2 % of the IMDB reviews have some.
REPLACEMENTS = (
    (Regex(TAG), " "),
    ("&quot;", '"'),
    ("&amp;", "&"),
    (Regex(r"&(?:apos|#0?39|#8217);"), "'"),
    (Regex(r"&#?\w{1,8};"), " "),
    (Regex("[\u0091\u0092\u2018\u2019\u00b4`]"), "'"),
    (Regex("[\u0093\u0094\u201c\u201d]"), '"'),
    (Regex("[\u0096\u0097\u2013\u2014]"), " - "),
    (Regex("[\u0085\u2026]|\\.{2,}"), "..."),
    (Regex("[\u0000-\u0008\u000e-\u001f\u007f-\u009f]"), " "),
)

READ_AS_ONE = re.compile(r"&#?\w{1,8};$|\.+$")

WORD = r"[^\W_]+"
TOKEN = Regex(
    rf"{WORD}(?=n't\b)|n't\b|'(?:s|m|d|ll|re|ve)\b"  # do|n't, it|'s
    rf"|{WORD}|\.\.\.|--+|[^\w\s]|_"
)


def build_tokenizer(
    texts: Iterable[list[str]], fingerprint: str, config: TokenizerConfig, cache_dir: Path
) -> Tokenizer:
    """Make the tokenizer that the configuration asks for.

    Raises:
        UserError: `tokenizer.path` cannot be used, or no word occurs often enough.
    """
    if config.path is None:
        return cached_tokenizer(texts, fingerprint, config, cache_dir)
    return read_tokenizer(Path(os.path.expanduser(config.path)))


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json` of any kind.

    Raises:
        UserError: no such file, or one that is no tokenizer.
    """
    try:
        return parse_tokenizer(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"tokenizer.path={path}: {error.strerror}; expected a tokenizer.json"
        ) from error
    except ValueError as error:
        raise UserError(
            f"tokenizer.path={path} is no usable tokenizer.json of the tokenizers library: {error}"
        ) from error


def parse_tokenizer(content: bytes) -> Tokenizer:
    """The tokenizer in a `tokenizer.json`, its own truncation and padding switched off.

    Raises:
        ValueError: there is none, or one that cannot encode what it does not know.
    """
    try:
        tokenizer = Tokenizer.from_buffer(content)
        tokenizer.no_truncation()
        tokenizer.no_padding()  # before it pads to whatever length a file says
        tokenizer.encode("\U0010ffff")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises no class of its own, and panics
        raise ValueError(str(error)) from error
    if vocabulary_size(tokenizer) == 0:
        raise ValueError("it has no vocabulary")
    return tokenizer


def token_ids(
    tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids of texts, on all cores, without special tokens.

    A text without any token becomes a single `<unk>`.

    Returns:
        The ids of all texts, one after the other, and how many each has.

    Raises:
        UserError: a tokenizer whose parts do not fit together, as only a damaged file has them.
    """
    with _one_error():
        if _splits_at_spaces(tokenizer):
            ids, lengths_N = piecewise_ids(tokenizer, texts)
        else:
            encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            lengths_N = np.array([len(encoding) for encoding in encodings], np.int64)
            ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int64)
    empty_N = lengths_N == 0
    ids = np.insert(ids, lengths_N.cumsum()[empty_N], unknown_id(tokenizer))
    return ids, lengths_N + empty_N


def token_spans(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[Span]]:
    """Where each token of `token_ids` begins and ends in its text, in characters.

    An entity, dots that become "..." and an accent of its own belong to the token that they are
    read as; the `<unk>` of a text without any token stands for all of it.

    Raises:
        UserError: as `token_ids`.
    """
    with _one_error():
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [
        _widen(text, encoding.offsets) or [(0, len(text))]
        for text, encoding in zip(texts, encodings, strict=True)
    ]


def _widen(text: str, spans: Sequence[Span]) -> list[Span]:
    """Add what the library leaves out: of several characters that become one it names the last."""
    widened: list[Span] = []
    before = 0
    for (start, end), (after, _) in pairwise([*spans, (len(text), len(text))]):
        if head := READ_AS_ONE.search(text[before : start + 1]):
            start = min(start, before + head.start())
        while end < after and unicodedata.combining(text[end]):
            end += 1
        widened.append((start, end))
        before = max(before, end)
    return widened


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library's own code is no Exception
        raise UserError(f"the tokenizer cannot encode a text: {error}") from error


def _splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether it cleans and splits as those made here do, whatever its vocabulary."""
    ours = _empty_tokenizer(TokenizerModel.word)
    ours.add_special_tokens([PAD, UNK])
    return (
        tokenizer.normalizer.__getstate__() == ours.normalizer.__getstate__()
        and tokenizer.pre_tokenizer.__getstate__() == ours.pre_tokenizer.__getstate__()
        and tokenizer.get_added_tokens_decoder() == ours.get_added_tokens_decoder()
        and tokenizer.post_processor is tokenizer.truncation is tokenizer.padding is None
    )


def unknown_id(tokenizer: Tokenizer) -> int:
    """Id of the token for what the vocabulary lacks; 0 where a tokenizer has none."""
    token = getattr(tokenizer.model, "unk_token", None)
    index = tokenizer.token_to_id(token) if token is not None else None
    return 0 if index is None else index


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id: the rows of an embedding, also where ids have gaps."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def _empty_tokenizer(model: TokenizerModel) -> Tokenizer:
    models: dict[TokenizerModel, Model] = {
        TokenizerModel.word: WordLevel({PAD: PAD_ID, UNK: UNK_ID}, unk_token=UNK),
        TokenizerModel.bpe: BPE(unk_token=UNK),
        TokenizerModel.wordpiece: WordPiece(
            {PAD: PAD_ID, UNK: UNK_ID}, unk_token=UNK, continuing_subword_prefix=""
        ),
    }
    tokenizer = Tokenizer(models[model])
    cleaning: list[Normalizer] = [Replace(pattern, content) for pattern, content in REPLACEMENTS]
    tokenizer.normalizer = normalizers.Sequence([*cleaning, NFC(), Lowercase()])
    # One Split with one pattern is about 3 times as fast as a sequence of pre-tokenizers.
    tokenizer.pre_tokenizer = Split(TOKEN, behavior="removed", invert=True)
    return tokenizer


def _trainer(config: TokenizerConfig) -> Trainer:
    size, special = config.vocabulary_size, [PAD, UNK]
    # Pieces bear no mark of where in a word they stand: marked ones the library numbers in the
    # order of a hash table, and no two trainings would agree.
    alphabet = min(MAX_ALPHABET, size - len(special))
    if config.model is TokenizerModel.bpe:
        return BpeTrainer(
            vocab_size=size,
            min_frequency=config.min_frequency,
            special_tokens=special,
            limit_alphabet=alphabet,
            show_progress=False,
        )
    return WordPieceTrainer(
        vocab_size=size,
        min_frequency=config.min_frequency,
        special_tokens=special,
        limit_alphabet=alphabet,
        continuing_subword_prefix="",
        show_progress=False,
    )


def train_tokenizer(texts: Iterable[list[str]], config: TokenizerConfig) -> Tokenizer:
    """Learn a vocabulary.

    Args:
        texts: batches of training reviews; nothing else may be in there. Words are counted batch by
            batch, the faster the larger they are.
        config: kind and size of the vocabulary, and least frequency of its entries.

    Returns:
        A tokenizer in which id 0 is `<pad>` and id 1 is `<unk>`; words follow by frequency.

    Raises:
        UserError: no word occurs often enough.
    """
    tokenizer = _empty_tokenizer(config.model)
    if config.model is TokenizerModel.word:
        tokenizer.model = _learn_words(texts, config)
        tokenizer.add_special_tokens([PAD, UNK])
    else:
        tokenizer.train_from_iterator(texts, _trainer(config))
    if tokenizer.get_vocab_size() == UNK_ID + 1:
        raise UserError(
            f"no word occurs {config.min_frequency} times in the training reviews: "
            "lower tokenizer.min_frequency or give more reviews"
        )
    return tokenizer


def _learn_words(texts: Iterable[list[str]], config: TokenizerConfig) -> WordLevel:
    counts: Counter[str] = Counter()
    for batch in texts:
        counts.update(count_words(_empty_tokenizer(TokenizerModel.word), batch))
    frequent = [word for word, count in counts.items() if count >= config.min_frequency]
    words = [PAD, UNK, *sorted(frequent, key=lambda word: (-counts[word], word))]
    vocabulary = {word: index for index, word in enumerate(words[: config.vocabulary_size])}
    return WordLevel(vocabulary, unk_token=UNK)


def cached_tokenizer(
    texts: Iterable[list[str]], fingerprint: str, config: TokenizerConfig, cache_dir: Path
) -> Tokenizer:
    """Learn a vocabulary as `train_tokenizer` does, or read back the one learned before.

    Args:
        texts: batches of training reviews.
        fingerprint: hash of those reviews.
        config: kind and size of the vocabulary, and least frequency of its entries.
        cache_dir: folder where tokenizers are kept, named after all that they depend on.

    Raises:
        OSError: the folder cannot be made.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    depends_on = (
        fingerprint,
        config.vocabulary_size,
        config.min_frequency,
        _empty_tokenizer(config.model).to_str(),
    )
    key = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:32]
    path = cache_dir / f"tokenizer-{key}.json"
    if path.is_file():
        # What cannot be read back is learned anew; the library raises nothing more specific.
        with contextlib.suppress(Exception):
            return Tokenizer.from_file(str(path))
    tokenizer = train_tokenizer(texts, config)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    tokenizer.save(str(partial))
    partial.replace(path)
    return tokenizer
