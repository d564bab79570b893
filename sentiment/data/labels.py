"""The two label values of a user's column, however they are written, as 0 and 1."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel
from numpy.typing import NDArray

from sentiment.errors import UserError

USUAL = (
    ("neg", "pos"),
    ("negative", "positive"),
    ("0", "1"),
    ("-1", "1"),
    ("false", "true"),
    ("no", "yes"),
    ("1", "5"),
)
MISSING = -1
MOST_VALUES = 1000


def read_labels(
    column: pa.ChunkedArray,
    feature: Any,
    negative: str | None,
    positive: str | None,
    where: str,
) -> tuple[list[str], NDArray[np.int64]]:
    """Tell which value is negative and which positive, and number the rows accordingly.

    Values are compared without regard to case, spaces around them, and whether a whole number is
    written 1 or 1.0. Where only one of the two is given, the other value that occurs is the other.

    Args:
        column: strings, whole numbers, floats or booleans.
        feature: its type as `datasets` knows it; of a `ClassLabel` the names count.
        negative: the value that is 0; `None`: recognised by its usual names.
        positive: the value that is 1; `None`: likewise.
        where: names the file and column in messages.

    Returns:
        Both values as the column most often writes them, negative first, and 0, 1 or `MISSING`
        for each row.

    Raises:
        UserError: values that are not recognised, or others beside the two.
    """
    values, index_N = _distinct(column, feature, where)
    counts = np.bincount(index_N, minlength=len(values))
    keys = [_key(value) for value in values]
    spelling: dict[str, str] = {}
    for position in np.argsort(-counts, kind="stable"):
        spelling.setdefault(keys[position], values[position].strip())
    spelling.pop("", None)

    def listed(shown: list[str]) -> str:
        rows = {key: np.isin(index_N, [i for i, k in enumerate(keys) if k == key]) for key in shown}
        parts = [
            f"{spelling[key]!r:.40} ({mask_N.sum()} rows, the first is data row "
            f"{mask_N.argmax() + 1})"
            for key, mask_N in rows.items()
        ]
        return ", ".join(parts)

    given = [_key(value) if value is not None else None for value in (negative, positive)]
    if given[0] is not None and given[0] == given[1]:
        raise UserError(
            f"data.negative={negative} and data.positive={positive} are one label, expected two"
        )
    pair = _choose(set(spelling), given[0], given[1])
    present = list(spelling)
    if pair is None and len(present) == 2:
        first, second = (spelling[key] for key in present)
        raise UserError(
            f"{where} has the labels {listed(present)}: say which is which, with "
            f"data.positive={first} data.negative={second} or the other way round"
        )
    if pair is None and len(present) < 2:
        found = f"only the label {listed(present)}" if present else "no labels"
        raise UserError(f"{where} has {found}, expected two classes")
    others = [key for key in present if pair is None or key not in pair]
    if others:
        expected = "two" if pair is None else " and ".join(repr(spelling.get(k, k)) for k in pair)
        more = f" and {len(others) - 5} others" if len(others) > 5 else ""
        raise UserError(
            f"{where} has the labels {listed(others[:5])}{more}, expected only {expected}; remove "
            "these rows, or name the two with data.positive=VALUE data.negative=VALUE"
        )
    assert pair is not None
    codes = {pair[0]: 0, pair[1]: 1, "": MISSING}
    names = [
        spelling.get(key, value or key)
        for key, value in zip(pair, (negative, positive), strict=True)
    ]
    return names, np.array([codes[key] for key in keys], dtype=np.int64)[index_N]


def _choose(
    present: set[str], negative: str | None, positive: str | None
) -> tuple[str, str] | None:
    if negative is not None and positive is not None:
        return negative, positive
    rest = present - {negative, positive}
    if negative is not None or positive is not None:
        if len(rest) != 1 or len(present) != 2:
            return None
        (other,) = rest
        return (other, positive) if positive is not None else (negative or "", other)
    exact = [pair for pair in USUAL if present == set(pair)]
    # 1 and 5 are stars where nothing else occurs; among others they say nothing.
    within = [pair for pair in USUAL if present >= set(pair) and pair != ("1", "5")]
    candidates = exact or within
    return candidates[0] if len(candidates) == 1 else None


def _distinct(
    column: pa.ChunkedArray, feature: Any, where: str
) -> tuple[list[str], NDArray[np.int64]]:
    if isinstance(feature, ClassLabel):
        known = pc.if_else(pc.less(column, 0), None, column)
        column = pc.take(pa.array(feature.names, pa.string()), known)
    kind = column.type
    kinds = ("string", "large_string", "integer", "floating", "boolean", "null")
    if not any(getattr(pa.types, f"is_{name}")(kind) for name in kinds):
        raise UserError(f"{where} is of the type {kind}, expected strings, numbers or booleans")
    unique = pc.unique(column)
    if len(unique) > MOST_VALUES:
        examples = ", ".join(f"{value.as_py()!r:.40}" for value in unique[:3])
        raise UserError(
            f"{where} has {len(unique)} different values, such as {examples}, expected two; say "
            "which column has the labels with data.label_column=NAME"
        )
    index_N = pc.index_in(column, value_set=unique).to_numpy().astype(np.int64)
    return [_spelled(value) for value in unique.to_pylist()], index_N


def _spelled(value: str | bool | int | float | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _key(value: str) -> str:
    """One spelling for all that mean the same: "Pos " is "pos", "1.0" is "1"."""
    plain = value.strip().casefold()
    try:
        number = float(plain)
    except ValueError:
        return plain
    return str(int(number)) if number.is_integer() else plain
