"""The TensorBoard view of a run: one writer, in the run's own directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams


class Dashboard:
    """Scalars by tag and update, and the run's hyper-parameters.

    Args:
        directory: the run directory.
    """

    def __init__(self, directory: Path) -> None:
        self._writer = SummaryWriter(str(directory))

    def scalars(self, prefix: str, values: Mapping[str, float], update: int) -> None:
        """Add a point to the curve of every `prefix/name`."""
        for name, value in values.items():
            self._writer.add_scalar(f"{prefix}/{name}", value, update)

    def hyperparameters(self, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Fill the HPARAMS tab.

        `SummaryWriter.add_hparams` would open a second run for this; the same summaries in the
        run's own writer keep it one.

        Args:
            settings: by dotted name; values other than numbers, strings and booleans as text.
            metrics: values of scalar tags that this run has.
        """
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in settings.items()
        }
        summaries = hparams(plain, dict(metrics))  # type: ignore[no-untyped-call]
        for summary in summaries:
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Write out what is still in memory."""
        self._writer.close()
