"""Word vectors for a vocabulary, from the text formats of GloVe, word2vec and fastText.

A line is a word and its numbers, one space apart; word2vec and fastText put a line before them that
says how many words and numbers there are. The file is plain, gzipped, or in a zip.
"""

import gzip
import io
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sentiment.config import EmbeddingsConfig
from sentiment.errors import UserError
from sentiment.text.download import ShowBytes, download
from sentiment.text.tokenizer import UNK_ID

BUFFER = 1 << 20
LONGEST_LINE = 1 << 18  # what is longer is no vector, and is not read into memory as a whole
HEADER = re.compile(rb"(\d{1,10}) (\d{1,6})")
NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+|nan|inf)(?:e[-+]?\d+)?", re.IGNORECASE)
# What damaged archives are known to raise, beside what the two modules document.
DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile),
    *(zlib.error, lzma.LZMAError, struct.error),
)


@dataclass(frozen=True)
class WordVectors:
    """Vectors for the words of a vocabulary.

    Attributes:
        values_VE: float32; rows of words that the file lacks are 0.
        found_V: whether the file has the word.
    """

    values_VE: NDArray[np.float32]
    found_V: NDArray[np.bool_]

    def coverage(self, ids: NDArray[np.int32]) -> dict[str, float]:
        """Share of the vocabulary's words, and of their occurrences in `ids`, that have a vector.

        `<pad>` and `<unk>` are no words and do not count.
        """
        counts_V = np.bincount(ids, minlength=len(self.found_V))[UNK_ID + 1 :]
        found_V = self.found_V[UNK_ID + 1 :]
        return {
            "embeddings/vocabulary_coverage": float(found_V.mean()),
            "embeddings/token_coverage": float(counts_V[found_V].sum() / counts_V.sum()),
        }


def find_vectors(config: EmbeddingsConfig, cache_dir: Path, show: ShowBytes) -> Path | None:
    """The file of vectors that the configuration names; `None` stands for random vectors.

    Args:
        config: `path` goes before `url`.
        cache_dir: folder for what is downloaded.
        show: called with every piece of a download.

    Raises:
        UserError: the download failed.
    """
    if config.path is not None:
        return Path(os.path.expanduser(config.path))
    if config.url is None:
        return None
    assert config.sha256 is not None
    cache_dir.mkdir(parents=True, exist_ok=True)
    return download(config.url, config.sha256, cache_dir, show)


def read_vectors(path: Path, vocabulary: Mapping[str, int], dimension: int | None) -> WordVectors:
    """Read the vectors of the vocabulary's words; other words cost a look and no memory.

    Words are compared as bytes, so it does not matter what other words the file has, and in what
    encoding. Of a word that occurs twice the first counts, as in gensim.

    Args:
        path: vectors as text, plain, gzipped or in a zip. Of several files in a zip the one is
            taken whose name ends as GloVe's do, in `.{dimension}d.txt`.
        vocabulary: ids by word; V is one more than the largest.
        dimension: numbers per line; `None` takes that of the file.

    Raises:
        UserError: a file that is missing, damaged, of another dimension or format, or that has
            none of the words.
    """
    ids = {word.encode(): index for word, index in vocabulary.items()}
    with closing(_read_lines(path, dimension)) as lines:
        width, row_by_id = _select(enumerate(lines, start=1), path, ids, dimension)
    if not row_by_id:
        raise UserError(
            f"{path} has no vector for any of the {len(vocabulary)} words of the training "
            "reviews; expected vectors of words in their language"
        )
    size = max(vocabulary.values()) + 1
    values_VE = np.zeros((size, width), dtype=np.float32)
    found_V = np.zeros(size, dtype=np.bool_)
    for index, row in row_by_id.items():
        values_VE[index], found_V[index] = row, True
    return WordVectors(values_VE, found_V)


