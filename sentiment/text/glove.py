"""Word vectors for a vocabulary from a file in GloVe's text format (Pennington et al., 2014)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentiment.errors import UserError
from sentiment.text.tokenizer import UNK_ID


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


def read_glove(path: Path, vocabulary: Mapping[str, int], dimension: int | None) -> WordVectors:
    """Read the vectors of the vocabulary's words; other words cost a look and no memory.

    Args:
        path: lines of a word and its numbers, separated by single spaces, UTF-8.
        vocabulary: ids by word, 0 to V - 1.
        dimension: numbers per line; `None` takes that of the first line.

    Raises:
        UserError: no such file, or a line with another count of numbers, or one that is none.
    """
    if not path.is_file():
        raise UserError(
            f"embeddings.path: no file {path}; expected a GloVe text file, e.g. glove.6B.100d.txt"
        )
    with path.open("rb") as file:
        columns = file.readline().count(b" ")
        width = columns if dimension is None else dimension
        if columns < 1:
            raise UserError(f"{path}, line 1: expected a word and its numbers, one space apart")
        file.seek(0)
        ids = {word.encode(): index for word, index in vocabulary.items()}
        values_VE = np.zeros((len(vocabulary), width), dtype=np.float32)
        found_V = np.zeros(len(vocabulary), dtype=np.bool_)
        for number, line in enumerate(file, start=1):
            if line.count(b" ") != width:
                raise UserError(
                    f"{path}, line {number}: {line.count(b' ')} numbers after the word, expected "
                    f"{width} (set embeddings.dimension to the file's, or repair the line)"
                )
            word, _, numbers = line.partition(b" ")
            if (index := ids.get(word)) is None:
                continue
            try:
                values_VE[index] = np.array(numbers.split(b" "), dtype=np.float32)
            except ValueError:
                values_VE[index] = np.nan
            if not np.isfinite(values_VE[index]).all():
                raise UserError(
                    f"{path}, line {number}: the vector of {word.decode()!r} holds something "
                    "other than finite numbers; repair the line"
                )
            found_V[index] = True
    return WordVectors(values_VE, found_V)
