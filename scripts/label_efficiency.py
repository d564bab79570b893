"""What a few labels give, and what the texts without labels add: train, and draw it.

    python scripts/label_efficiency.py data.path=DIR --seeds 3 --output label_efficiency.png

For each number of labels a run of `experiment=best` learns from them, and one of
`experiment=unlabelled_cpu` from what the first says of all other texts as well. Runs and raw
files are those of `scripts/results.py`, as the rows `labels-N` and `labels-N-taught`; what is there
is not run again. Without `--seeds` it draws the raw files that there are.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure

import results
from sentiment import cli
from sentiment.errors import UserError
from sentiment.report.result import Result, read_results

PASSES: dict[int, tuple[str, ...]] = {
    100: ("trainer.batch_size=8", "trainer.epochs=20", "trainer.patience=20"),
    500: ("trainer.batch_size=16", "trainer.epochs=12", "trainer.patience=12"),
    2500: ("trainer.batch_size=32", "trainer.epochs=6", "trainer.patience=6"),
}
"""Numbers of labels, and what is set beside them: few labels need many passes in small batches."""
KINDS = {"": "labels alone", "-taught": "and texts without labels (self-training)"}
EVERYTHING = {22_500: ("best", "unlabelled_cpu")}
"""Rows that have all labels, but for those of the validation reviews."""


def train(overrides: Sequence[str], seeds: int) -> None:
    """Run what has no raw file yet.

    Raises:
        UserError: settings that cannot be used.
        SystemExit: a run failed.
    """
    for labels, passes in PASSES.items():
        name = f"labels-{labels}"
        shared = ["split.seed=${seed}", f"split.labelled={labels}", *overrides]
        results.run(name, seeds, ["experiment=best", *passes, *shared])
        teacher = f"teacher={results.RUNS}/{name}/split-${{seed}}-seed-${{seed}}"
        results.run(f"{name}-taught", seeds, ["experiment=unlabelled_cpu", teacher, *shared])


def points(rows: Mapping[str, Sequence[Result]]) -> dict[str, dict[int, list[float]]]:
    """Test accuracies by kind and number of labels, of the rows that there are."""
    names = {
        labels: tuple(f"labels-{labels}{kind}" for kind in KINDS) for labels in PASSES
    } | EVERYTHING
    return {
        kind: {
            labels: [100 * result.metrics["test/accuracy"] for result in rows[of_both[number]]]
            for labels, of_both in names.items()
            if of_both[number] in rows
        }
        for number, kind in enumerate(KINDS.values())
    }


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
    figure.savefig(path, dpi=100, metadata={"Software": None}, pil_kwargs={"optimize": True})


def main() -> None:
    """Parse the command line, and do it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=0, help="runs of each kind (none)")
    parser.add_argument("--output", type=Path, required=True, help="the picture, FILE.png")
    parser.add_argument("overrides", nargs="*", help="where the reviews are: data.path=DIR")
    arguments = parser.parse_intermixed_args()
    with cli.one_line_errors():
        train(arguments.overrides, arguments.seeds)
        found = points(read_results(results.RESULTS))
        if not any(found.values()):
            raise UserError(f"{results.RESULTS} has no such runs; --seeds=1 makes some")
        for kind, accuracies in found.items():
            for labels, values in accuracies.items():
                print(f"{labels:6} labels, {kind}: {mean(values):.2f} ({len(values)} runs)")
        draw(found, arguments.output)


if __name__ == "__main__":
    main()
