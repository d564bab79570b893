"""Draw figures that a benchmark wrote: python scripts/benchmarks/plot.py FIGURES.json PLOT.png."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

USUAL, PIPELINE = "#9aa5b1", "#2166ac"
AXES = {"reviews/s": "reviews per second", "peak MB": "peak resident memory, MB"}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw a bar for each row that has the compared figure: the median, from minimum to maximum.

    Args:
        result: as `scripts/benchmark.py` writes it.
        path: of the picture; its ending says which kind.
    """
    unit, environment = result["unit"], result["environment"]
    groups = {
        name: {side: row for side, row in group["rows"].items() if unit in row["median"]}
        for name, group in result["groups"].items()
    }
    groups = {name: rows for name, rows in groups.items() if rows}
    lines = sum(len(rows) + 1 for rows in groups.values())
    figure = Figure(figsize=(9, 1.2 + 0.34 * lines), layout="constrained")
    axes = figure.subplots()
    y, ticks, labels = 0, [], []
    for group, rows in groups.items():
        axes.text(0, y, group, transform=axes.get_yaxis_transform(), weight="bold", va="center")
        for name, row in rows.items():
            y += 1
            values, median = row["values"][unit], row["median"][unit]
            spread = [[median - min(values)], [max(values) - median]]
            color = PIPELINE if name.startswith("pipeline") else USUAL
            axes.barh(y, median, xerr=spread, color=color, height=0.7, capsize=3)
            text = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"
            axes.annotate(
                text, (max(values), y), (6, 0), textcoords="offset points", va="center", fontsize=9
            )
            ticks.append(y)
            labels.append(name)
        y += 1
    axes.set_yticks(ticks, labels)
    axes.set_ylim(y - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{AXES.get(unit, unit)} (median of {result['rounds']}, minimum to maximum)")
    axes.spines[["top", "right"]].set_visible(False)
    torch_version = environment["packages"]["torch"]
    axes.set_title(
        f"{result['benchmark']}: {environment['device']}, threads: {environment['threads']}, "
        f"torch {torch_version}",
        fontsize=10,
    )
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
