"""What a few labels give, and what the texts without labels add: train, and draw it.

    python -m sentiment.pretrain data.path=DIR hydra.run.dir=RUN
    python scripts/label_efficiency.py data.path=DIR --language RUN --seeds 3 --output FILE.png

For each number of labels runs of `experiment=best` learn from them alone, and runs of
`experiment=unlabelled` from them and a language model of all texts; all choose their epoch by the
labels of the validation reviews, too. Raw files are those of
`scripts/results.py`, in `results/labels`; what is there is not run again. Without `--seeds` it
draws them.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure

import results
from sentiment import cli
from sentiment.arguments import new_file
from sentiment.errors import UserError
from sentiment.report.figures import save
from sentiment.report.result import Result, read_results

PASSES: dict[int, tuple[str, ...]] = {
    100: ("trainer.batch_size=8", "trainer.epochs=20", "trainer.patience=20"),
    500: ("trainer.batch_size=16", "trainer.epochs=12", "trainer.patience=12"),
    2500: ("trainer.batch_size=32", "trainer.epochs=6", "trainer.patience=6"),
}
"""Numbers of labels, and what is set beside them: few labels need many passes in small batches."""
KINDS = {"alone": "labels alone", "pretrained": "and texts without labels (pretraining)"}
EVERYTHING = {22_500: ("best", "unlabelled")}
"""Rows of the README that have all labels, but for those of the validation reviews."""
LABELS = results.RESULTS / "labels"


def train(overrides: Sequence[str], seeds: int, language: Path) -> None:
    """Run what has no raw file yet.

    Raises:
        UserError: settings that cannot be used.
        SystemExit: a run failed.
    """
    for labels, passes in PASSES.items():
        shared = ["split.seed=${seed}", f"split.labelled={labels}", *passes, *overrides]
        results.run(f"{labels}-alone", seeds, ["experiment=best", *shared], LABELS)
        pretrained = ["experiment=unlabelled", f"init_from={language}", *shared]
        results.run(f"{labels}-pretrained", seeds, pretrained, LABELS)


def points(
    few: Mapping[str, Sequence[Result]], rows: Mapping[str, Sequence[Result]]
) -> dict[str, dict[int, list[float]]]:
    """Test accuracies by kind and number of labels, of the rows that there are.

    Args:
        few: rows of few labels.
        rows: rows of the README.
    """
    found: dict[str, dict[int, list[float]]] = {shown: {} for shown in KINDS.values()}
    for number, (kind, shown) in enumerate(KINDS.items()):
        named = {labels: few.get(f"{labels}-{kind}") for labels in PASSES}
        named |= {labels: rows.get(names[number]) for labels, names in EVERYTHING.items()}
        for labels, runs in named.items():
            if runs:
                found[shown][labels] = [100 * run.metrics["test/accuracy"] for run in runs]
    return found


def draw(found: Mapping[str, Mapping[int, Sequence[float]]], path: Path) -> None:
    """Draw mean accuracies, and bars of a standard deviation where there are several runs."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for kind, accuracies in found.items():
        spreads = [stdev(values) if len(values) > 1 else 0 for values in accuracies.values()]
        means = [mean(values) for values in accuracies.values()]
        axes.errorbar(list(accuracies), means, spreads, marker="o", capsize=3, label=kind)
    axes.set_xscale("log")
    ticks = sorted({labels for accuracies in found.values() for labels in accuracies})
    axes.set_xticks(ticks, [f"{labels:,}" for labels in ticks])
    axes.minorticks_off()
    axes.set_xlabel("labelled reviews")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def main() -> None:
    """Parse the command line, and do it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=0, help="runs of each kind (none)")
    parser.add_argument("--language", type=Path, help="the run of sentiment.pretrain, for --seeds")
    parser.add_argument("--output", type=new_file, required=True, help="the picture, FILE.png")
    parser.add_argument("overrides", nargs="*", help="where the reviews are: data.path=DIR")
    arguments = parser.parse_intermixed_args()
    with cli.one_line_errors():
        if arguments.seeds:
            if arguments.language is None:
                raise UserError("--seeds needs --language, the run that classifiers start from")
            train(arguments.overrides, arguments.seeds, arguments.language)
        found = points(read_results(LABELS), read_results(results.RESULTS))
        if not any(found.values()):
            raise UserError(f"{LABELS} has no such runs; --seeds=1 makes some")
        for kind, accuracies in found.items():
            for labels, values in accuracies.items():
                print(f"{labels:6} labels, {kind}: {mean(values):.2f} ({len(values)} runs)")
        draw(found, arguments.output)


if __name__ == "__main__":
    main()
