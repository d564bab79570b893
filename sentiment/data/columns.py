"""Which column of a user's table is the text and which the label, and what separates columns."""

import csv
from collections.abc import Collection, Sequence

from sentiment.errors import UserError

TEXTS = ("text", "review", "review_text", "sentence", "content", "comment", "body", "message")
LABELS = ("label", "sentiment", "target", "class", "rating", "polarity")
SEPARATORS = {".csv": ",;\t", ".tsv": "\t"}
MOST_NAMES = 20


def find_column(
    names: Sequence[str], given: str | None, usual: Collection[str], setting: str, where: str
) -> str:
    """The column that the user names, or else the only one with a usual name.

    Args:
        names: of all columns.
        given: by the user.
        usual: names to look for, in lower case.
        setting: how the user names a column, e.g. `data.text_column=` or `--text-column `.
        where: names the table in messages.

    Raises:
        UserError: no such column, or none or several with a usual name.
    """
    if given is not None:
        if given not in names:
            raise UserError(
                f"{where} has no column {given!r} ({setting}{given}), only {_quoted(names)}"
            )
        return given
    found = [name for name in names if name.strip().casefold() in usual]
    if len(found) != 1:
        state = f"both {_quoted(found)}" if found else f"only {_quoted(names)}"
        raise UserError(
            f"{where} has {state}: name the column with {setting}NAME (a file without a header "
            "needs one)"
        )
    return found[0]


def find_separator(header: str, suffix: str) -> str:
    """What separates the columns: the character that cuts the first line into most names.

    Args:
        header: the first line.
        suffix: `.csv`, or `.tsv`, where it can only be a tab.
    """
    lines = header.splitlines()
    width = {s: len(next(csv.reader(lines, delimiter=s), [])) for s in SEPARATORS[suffix]}
    return max(width, key=lambda separator: width[separator])


def _quoted(names: Sequence[str]) -> str:
    more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return ", ".join([*(f"{name!r:.40}" for name in names[:MOST_NAMES]), *more])
