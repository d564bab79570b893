"""Reviews and labels, from the hub, a local copy, the bundled sample or a user's files, and splits.

A split is a `datasets.Dataset` with the columns `text` (string) and `label` (0 or 1, 1 being
positive), and what other columns the source has, as they stand there.
"""

import contextlib
import glob
import gzip
import logging
import math
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from datasets.exceptions import DatasetsError
from numpy.typing import NDArray

from sentiment.config import (
    HUB_ID,
    LABEL_NAMES,
    REVISION,
    DataConfig,
    DataSource,
    SplitConfig,
    SplitKind,
)
from sentiment.data import files
from sentiment.data.films import film_numbers
from sentiment.data.splitting import draw_groups, draw_rows
from sentiment.data.tables import BATCH, whole_column
from sentiment.errors import UserError

log = logging.getLogger(__name__)

SAMPLE = Path(__file__).parent / "sample"
FEATURES = Features({"text": Value("string"), "label": Value("int64")})
FOLDERS = {
    "train": ("train/pos", "train/neg"),
    "test": ("test/pos", "test/neg"),
    "unsupervised": ("train/unsup",),
}
"""Where `aclImdb` has the reviews of each split."""
LABELS = {"neg": 0, "pos": 1, "unsup": -1}


def load_splits(data: DataConfig, split: SplitConfig) -> dict[str, Dataset]:
    """Read train and test, take validation from train, and keep any text in one split only.

    A user's own files may bring a validation split, or leave the test reviews to be taken as well.

    Returns:
        `train`, `validation` and `test`; reviews that belong together, as those of a film, may have
        the same number in a column `group`.

    Raises:
        UserError: reviews that cannot be read, or too few of them to split.
    """
    if data.source is DataSource.files:
        train, validation, test = files.read_splits(data, split)
    else:
        train, test = load_split(data, "train"), load_split(data, "test")
        train = train.add_column("group", _films(train))
        is_validation = validation_mask(labels_of(train), groups_of(train), split)
        validation = train.select(np.flatnonzero(is_validation))
        train = train.select(np.flatnonzero(~is_validation))
    validation = _without_texts_of(validation, test, "validation", "test")
    train = _without_texts_of(train, test, "train", "test")
    train = _without_texts_of(train, validation, "train", "validation")
    for name, reviews in (("train", train), ("validation", validation)):
        if len(np.unique(labels_of(reviews))) < 2:
            raise UserError(
                f"without the texts that are also in another split {len(reviews)} {name} reviews "
                "are left, expected some of each class; give splits of different reviews"
            )
    return {"train": train, "validation": validation, "test": test}


def take_labelled(train: Dataset, split: SplitConfig) -> tuple[Dataset, Dataset]:
    """Draw the training reviews whose labels may be looked at, as many of each class as there are.

    Those of a smaller number are among those of a larger one.

    Returns:
        All columns of these reviews, and the texts of the others.

    Raises:
        UserError: there are not so many.
    """
    if split.labelled is None:
        return train, train.select([]).select_columns(["text"])
    if split.labelled > len(train):
        raise UserError(
            f"split.labelled is {split.labelled}, expected no more than the {len(train)} reviews "
            "that there are to train on"
        )
    labels_N = labels_of(train)
    generator = np.random.default_rng(split.seed)
    # One of each class, and then in turn, so that each has its share of any number of them.
    place_N = np.empty(len(train))
    for label in (0, 1):
        rows = generator.permutation(np.flatnonzero(labels_N == label))
        place_N[rows] = (np.arange(len(rows)) + (label + 1) / 3) / len(rows)
        place_N[rows[0]] = -1
    order = np.argsort(place_N, kind="stable")
    kept, rest = np.sort(order[: split.labelled]), np.sort(order[split.labelled :])
    return train.select(kept), train.select(rest).select_columns(["text"])


def load_unlabelled(data: DataConfig, splits: Mapping[str, Dataset]) -> Dataset:
    """Read texts that nobody labelled, but for those that also stand in one of the splits.

    Returns:
        Texts as the column `text`; none of the sample, or where a user gives none.

    Raises:
        UserError: texts that cannot be read.
    """
    if data.source is DataSource.files:
        texts = files.read_unlabelled(data)
    elif data.source is DataSource.imdb:
        texts = _read(data, "unsupervised")
    else:
        texts = None
    if texts is None:
        return splits["train"].select([]).select_columns(["text"])
    for name, other in splits.items():
        texts = _without_texts_of(texts, other, "unlabelled", name)
    return texts.select_columns(["text"])


def load_test(data: DataConfig, split: SplitConfig) -> Dataset:
    """The `test` of `load_splits` alone."""
    if data.source is DataSource.files:
        return files.read_test(data, split)
    return load_split(data, "test")


