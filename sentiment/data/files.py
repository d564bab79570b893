"""A user's own reviews: which column is the text, which the label, and what its two values mean."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Value
from numpy.typing import NDArray

from sentiment.config import DataConfig, SplitConfig
from sentiment.data.columns import LABELS, TEXTS, find_column
from sentiment.data.labels import MISSING, read_labels
from sentiment.data.splitting import draw_groups, draw_rows
from sentiment.data.tables import read_table, whole_column
from sentiment.errors import UserError

log = logging.getLogger(__name__)


def read_splits(data: DataConfig, split: SplitConfig) -> tuple[Dataset, Dataset, Dataset]:
    """Read the files; what has no file of its own is set aside from the training reviews.

    Args:
        data: the files, their columns and labels.
        split: the share to set aside, and the seed of the draw.

    Returns:
        Training, validation and test reviews, with the columns `text` and `label`; the latter is
        a `ClassLabel` that knows the two values by the names of the training file. With
        `data.group_column` what is split has the number of its group as `group`.

    Raises:
        UserError: files, columns, texts or labels that cannot be used.
    """
    train = _read(data, "train")
    negative, positive = train.features["label"].names
    data = replace(data, negative=negative, positive=positive)
    taken = [name for name in ("test", "validation") if getattr(data, name) is None]
    parts = _take(taken, train, data, split)
    for name in ("validation", "test"):
        if name not in taken:
            parts[name] = _read(data, name)
    return parts["train"], parts["validation"], parts["test"]


def read_test(data: DataConfig, split: SplitConfig) -> Dataset:
    """The test reviews of `read_splits` alone, from their own file or found again in train."""
    if data.test is not None:
        return _read(data, "test")
    return _take(["test"], _read(data, "train"), data, split)["test"]


def read_unlabelled(data: DataConfig) -> Dataset | None:
    """The texts of `data.unlabelled`, without empty ones; `None` if it is not given.

    Raises:
        UserError: a file, column or texts that cannot be used.
    """
    if data.unlabelled is None:
        return None
    path = Path(os.path.expanduser(data.unlabelled))
    where = f"data.unlabelled={path}"
    table, text = _read_texts(data, path, "data.unlabelled")
    texts = whole_column(table, text)
    _refuse_unusable(texts, f"{where}, column {text!r}")
    filled_N = ~_is_empty(texts)
    if not filled_N.any():
        raise UserError(f"{where}, column {text!r} has no texts, expected some")
    if not filled_N.all():
        log.info("%s: dropped %d rows without a text", where, (~filled_N).sum())
        table = table.select(np.flatnonzero(filled_N))
    return table.select_columns([text]).rename_columns({text: "text"})


def _read_texts(data: DataConfig, path: Path, setting: str) -> tuple[Dataset, str]:
    """A file, and the name of its column of texts."""
    where = f"{setting}={path}"
    table = read_table(path, setting)
    text = find_column(table.column_names, data.text_column, TEXTS, "data.text_column=", where)
    if table.features[text] == Value("large_string"):
        table = table.cast_column(text, Value("string"))
    return table, text


def _take(
    names: list[str], reviews: Dataset, data: DataConfig, split: SplitConfig
) -> dict[str, Dataset]:
    """Take one part after the other from the training reviews; what is left is `train`."""
    labels_N = whole_column(reviews, "label").to_numpy()
    groups_N = None
    if data.group_column is not None:
        groups_N = whole_column(reviews, "group").to_numpy()
    fraction, rows, parts = split.validation_fraction, np.arange(len(reviews)), {}
    for name in names:
        # Each draw has its own numbers: the test reviews are found again alone.
        generator = np.random.default_rng([split.seed, ("test", "validation").index(name)])
        if groups_N is None:
            is_taken = draw_rows(labels_N[rows], fraction, generator)
            how = "stratified by label"
        else:
            is_taken = draw_groups(labels_N[rows], groups_N[rows], fraction, generator)
            how = f"in whole groups of {data.group_column}"
        taken, rows = rows[is_taken], rows[~is_taken]
        if min(len(np.unique(labels_N[part])) for part in (taken, rows)) < 2:
            raise UserError(
                f"data.{name} is not given, and taking split.validation_fraction={fraction} of "
                f"{len(is_taken)} reviews of data.train for it {how} leaves a side without one of "
                f"the classes; give data.{name}=FILE, or more reviews"
            )
        log.info(
            "no data.%s: %d of %d reviews of data.train taken for it, %s",
            *(name, len(taken), len(is_taken), how),
        )
        parts[name] = reviews.select(taken)
    return parts | {"train": reviews.select(rows)}


def _read(data: DataConfig, name: str) -> Dataset:
    """One file as `text` and `label`, the training file with the `group` that may be asked for."""
    path = Path(os.path.expanduser(getattr(data, name)))
    where = f"data.{name}={path}"
    table, text = _read_texts(data, path, f"data.{name}")
    label = find_column(table.column_names, data.label_column, LABELS, "data.label_column=", where)
    if text == label:
        raise UserError(
            f"data.text_column and data.label_column are both {text!r}, expected two columns of "
            f"{where}"
        )
    columns: pa.Table = table.with_format("arrow")[:]
    _refuse_unusable(columns[text], f"{where}, column {text!r}")
    names, labels_N = read_labels(
        *(columns[label], table.features[label], data.negative, data.positive),
        f"{where}, column {label!r}",
    )
    used = {text, label, "text", "label", "group"}
    more = [column for column in table.column_names if column not in used]
    reviews = table.select_columns([text, *more]).rename_columns({text: "text"})
    reviews = reviews.add_column("label", labels_N, feature=ClassLabel(names=names))
    if name == "train" and data.group_column is not None:
        group = find_column(table.column_names, data.group_column, (), "data.group_column=", where)
        reviews = reviews.add_column("group", _groups(columns[group], f"{where}, column {group!r}"))

    missing_N = _is_empty(columns[text]) | (labels_N == MISSING)
    if missing_N.any():
        count, first = missing_N.sum(), missing_N.argmax() + 1
        if not data.drop_empty:
            raise UserError(
                f"{where}: {count} of {len(table)} rows have no text or no label, the first is "
                f"data row {first}; fill them in, or drop them with data.drop_empty=true"
            )
        log.info("%s: dropped %d rows without a text or a label", where, count)
        reviews = reviews.select(np.flatnonzero(~missing_N))
    sizes = np.bincount(labels_N[~missing_N], minlength=2)
    if not sizes.all():
        found = f"only the label {names[sizes.argmax()]!r}" if sizes.any() else "no rows"
        raise UserError(f"{where}, column {label!r} has {found}, expected {' and '.join(names)}")
    return reviews


def _refuse_unusable(texts: pa.ChunkedArray, where: str) -> None:
    if not pa.types.is_string(texts.type):
        raise UserError(f"{where} is of the type {texts.type}, expected strings")
    rows_before = 0
    for chunk in texts.chunks:
        try:
            chunk.validate(full=True)
        except pa.ArrowInvalid as error:
            for row, text in enumerate(chunk.cast(pa.binary()).to_pylist(), start=rows_before + 1):
                if (byte := _undecodable(text or b"")) is not None:
                    raise UserError(
                        f"{where} is not UTF-8 in data row {row} at byte {byte} of the text"
                    ) from error
        rows_before += len(chunk)
    if len(texts) < 10 or len(pc.unique(texts.slice(0, 1000))) > 2:
        return
    values = pc.unique(texts)
    if len(values) <= 2 and not _is_empty(pa.chunked_array([values])).all():
        listed = " and ".join(f"{value!r:.40}" for value in values.to_pylist())
        raise UserError(
            f"{where} has only the texts {listed}: are they labels? Say which column is which "
            "with data.text_column=NAME data.label_column=NAME"
        )


def _undecodable(text: bytes) -> int | None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def _is_empty(texts: pa.ChunkedArray) -> NDArray[np.bool_]:
    empty = pc.or_(pc.utf8_is_space(texts), pc.equal(pc.binary_length(texts), 0))
    mask_N: NDArray[np.bool_] = pc.fill_null(empty, True).to_numpy()
    return mask_N


def _groups(column: pa.ChunkedArray, where: str) -> NDArray[np.int64]:
    try:
        column = column.cast(pa.string())
    except pa.ArrowException as error:
        expected = "expected strings, numbers or dates"
        raise UserError(f"{where} is of the type {column.type}, {expected}") from error
    missing_N = _is_empty(column)
    if missing_N.any():
        raise UserError(
            f"{where} has {missing_N.sum()} rows without a group, the first is data row "
            f"{missing_N.argmax() + 1}; give each a group of its own where it belongs to none"
        )
    groups_N: NDArray[np.int64] = pc.index_in(column, pc.unique(column)).to_numpy()
    return groups_N.astype(np.int64)