def _select(
    lines: Iterator[tuple[int, bytes]], path: Path, ids: Mapping[bytes, int], dimension: int | None
) -> tuple[int, dict[int, NDArray[np.float32]]]:
    """The width of the vectors, and those of the given words by id."""
    _, first = next(lines, (1, b""))
    words = None
    if header := HEADER.fullmatch(first):
        words, width = map(int, header.groups())
        if dimension not in (None, width):
            raise UserError(f"{path}, line 1: vectors of {width} numbers, {_expected(dimension)}")
    else:
        width = dimension or _count_numbers(first)
        lines = chain([(1, first)], lines)
    if width < 1:
        raise UserError(f"{path}, line 1: expected a word and its numbers, one space apart")

    row_by_id: dict[int, NDArray[np.float32]] = {}
    number = 1
    for number, line in lines:
        surplus = line.count(b" ") - width
        if surplus and (surplus < 0 or _count_numbers(line) == width + surplus):
            raise UserError(
                f"{path}, line {number}: {width + surplus} numbers after the word, "
                f"{_expected(width)}"
            )
        # The surplus belongs to the word: GloVe 840B has a vector for ". . .".
        word = line.partition(b" ")[0] if not surplus else line.rsplit(b" ", width)[0]
        index = ids.get(word)
        if index is None or index in row_by_id:
            continue
        row_by_id[index] = _parse(line[len(word) + 1 :])
        if not np.isfinite(row_by_id[index]).all():
            raise UserError(
                f"{path}, line {number}: the vector of {word.decode()!r} holds something other "
                "than finite numbers; repair the line"
            )
    if words is not None and number - 1 < words:
        raise UserError(
            f"{path} ends after {number - 1} of the {words} words that line 1 speaks of; "
            "download it again, or correct line 1 if you shortened it"
        )
    return width, row_by_id


def _expected(dimension: int | None) -> str:
    return f"expected {dimension} (set embeddings.dimension to the file's, or repair the line)"


def _count_numbers(line: bytes) -> int:
    """How many of the fields after the first are numbers, counted from the end of the line."""
    fields = line.split(b" ")[1:]
    others = (i for i, field in enumerate(reversed(fields)) if not NUMBER.fullmatch(field))
    return next(others, len(fields))


def _parse(numbers: bytes) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            return np.array(numbers.split(b" "), dtype=np.float32)
    except ValueError:
        return np.full(1, np.nan, dtype=np.float32)


def _read_lines(path: Path, dimension: int | None) -> Generator[bytes]:
    """Lines without what may stand at their ends: spaces, as in fastText's files, and CRLF."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(
            f"embeddings.path: {path} {found}; expected a file of word vectors, e.g. "
            "glove.6B.100d.txt, glove.6B.zip, cc.en.300.vec.gz"
        )
    try:
        with _open(path, dimension) as content:
            file = io.BufferedReader(content, BUFFER)
            if b"\0" in file.peek():
                raise UserError(
                    f"{path} is binary, expected vectors as text: give fastText's .vec in place of "
                    "its .bin, and turn word2vec's .bin into text, with gensim: KeyedVectors"
                    ".load_word2vec_format(BIN, binary=True).save_word2vec_format(TXT)"
                )
            if not file.peek():
                raise UserError(f"{path} is empty, expected a word and its numbers in each line")
            while line := file.readline(LONGEST_LINE):
                yield line.rstrip(b" \r\n")
    except DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(
            f"cannot read {path}: {reason}; if it is not whole, delete it, then download or copy "
            "it again"
        ) from error


@contextmanager
def _open(
    path: Path, dimension: int | None
) -> Iterator[io.FileIO | gzip.GzipFile | zipfile.ZipExtFile]:
    with path.open("rb", buffering=0) as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as content:
                yield content
        elif magic in (b"PK\x03\x04", b"PK\x05\x06"):
            with (
                zipfile.ZipFile(file) as archive,
                archive.open(_choose_member(archive, path, dimension)) as member,
            ):
                yield cast(zipfile.ZipExtFile, member)
        else:
            yield file


def _choose_member(archive: zipfile.ZipFile, path: Path, dimension: int | None) -> str:
    names = [name for name in archive.namelist() if name.endswith((".txt", ".vec"))]
    matching = [name for name in names if name.endswith(f".{dimension}d.txt")]
    if len(names) == 1 or len(matching) == 1:
        return (matching or names)[0]
    raise UserError(
        f"{path} holds {', '.join(names) or 'no .txt or .vec file'}: embeddings.dimension="
        f"{'null' if dimension is None else dimension} names none of them; give one that does, "
        "or unpack the file you want and give it as embeddings.path"
    )
