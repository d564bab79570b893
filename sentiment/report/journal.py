"""What a run tells while it trains."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from sentiment.report.gradients import Curve, Gates, draw_gates, draw_gradients
from sentiment.report.run import (
    FAULTS,
    read_gradients,
    write_faults,
    write_gradients,
    write_history,
)
from sentiment.report.tensorboard import Dashboard


class Journal:
    """Curves and figures for TensorBoard, `history.csv`, `gradients.csv` and `faults.json`.

    Args:
        directory: the run directory.
        sizes: bytes of each TensorBoard file there that belong to the run.
        update: the run's, from which on it goes on.
        silent: writes nothing, as another process does.
    """

    def __init__(
        self,
        directory: Path,
        sizes: Mapping[str, int] | None = None,
        update: int = 0,
        silent: bool = False,
    ) -> None:
        self.directory = directory
        self._dashboard = None if silent else Dashboard(directory, sizes or {}, update)
        self._gradients: dict[int, Sequence[Curve]] = {}
        if not silent:
            found = read_gradients(directory)
            self._gradients = {at: found[at] for at in found if at <= update}
            write_gradients(directory, self._gradients)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._dashboard is not None:
            self._dashboard.close()

    def sizes(self) -> dict[str, int]:
        """Bytes of each TensorBoard file by now."""
        return {} if self._dashboard is None else self._dashboard.sizes()

    def scalars(self, prefix: str, values: Mapping[str, float], update: int) -> None:
        """Add a point to the curve of every `prefix/name`."""
        if self._dashboard is not None:
            self._dashboard.scalars(prefix, values, update)

    def evaluation(
        self,
        prefix: str,
        logits_N: Tensor,
        labels_N: Tensor,
        names: tuple[str, str],
        update: int,
    ) -> None:
        """Show how the logits of a whole split and its labels go together."""
        if self._dashboard is not None:
            self._dashboard.evaluation(prefix, logits_N, labels_N, names, update)

    def gradients(self, curves: Sequence[Curve], update: int) -> None:
        """Show and record how far the loss is felt in the encoder."""
        if self._dashboard is not None:
            reach = {f"reach_{curve.name}": curve.reach for curve in curves}
            self._dashboard.scalars("gradient", reach, update)
            figure = draw_gradients(curves, f"how far the loss is felt, update {update}")
            self._dashboard.figure("gradient/norm_by_distance", figure, update)
            self._gradients[update] = curves
            write_gradients(self.directory, self._gradients)

    def gates(self, gates: Gates, update: int) -> None:
        """Show what the gates of a layer do over a review."""
        if self._dashboard is not None:
            title = f"layer {gates.layer}, update {update}: a row per unit, bright where open"
            self._dashboard.figure(f"gates/layer_{gates.layer}", draw_gates(gates, title), update)

    def text(self, tag: str, markdown: str, update: int) -> None:
        """Add a text."""
        if self._dashboard is not None:
            self._dashboard.text(tag, markdown, update)

    def hyperparameters(self, settings: Mapping[str, bool | float | str | None]) -> None:
        """Fill the HPARAMS tab."""
        if self._dashboard is not None:
            self._dashboard.hyperparameters(settings)

    def history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Record every evaluation so far."""
        if self._dashboard is not None:
            write_history(self.directory, rows)

    def faults(self, faults: Sequence[Mapping[str, Any]]) -> Path:
        """Record the batches whose loss or gradient was no finite number; where."""
        if self._dashboard is not None:
            write_faults(self.directory, faults)
        return self.directory / FAULTS
