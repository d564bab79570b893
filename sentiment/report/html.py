"""What a checkpoint makes of test reviews, as one page that needs nothing else.

Shapes: N reviews.
"""

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from sentiment.config import THRESHOLD, TokenizerConfig, TruncationSide
from sentiment.errors import UserError
from sentiment.report.breakdown import (
    auroc_interval,
    by_length,
    by_rating,
    calibration,
    f1_interval,
    mean_interval,
)
from sentiment.report.progress import progress
from sentiment.report.run import write_text
from sentiment.report.words import Word, cut

if TYPE_CHECKING:
    from sentiment.training.predictor import Explanation

TEMPLATES = Path(__file__).parent
EXPLAINED, EXPLAINED_AT_ONCE = 200, 20
STRONGEST = 3
"""Words for each label that are named below a review, for those who do not see its colours."""
LINE_BREAKS = re.compile(r"(?:\s*<br\s*/?>\s*)+", re.IGNORECASE)

Explain = Callable[[Sequence[str]], Sequence["Explanation"]]


@dataclass(frozen=True)
class Scored:
    """Test reviews and what was said of them.

    Attributes:
        texts: N texts; only some are read.
        names: of the labels 0 and 1.
        labels_N: 0 or 1.
        logits_N: of label 1.
        lengths_N: tokens of the whole text.
        ratings_N: NaN where none is known.
        metrics: of `binary_metrics`.
    """

    texts: Sequence[str]
    names: tuple[str, str]
    labels_N: NDArray[np.int64]
    logits_N: NDArray[np.float64]
    lengths_N: NDArray[np.int64]
    ratings_N: NDArray[np.float64]
    metrics: Mapping[str, float]


class Figure(NamedTuple):
    """A headline figure and its 95 % interval."""

    name: str
    value: str
    low: str
    high: str
    meaning: str


class Mistake(NamedTuple):
    """A review that was labelled wrong.

    Attributes:
        row: of the review among the test reviews, from 1.
        said: number of the label that was given.
        confidence: probability of that label.
        tokens: of the whole text.
        rating: `None` where none is known.
        words: the text, cut where it is explained.
        strongest: of each label, the words that speak most for it; empty where unexplained.
    """

    row: int
    said: int
    confidence: float
    tokens: int
    rating: str | None
    words: list[Word]
    strongest: tuple[list[Word], list[Word]]


def refuse_unwritable(path: Path) -> None:
    """See that a page can be put there, before there is one.

    Raises:
        UserError: the folder is not there, or the path is that of a folder.
    """
    if path.is_dir():
        raise UserError(f"report={path} is a folder, expected a file (report=report.html)")
    if not path.parent.is_dir():
        raise UserError(f"report={path}: there is no folder {path.parent}; make it first")


def write_report(
    path: Path,
    scored: Scored,
    about: Mapping[str, str],
    tokenizing: TokenizerConfig,
    explain: Explain,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: of the page.
        scored: the test reviews.
        about: what was scored, by name, for the head of the page.
        tokenizing: how much of a long review the model reads.
        explain: gives the weights of the words of texts.
    """
    style, script = ((TEMPLATES / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    is_right_N = (scored.logits_N > _logit(THRESHOLD)) == (scored.labels_N == 1)
    probability_N = 1 / (1 + np.exp(-scored.logits_N))
    bins = calibration(probability_N, scored.labels_N == 1)
    mistakes = _mistakes(scored, np.flatnonzero(~is_right_N), explain)
    page = environment.get_template("report.html.j2").render(
        about=about,
        names=scored.names,
        reviews=len(scored.labels_N),
        figures=_figures(scored),
        counts=_counts(scored.metrics),
        bins=bins,
        calibration_error=scored.metrics["calibration_error"],
        groups={
            "length": by_length(scored.lengths_N, is_right_N),
            "rating": by_rating(scored.ratings_N, is_right_N),
        },
        accuracy=scored.metrics["accuracy"],
        longest=tokenizing.max_length,
        reads_end=tokenizing.truncation_side is TruncationSide.left,
        mistakes=mistakes,
        explained=min(EXPLAINED, len(mistakes)),
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
    )
    write_text(path, page)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _hash(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _figures(scored: Scored) -> list[Figure]:
    metrics, logits_N, is_positive_N = scored.metrics, scored.logits_N, scored.labels_N == 1
    losses_N = np.logaddexp(0, np.where(is_positive_N, -logits_N, logits_N))
    errors = metrics["false_positives"] + metrics["false_negatives"]
    intervals = {
        "accuracy": (metrics["accuracy_low"], metrics["accuracy_high"]),
        "f1": f1_interval(int(metrics["true_positives"]), int(errors)),
        "auroc": auroc_interval(logits_N, is_positive_N),
        "loss": mean_interval(losses_N),
    }
    meanings = {
        "accuracy": ("Accuracy", "share of the reviews that are labelled right"),
        "f1": ("F1", f"harmonic mean of precision and recall of {scored.names[1]}"),
        "auroc": (
            "AUROC",
            f"how often a {scored.names[1]} review scores above a {scored.names[0]} one",
        ),
        "loss": ("Loss", "mean cross-entropy: 0.693 is a coin, 0 is perfect"),
    }
    found = []
    for key, (name, meaning) in meanings.items():
        numbers = (metrics[key], *intervals[key])
        shown = (f"{100 * n:.2f}" if key == "accuracy" else f"{n:.4f}" for n in numbers)
        value, low, high = shown
        found.append(Figure(name, value, low, high, meaning))
    return found


def _counts(metrics: Mapping[str, float]) -> list[list[int]]:
    """By true label and then by the label that was given."""
    keys = (("true_negatives", "false_positives"), ("false_negatives", "true_positives"))
    return [[int(metrics[key]) for key in row] for row in keys]


def _mistakes(scored: Scored, rows: NDArray[np.int64], explain: Explain) -> list[Mistake]:
    """The most confident first; as many as `EXPLAINED` with the weights of their words."""
    ordered = rows[np.argsort(-np.abs(scored.logits_N[rows]), kind="stable")].tolist()
    texts = [scored.texts[row] for row in ordered]
    explained = texts[:EXPLAINED]
    parts = [
        explained[start : start + EXPLAINED_AT_ONCE]
        for start in range(0, len(explained), EXPLAINED_AT_ONCE)
    ]
    words = [
        cut(text, found.tokens)
        for part in progress(parts, "explaining errors")
        for text, found in zip(part, explain(part), strict=True)
    ]
    words += [cut(text, ()) for text in texts[EXPLAINED:]]
    return list(map(_mistake, [scored] * len(ordered), ordered, words))


def _mistake(scored: Scored, row: int, words: list[Word]) -> Mistake:
    logit, rating = scored.logits_N[row], scored.ratings_N[row]
    weighed = [word for word in words if word.weight is not None]
    ordered = sorted(weighed, key=lambda word: word.weight or 0)
    return Mistake(
        row=row + 1,
        said=int(logit > _logit(THRESHOLD)),
        confidence=1 / (1 + math.exp(-abs(logit))),
        tokens=int(scored.lengths_N[row]),
        rating=None if math.isnan(rating) else f"{rating:g}",
        words=[_without_tags(word) for word in words],
        strongest=(
            [word for word in ordered[:STRONGEST] if (word.weight or 0) < 0],
            [word for word in ordered[: -STRONGEST - 1 : -1] if (word.weight or 0) > 0],
        ),
    )


def _without_tags(word: Word) -> Word:
    """A line break as such, where it is no token."""
    return word if word.weight is not None else word._replace(text=LINE_BREAKS.sub("\n", word.text))
