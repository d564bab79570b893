"""Write `sentiment/data/films.parquet`: which training reviews of IMDB are about the same film.

    python scripts/make_films.py PATH/TO/aclImdb [--output sentiment/data/films.parquet]

reads the reviews of the original folder, and the addresses of their films from `train/urls_neg.txt`
and `train/urls_pos.txt`, whose line n belongs to the review with the id n.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiment import cli
from sentiment.arguments import new_file
from sentiment.data.films import FILMS, text_keys
from sentiment.errors import UserError


def reviews_with_addresses(folder: Path) -> Iterator[tuple[str, str]]:
    """Text of each training review, and the address of its film.

    Raises:
        UserError: a review without one.
    """
    for label in ("neg", "pos"):
        addresses = (folder / "train" / f"urls_{label}.txt").read_text().split()
        for file in (folder / "train" / label).glob("*.txt"):
            number = file.stem.partition("_")[0]
            if not (number.isdecimal() and int(number) < len(addresses)):
                raise UserError(
                    f"{file} has no line among the {len(addresses)} of urls_{label}.txt"
                )
            yield file.read_text(encoding="utf-8"), addresses[int(number)]


def main() -> None:
    """Parse the command line, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="aclImdb")
    parser.add_argument("--output", type=new_file, default=FILMS)
    arguments = parser.parse_args()
    with cli.one_line_errors():
        write_films(arguments.folder, arguments.output)


def write_films(folder: Path, output: Path) -> None:
    """Write the table, a row for each distinct text.

    Raises:
        UserError: a folder without reviews, or one without the address of its film.
        OSError: a folder without the lists of addresses.
    """
    found = list(reviews_with_addresses(folder))
    if not found:
        raise UserError(f"{folder} has no train/neg/*.txt and train/pos/*.txt, expected aclImdb")
    texts, addresses = zip(*found, strict=True)
    keys_K, first_K = np.unique(text_keys(texts), return_index=True)
    _, films_N = np.unique(addresses, return_inverse=True)
    table = pa.table({"text": keys_K, "film": films_N[first_K].astype(np.uint16)})
    pq.write_table(table, output, compression="zstd", use_dictionary=["film"])


if __name__ == "__main__":
    main()
