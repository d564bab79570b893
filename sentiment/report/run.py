"""The files of a run directory that people and scripts read afterwards."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ENVIRONMENT, METRICS, HISTORY = "environment.json", "metrics.json", "history.csv"


def write_environment(directory: Path, environment: Mapping[str, Any]) -> None:
    """Record what the figures of this run depend on beside its configuration."""
    _write_json(directory / ENVIRONMENT, environment)


def write_metrics(directory: Path, metrics: Mapping[str, float]) -> None:
    """Record the final figures by their TensorBoard tags, e.g. `test/accuracy`."""
    _write_json(directory / METRICS, metrics)


def append_history(directory: Path, row: Mapping[str, float]) -> None:
    """Add one evaluation to the table; the first row brings the header."""
    path = directory / HISTORY
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n")
    partial.replace(path)
