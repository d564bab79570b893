"""The files of a run directory that people and scripts read afterwards."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from sentiment.config import THRESHOLD
from sentiment.errors import UserError
from sentiment.report.gradients import Curve

if TYPE_CHECKING:
    from torch import Tensor

    from sentiment.report.breakdown import Share

ENVIRONMENT, METRICS, PREDICTIONS = "environment.json", "metrics.json", "predictions.csv"
HISTORY, GRADIENTS, SLICES = "history.csv", "gradients.csv", "slices.csv"
FAULTS, LOCK = "faults.json", ".lock"


def lock(directory: Path) -> FileLock:
    """Keep every other process out of a run directory until this one ends, however it ends.

    Raises:
        UserError: another process is in there.
    """
    held = FileLock(directory / LOCK)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"{directory} is in use by another process; wait for it, or choose another directory"
        ) from error
    return held


def is_locked(directory: Path) -> bool:
    """Whether another process is at work in a run directory."""
    try:
        lock(directory).release()
    except UserError:
        return True
    return False


def is_event_file(name: str) -> bool:
    """Whether a file of this name in a run directory is TensorBoard's."""
    return name.startswith("events.out.tfevents.") and Path(name).name == name


def write_environment(directory: Path, environment: Mapping[str, Any]) -> None:
    """Record what the figures of this run depend on beside its configuration."""
    write_json(directory / ENVIRONMENT, environment)


def recorded_hashes(checkpoint: Path) -> dict[str, str]:
    """Hash of each split, where a checkpoint is still in the directory of its run; or nothing.

    Raises:
        UserError: the run's record is damaged.
    """
    folder = checkpoint.resolve().parent
    record = folder.parent / ENVIRONMENT
    if folder.name != "checkpoints" or not record.exists():
        return {}
    try:
        found = json.loads(record.read_text())["data_sha256"]
        return {str(name): str(digest) for name, digest in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{record} is damaged; move the checkpoint out of this run") from error


def changes(directory: Path, environment: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What is not as `write_environment` recorded it: name, value then, value now.

    Raises:
        UserError: the record is damaged.
    """
    record = directory / ENVIRONMENT
    try:
        recorded = dict(json.loads(record.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{record} is damaged; delete it, and it is written anew") from error
    for name, value in environment.items():
        if recorded.get(name) != value:
            yield name, recorded.get(name), value


def write_metrics(directory: Path, metrics: Mapping[str, float]) -> None:
    """Record the final figures by their TensorBoard tags, e.g. `test/accuracy`."""
    write_json(directory / METRICS, metrics)


def write_predictions(
    directory: Path, logits_N: "Tensor", labels_N: "Tensor", names: tuple[str, str]
) -> None:
    """Record what was said of each test review, in their order.

    Args:
        directory: of the run or the evaluation.
        logits_N: float32.
        labels_N: 0 or 1.
        names: of the labels 0 and 1.
    """
    probabilities = logits_N.double().sigmoid().tolist()
    rows = [
        {"label": names[label], "prediction": names[p > THRESHOLD], "probability": p}
        for label, p in zip(labels_N.tolist(), probabilities, strict=True)
    ]
    _write_table(directory / PREDICTIONS, rows)


def write_slices(directory: Path, slices: Mapping[str, Sequence["Share"]]) -> None:
    """Record the accuracy of some of the test reviews: by what, which, how many, how many right."""
    rows = [
        {"by": by, "value": part.name, "reviews": part.total, "right": part.hits}
        | {"accuracy": part.value, "accuracy_low": part.low, "accuracy_high": part.high}
        for by, shares in slices.items()
        for part in shares
    ]
    _write_table(directory / SLICES, rows)


def write_history(directory: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Record every evaluation so far as a table; at least one."""
    _write_table(directory / HISTORY, rows)


def write_gradients(directory: Path, curves: Mapping[int, Sequence[Curve]]) -> None:
    """Record gradient norms by update, a row for each layer, direction and distance.

    Nothing stays where there are none.
    """
    rows = [
        {"update": update, "layer": curve.layer, "direction": curve.direction}
        | {"distance": distance, "norm": f"{norm:.6g}"}
        for update, found in curves.items()
        for curve in found
        for distance, norm in enumerate(curve.norms)
    ]
    if rows:
        _write_table(directory / GRADIENTS, rows)
    else:
        (directory / GRADIENTS).unlink(missing_ok=True)


def read_gradients(directory: Path) -> dict[int, list[Curve]]:
    """What `write_gradients` recorded.

    Raises:
        UserError: something else stands there.
    """
    path = directory / GRADIENTS
    if not path.exists():
        return {}
    norms: dict[tuple[int, int, str], list[float]] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                key = int(row["update"]), int(row["layer"]), row["direction"]
                norms.setdefault(key, []).append(float(row["norm"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no gradient norms: {error!r}; delete it") from error
    curves: dict[int, list[Curve]] = {}
    for (update, layer, direction), values in norms.items():
        curves.setdefault(update, []).append(Curve(layer, direction, values))
    return curves


def write_faults(directory: Path, faults: Sequence[Mapping[str, Any]]) -> None:
    """Record the batches whose loss or gradient was no finite number."""
    write_json(directory / FAULTS, faults)


def write_json(path: Path, values: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file that is whole or not there."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
