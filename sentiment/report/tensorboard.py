"""The TensorBoard view of a run: one writer, in the run's own directory."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from sentiment.report.metrics import binary_metrics, calibration
from sentiment.report.run import is_event_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", ["^train/loss$", "^validation/loss$"]],
        "accuracy": ["Multiline", ["^train/accuracy$", "^validation/accuracy$"]],
        "validation accuracy and its 95 % interval": [
            "Margin",
            ["validation/accuracy", "validation/accuracy_low", "validation/accuracy_high"],
        ],
    },
    "optimization": {
        "learning rate": ["Multiline", ["^train/learning_rate$"]],
        "gradient norm": ["Multiline", ["^train/gradient_norm$"]],
    },
}
"""Charts of the CUSTOM SCALARS tab: tags, or regular expressions that these match."""


class Dashboard:
    """Scalars, images and text by tag and update, and the run's hyper-parameters.

    Args:
        directory: the run directory.
        sizes: bytes of each file there that belong to the run (`Dashboard.sizes` of the moment to
            go back to); what a stopped process wrote after them is dropped.
        update: of that moment.
    """

    def __init__(
        self, directory: Path, sizes: Mapping[str, int] = MappingProxyType({}), update: int = 0
    ) -> None:
        self._directory = directory
        for path in self._files():
            if path.name in sizes:
                os.truncate(path, min(sizes[path.name], path.stat().st_size))
            else:
                path.unlink()
        # A server that has read the dropped points forgets them when it reads this.
        purge_step = update + 1 if sizes else None
        self._writer = SummaryWriter(str(directory), purge_step=purge_step)
        if not sizes:
            self._writer.add_custom_scalars(LAYOUT)

    def sizes(self) -> dict[str, int]:
        """Write out what is still in memory; how many bytes each file has now."""
        self._writer.flush()
        sizes = {}
        for path in self._files():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                sizes[path.name] = path.stat().st_size
        return sizes

    def _files(self) -> list[Path]:
        return sorted(p for p in self._directory.iterdir() if is_event_file(p.name))

    def scalars(self, prefix: str, values: Mapping[str, float], update: int) -> None:
        """Add a point to the curve of every `prefix/name`."""
        for name, value in values.items():
            self._writer.add_scalar(f"{prefix}/{name}", value, update)

    def evaluation(
        self,
        prefix: str,
        logits_N: Tensor,
        labels_N: Tensor,
        names: tuple[str, str],
        update: int,
    ) -> None:
        """Show how the logits of a whole split and its labels go together.

        Args:
            prefix: of the tags, the name of the split.
            logits_N: float32.
            labels_N: 0 or 1.
            names: of the labels 0 and 1.
            update: the run's.
        """
        from sentiment.report.figures import confusion_matrix, reliability_diagram

        probability_N = torch.sigmoid(logits_N)
        self._writer.add_pr_curve(f"{prefix}/precision_recall", labels_N, probability_N, update)
        for label, name in enumerate(names):
            self._writer.add_histogram(
                f"{prefix}/logits_{name}", logits_N[labels_N == label], update
            )
        matrix = confusion_matrix(binary_metrics(logits_N, labels_N), names)
        diagram = reliability_diagram(calibration(logits_N, labels_N), names[1])
        self.figure(f"{prefix}/confusion_matrix", matrix, update)
        self.figure(f"{prefix}/calibration", diagram, update)

    def figure(self, tag: str, figure: "Figure", update: int) -> None:
        """Add a picture."""
        from sentiment.report.figures import pixels

        self._writer.add_image(tag, pixels(figure), update, dataformats="HWC")

    def text(self, tag: str, markdown: str, update: int) -> None:
        """Add a text, in the Markdown that TensorBoard renders: Python-Markdown's, with tables."""
        self._writer.add_text(tag, markdown, update)

    def hyperparameters(self, settings: Mapping[str, bool | float | str | None]) -> None:
        """Fill the HPARAMS tab.

        `SummaryWriter.add_hparams` would open a second run for this; the same summaries in the
        run's own writer keep it one. It would also describe the settings of all runs by those of
        one; without that the server looks at every run, and shows first what differs.

        Args:
            settings: by dotted name; `None` is left blank, as text would keep numbers of other
                runs from being sorted and filtered.
        """
        _, start, end = hparams(dict(settings), {})  # type: ignore[no-untyped-call]
        for summary in (start, end):
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Write out what is still in memory."""
        self._writer.close()
