"""Draw how far back the loss is felt, before and after training: of one run, or of several.

    python scripts/vanishing.py outputs/train/DATE/TIME-ID --output vanishing.png

takes a run, or the folder of a sweep such as `experiment=vanishing`, reads each run's
`gradients.csv`, and prints the numbers, too. Of several runs the last layer is shown, from left to
right, with their validation accuracy.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentiment import cli
from sentiment.arguments import new_file
from sentiment.config import Cell, ModelConfig, TrainConfig
from sentiment.errors import UserError
from sentiment.report.figures import save
from sentiment.report.gradients import Curve, plot_norms
from sentiment.report.run import GRADIENTS, METRICS, read_gradients
from sentiment.resume import load_requested

FAR = 100
COLUMNS = "{:42} {:>9} {:>9} {:>9} {:>9} {:>6}"


class Run(NamedTuple):
    """A finished run; its name says what sets it apart."""

    name: str
    kind: str
    clips: bool
    accuracy: float
    before: list[Curve]
    after: list[Curve]
    updates: int


def read_runs(folder: Path) -> list[Run]:
    """The runs in a folder, or the run that it is.

    Raises:
        UserError: none, or one that is not finished.
    """
    found = sorted(path.parent for path in folder.rglob(GRADIENTS))
    if not found:
        raise UserError(f"{folder} has no {GRADIENTS}, expected a run or the folder of a sweep")
    return [_read(run) for run in found]


def _read(run: Path) -> Run:
    if not (run / METRICS).exists():
        raise UserError(f"{run} is not finished; python -m sentiment.train resume={run} goes on")
    config = load_requested(TrainConfig, run)
    kind, clips = _kind(config.model), config.optimizer.max_gradient_norm < float("inf")
    name = kind if clips else f"{kind}, no clipping"
    curves = read_gradients(run)
    accuracy = json.loads((run / METRICS).read_text())["validation/accuracy"]
    return Run(name, kind, clips, accuracy, curves[min(curves)], curves[max(curves)], max(curves))


def _kind(config: ModelConfig) -> str:
    bias = f", forget bias {config.forget_bias:g}" if config.cell is Cell.lstm else ""
    return config.cell.value.upper() + bias


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the gradient norms before and after training, and of several runs their accuracies."""
    several = len(runs) > 1
    figure = Figure(figsize=(12, 4.2) if several else (9, 4.2), layout="constrained")
    before, after, *rest = figure.subplots(1, 3 if several else 2)
    kinds = list(dict.fromkeys(run.kind for run in runs))
    for axes, title in ((before, "before training"), (after, "at the end")):
        axes.set_title(title, fontsize=10)
        for run in runs:
            curves = run.before if axes is before else run.after
            if several:
                style = f"C{kinds.index(run.kind)}{'-' if run.clips else '--'}"
                plot_norms(axes, _last(curves).norms, style, run.name)
                continue
            for curve in curves:
                style = f"C{curve.layer - 1}{'-' if curve.direction == 'left_to_right' else '--'}"
                plot_norms(axes, curve.norms, style, curve.name.replace("_", " "))
    before.set_ylabel("gradient norm of the hidden state")
    if several:
        _draw_accuracies(rest[0], runs, kinds)
    else:
        before.legend(fontsize=8)
    save(figure, path)


def _draw_accuracies(axes: Axes, runs: Sequence[Run], kinds: list[str]) -> None:
    for row, run in enumerate(runs):
        bar = axes.barh(row, 100 * run.accuracy, color=f"C{kinds.index(run.kind)}")
        if not run.clips:
            bar[0].set(hatch="//", edgecolor="white")
        axes.bar_label(bar, fmt="%.1f", padding=3, fontsize=8)
    axes.set_yticks(range(len(runs)), [run.name for run in runs], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_title("validation accuracy, %", fontsize=10)


def _last(curves: Sequence[Curve]) -> Curve:
    """From left to right, of the last layer."""
    return [curve for curve in curves if curve.direction == "left_to_right"][-1]


def table(runs: Sequence[Run]) -> Iterator[str]:
    """What the figure shows, in numbers: norms, and how far one hundredth of the first is felt."""
    ends = ("norm at 0", f"at {FAR}", "farthest", "ratio", "reach")
    yield COLUMNS.format("", *ends)
    for run in runs:
        for update, curves in ((0, run.before), (run.updates, run.after)):
            for curve in curves:
                norms = curve.norms
                far = norms[FAR] if len(norms) > FAR else float("nan")
                ratio = far / norms[0] if norms[0] > 0 else float("nan")
                shown = [f"{norm:.2g}" for norm in (norms[0], far, norms[-1], ratio)]
                name = f"{run.name}: update {update}"
                if len(curves) > 1:
                    name = f"update {update}, {curve.name.replace('_', ' ')}"
                yield COLUMNS.format(name, *shown, curve.reach)
        yield f"{run.name}: validation accuracy {run.accuracy:.4f}"


def main() -> None:
    """Parse the command line, and do it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, help="a run, or the folder of a sweep")
    parser.add_argument("--output", type=new_file, required=True, help="the picture, FILE.png")
    arguments = parser.parse_args()
    with cli.one_line_errors():
        runs = read_runs(arguments.runs)
        print(*table(runs), sep="\n")
        draw(runs, arguments.output)


if __name__ == "__main__":
    main()
