"""What is made of the figures: medians, ratios, shares of the roof, as JSON and as a table."""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.roof import ROOF
from benchmarks.sides import Benchmark, Figures

FLOPS, SHARE = "GFLOP/s", "share of roof"

Runs = Mapping[tuple[str, str], list[Figures]]
"""What the rounds gave, by group and side; a side that was skipped is missing."""


def summarize(benchmark: Benchmark, runs: Runs) -> dict[str, Any]:
    """Figures of every group: for each row the raw values, their medians, and its ratio.

    The ratio is that of the compared medians to the first row of the group. Where the benchmark
    measured the roof, a row's share is its rate over the rate of large matrix products in the same
    number format.
    """
    roofs = {
        side.precision: _medians(runs[key])[FLOPS]
        for group, (_, sides) in benchmark.groups.items()
        if benchmark.groups[group] is ROOF
        for name, side in sides.items()
        if (key := (group, name)) in runs
    }
    groups: dict[str, Any] = {}
    for group, (settings, sides) in benchmark.groups.items():
        rows: dict[str, Any] = {}
        for name, side in sides.items():
            if (group, name) not in runs:
                continue
            measured = runs[group, name]
            median = _medians(measured)
            row: dict[str, Any] = {
                "settings": list(side.overrides),
                "values": {unit: [figures[unit] for figures in measured] for unit in median},
                "median": median,
            }
            if FLOPS in median and side.precision in roofs:
                row[SHARE] = median[FLOPS] / roofs[side.precision]
            if benchmark.unit in median:
                first = next(iter(rows.values()), row)
                row["ratio"] = median[benchmark.unit] / first["median"][benchmark.unit]
            rows[name] = row
        groups[group] = {"settings": list(settings), "rows": rows}
    return groups


def _medians(measured: list[Figures]) -> Figures:
    return {unit: statistics.median(run[unit] for run in measured) for unit in measured[0]}


def table(result: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a table of medians, group by group."""
    groups = result["groups"]
    rows = [row for group in groups.values() for row in group["rows"].values()]
    units = list(dict.fromkeys(unit for row in rows for unit in row["median"]))
    shares = [SHARE] if any(SHARE in row for row in rows) else []
    header = [*units, *shares, "ratio"]
    names = [name for group in groups.values() for name in group["rows"]]
    width = max(map(len, names)) + 2
    yield f"medians of {result['rounds']}".ljust(width) + "".join(f"{name:>15}" for name in header)
    for group, content in groups.items():
        yield " ".join([group, *content["settings"]])
        for name, row in content["rows"].items():
            cells = [number(row["median"].get(unit)) for unit in units]
            cells += [f"{100 * row[SHARE]:.1f} %" if SHARE in row else "" for _ in shares]
            cells += [number(row.get("ratio"))]
            yield f"  {name}".ljust(width) + "".join(f"{cell:>15}" for cell in cells)
    for name, reason in result["skipped"].items():
        yield f"skipped: {name}: {reason}"


def number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