def labels_of(reviews: Dataset) -> NDArray[np.int64]:
    """0 or 1 per review."""
    labels_N: NDArray[np.int64] = whole_column(reviews, "label").to_numpy()
    return labels_N


def groups_of(reviews: Dataset) -> NDArray[np.int64]:
    """A number per review, the same one for those that belong together."""
    if "group" not in reviews.column_names:
        return np.arange(len(reviews))
    groups_N: NDArray[np.int64] = whole_column(reviews, "group").to_numpy()
    return groups_N


def ratings_of(reviews: Dataset) -> NDArray[np.float64]:
    """Rating per review, such as a number of stars; NaN where none is known."""
    if "rating" not in reviews.column_names:
        return np.full(len(reviews), np.nan)
    values = whole_column(reviews, "rating").to_pylist()
    return np.array([_number(value) for value in values], np.float64)


def column_of(reviews: Dataset, name: str) -> list[Any]:
    """The values of a column that came along.

    Raises:
        UserError: there is none of this name.
    """
    others = [column for column in reviews.column_names if column not in FEATURES]
    if name not in others:
        listed = ", ".join(map(repr, others)) or "none"
        raise UserError(
            f"the test reviews have no column {name!r} beside text and label, only {listed}"
        )
    values: list[Any] = whole_column(reviews, name).to_pylist()
    return values


def _number(value: Any) -> float:
    with contextlib.suppress(TypeError, ValueError):
        return float(value)
    return math.nan


def label_names(reviews: Dataset) -> tuple[str, str]:
    """What the labels 0 and 1 are called where the reviews come from."""
    feature = reviews.features["label"]
    return tuple(feature.names) if isinstance(feature, ClassLabel) else LABEL_NAMES


def load_split(data: DataConfig, name: str) -> Dataset:
    """Read one split of IMDB or the sample, whole and in its original order.

    Args:
        data: where from.
        name: `train` or `test`.

    Raises:
        UserError: a user's files, reviews that cannot be read, or labels other than 0 and 1.
    """
    if data.source is DataSource.files:
        raise UserError("data is files, expected imdb or sample: only these are read here")
    reviews = _read(data, name)
    labels = set(np.unique(labels_of(reviews)).tolist())
    if labels != {0, 1}:
        raise UserError(
            f"the {name} reviews have the labels {sorted(labels)}, expected both 0 (negative) "
            "and 1 (positive)"
        )
    return reviews


def validation_mask(
    labels_N: NDArray[np.int64], groups_N: NDArray[np.int64], split: SplitConfig
) -> NDArray[np.bool_]:
    """Choose validation reviews of IMDB or the sample.

    Reviews of one film resemble each other. A split that draws single reviews puts them on both
    sides and overstates test accuracy by about a point (docs/experiments.md), as no film is in both
    train and test.

    Args:
        labels_N: 0 or 1 per review.
        groups_N: a number per review, that of its film.
        split: the share to take, the seed of the draw, and whether it draws whole films.

    Returns:
        True where the review is for validation; each class gives about the same share.

    Raises:
        UserError: a class would have nothing left to train on or to validate with.
    """
    fraction = split.validation_fraction
    for label, rows in enumerate(np.bincount(labels_N, minlength=2)):
        wanted = round(rows * fraction)
        if not 0 < wanted < rows:
            raise UserError(
                f"split.validation_fraction={fraction} takes {wanted} of {rows} "
                f"{LABEL_NAMES[label]} reviews for validation, expected at least one on each side"
            )
    generator = np.random.default_rng(split.seed)
    if split.kind is SplitKind.random:
        return draw_rows(labels_N, fraction, generator)
    return draw_groups(labels_N, groups_N, fraction, generator)


def _read(data: DataConfig, name: str) -> Dataset:
    """A split of IMDB or the sample, as it stands there."""
    if data.source is DataSource.sample:
        return _read_parquet(SAMPLE / f"{name}.parquet")
    if data.path is None:
        return _read_hub(name)
    return _read_local(Path(os.path.expanduser(data.path)), name)


def _films(reviews: Dataset) -> NDArray[np.int64]:
    films_N, known = film_numbers(whole_column(reviews, "text").to_pylist())
    if 0 < known < len(reviews):
        log.warning(
            "%d of %d training reviews are not known to be of IMDB: each of them is taken for one "
            "of a film of its own",
            *(len(reviews) - known, len(reviews)),
        )
    return films_N


def _without_texts_of(reviews: Dataset, other: Dataset, name: str, other_name: str) -> Dataset:
    known = whole_column(other, "text")
    duplicate_N = np.zeros(len(reviews), dtype=np.bool_)
    # In parts: of a large data set only the other split's texts are in memory.
    for start, part in enumerate(reviews.select_columns("text").with_format("arrow").iter(BATCH)):
        found = pc.is_in(part["text"].combine_chunks(), value_set=known)
        rows = slice(start * BATCH, start * BATCH + len(found))
        duplicate_N[rows] = found.to_numpy(zero_copy_only=False)
    if duplicate_N.any():
        count = int(duplicate_N.sum())
        log.info("dropped %d %s reviews whose text is also in %s", count, name, other_name)
        reviews = reviews.select(np.flatnonzero(~duplicate_N))
    return reviews


