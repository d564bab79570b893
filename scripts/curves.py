"""Draw the perplexity of language models, and the accuracy of classifiers, epoch by epoch.

    python scripts/curves.py outputs/language outputs/alone outputs/pretrained --output curves.png

reads the `history.csv` of runs of `sentiment.pretrain` and `sentiment.train`, finished or not, and
prints the numbers, too. A classifier's curve has the name of its folder.
"""

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sentiment import cli
from sentiment.arguments import new_file
from sentiment.errors import UserError
from sentiment.report.figures import save
from sentiment.report.run import HISTORY

PERPLEXITY, ACCURACY = "validation/perplexity_", "validation/accuracy"
WHAT = {False: "validation perplexity", True: "validation accuracy, %"}


class Curve(NamedTuple):
    """A figure after each epoch, and whether it is an accuracy."""

    name: str
    is_accuracy: bool
    values: list[float]


def read_curves(runs: Sequence[Path]) -> list[Curve]:
    """A classifier's accuracy, or a language model's perplexity in each direction.

    Raises:
        UserError: a folder without a finished epoch, or a damaged history.
    """
    curves: list[Curve] = []
    for run in runs:
        path = run / HISTORY
        if not path.exists():
            raise UserError(f"{run} has no {HISTORY}, expected a run that has finished an epoch")
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise UserError(f"{path} has no rows, expected one for each epoch")
        try:
            found = list(_of_run(run.name, rows))
        except (TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged: {error}; expected a number per epoch") from error
        if not found:
            raise UserError(f"{path} has neither {ACCURACY} nor {PERPLEXITY}*, expected either")
        curves += found
    return curves


def _of_run(name: str, rows: Sequence[Mapping[str, str]]) -> Iterator[Curve]:
    for column in rows[0]:
        if column == ACCURACY:
            yield Curve(name, True, [100 * float(row[column]) for row in rows])
        elif column.startswith(PERPLEXITY):
            direction = column.removeprefix(PERPLEXITY).replace("_", " ")
            yield Curve(f"{name}, {direction}", False, [float(row[column]) for row in rows])


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Draw perplexities and accuracies side by side, those that there are."""
    kinds = sorted({curve.is_accuracy for curve in curves})
    figure = Figure(figsize=(4.6 * len(kinds), 3.8), layout="constrained")
    for axes, is_accuracy in zip(
        figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True
    ):
        for curve in curves:
            if curve.is_accuracy is is_accuracy:
                epochs = range(1, len(curve.values) + 1)
                axes.plot(epochs, curve.values, marker="o", label=curve.name)
        axes.set_title(WHAT[is_accuracy], fontsize=10)
        axes.set_xlabel("passes over the texts")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save(figure, path)


def table(curves: Sequence[Curve]) -> Iterator[str]:
    """What the figure shows, in numbers."""
    for curve in curves:
        yield f"{curve.name}: {WHAT[curve.is_accuracy]} " + ", ".join(
            f"{value:.1f}" for value in curve.values
        )


def main() -> None:
    """Parse the command line, and do it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, nargs="+", help="run directories")
    parser.add_argument("--output", type=new_file, required=True, help="the picture, FILE.png")
    arguments = parser.parse_args()
    with cli.one_line_errors():
        curves = read_curves(arguments.runs)
        print(*table(curves), sep="\n")
        draw(curves, arguments.output)


if __name__ == "__main__":
    main()