def _read_hub(name: str) -> Dataset:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        reviews = load_dataset(HUB_ID, revision=REVISION, split=name)
    except Exception as error:  # the network's libraries share no class
        raise UserError(
            f"cannot fetch {HUB_ID} from the Hugging Face hub ({_first_line(error)}); "
            "point data.path at a local copy, or use data=sample, which needs no network"
        ) from error
    return _checked(reviews, HUB_ID)


def _read_local(path: Path, name: str) -> Dataset:
    if path.is_file() and path.name.endswith((".tar.gz", ".tgz")):
        return _from_texts(_archive_members(path, name), path, name)
    for pattern in (f"{name}.parquet", f"{name}-*.parquet", f"plain_text/{name}-*.parquet"):
        if files := sorted(path.glob(pattern)):
            return _read_parquet(*files)
    for folder in (path, path / "aclImdb"):
        if all((folder / place).is_dir() for place in FOLDERS[name]):
            return _from_texts(_folder_members(folder, name), path, name)
    raise UserError(
        f"data.path={path}: {f'no {name} reviews in it' if path.exists() else 'not there'}; "
        f"expected a folder with train.parquet and {'test' if name == 'train' else name}.parquet, "
        "the aclImdb folder, or its .tar.gz"
    )


def _read_parquet(*files: Path) -> Dataset:
    escaped = [glob.escape(str(file)) for file in files]
    try:
        reviews = load_dataset("parquet", data_files=escaped, split="train")
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = _first_line(error.__cause__ or error)
        raise UserError(f"cannot read {files[0]} as parquet: {reason}") from error
    return _checked(reviews, str(files[0]))


def _checked(reviews: Dataset, where: str) -> Dataset:
    if not {"text", "label"} <= set(reviews.column_names):
        raise UserError(
            f"{where} has the columns {reviews.column_names}, expected 'text' and 'label'"
        )
    more = [name for name in reviews.column_names if name not in (*FEATURES, "group")]
    reviews = reviews.select_columns(["text", "label", *more])
    expected = Features(FEATURES | {name: reviews.features[name] for name in more})
    if reviews.features["text"] not in (Value("string"), Value("large_string")):
        found = reviews.features["text"]
        raise UserError(f"{where} has texts of the type {found}, expected strings")
    table: pa.Table = reviews.with_format("arrow")[:]
    if missing := max(table[column].null_count for column in ("text", "label")):
        raise UserError(f"{where} has {missing} rows without a text or a label; remove them")
    try:
        table["text"].validate(full=True)
        return reviews if reviews.features == expected else reviews.cast(expected)
    except (DatasetsError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{where} holds something other than UTF-8 texts and whole numbers as labels "
            f"({_first_line(error)})"
        ) from error


def _from_texts(members: Iterator[tuple[PurePosixPath, bytes]], path: Path, name: str) -> Dataset:
    # Files are called ID_RATING.txt: by class, then by id, reviews of one film are neighbours.
    found = {}
    for member, content in members:
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: {member} is not UTF-8 at byte {error.start}") from error
        label, (number, rating) = LABELS[member.parent.name], map(int, member.stem.split("_"))
        found[label, number] = {"text": text, "label": label, "rating": rating}
    if not found:
        places = " or ".join(f"{place}/*.txt" for place in FOLDERS[name])
        raise UserError(f"{path} holds no {places} reviews")
    rows = [found[key] for key in sorted(found)]
    return Dataset.from_list(rows, features=Features(FEATURES | {"rating": Value("int64")}))


def _is_review(member: PurePosixPath, name: str) -> bool:
    place = f"{member.parent.parent.name}/{member.parent.name}"
    return place in FOLDERS[name] and re.fullmatch(r"\d+_\d+\.txt", member.name) is not None


def _folder_members(folder: Path, name: str) -> Iterator[tuple[PurePosixPath, bytes]]:
    for place in FOLDERS[name]:
        for file in (folder / place).glob("*.txt"):
            if _is_review(PurePosixPath(file), name):
                yield PurePosixPath(file), file.read_bytes()


def _archive_members(path: Path, name: str) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in archive:
                if entry.isfile() and _is_review(PurePosixPath(entry.name), name):
                    content = archive.extractfile(entry)
                    assert content is not None
                    yield PurePosixPath(entry.name), content.read()
            # tarfile takes a damaged entry for the end; gzip knows better, at its own end.
            while stream.read(1 << 20):
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"cannot read {path}: {_first_line(error)}; download it again") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
