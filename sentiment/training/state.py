"""All that changes while a model is trained, apart from its weights.

Two files hold it: `training_state.json` says where the run stands, `training_state.safetensors` has
the optimizer's moments, the generators that dropout draws from, and the running figures.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from sentiment.errors import UserError
from sentiment.report.metrics import RunningMeans
from sentiment.report.run import is_event_file
from sentiment.training.checkpoint import (
    FILES,
    Saved,
    describe,
    parse_tensors,
    read_checkpoint,
    total_bytes,
)
from sentiment.training.folder import Manifest, existing_versions, one_line, to_json
from sentiment.training.processes import ALONE, Processes

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)

STATE, TENSORS = "training_state.json", "training_state.safetensors"
MOST_BYTES_OF_PROGRESS = 20_000_000
MOST_BYTES_BESIDE_MOMENTS = 10_000_000
MOST_STEPS = 2**31
PRIOR, TEACHER = "n-grams of init_from", "weights of teacher"
"""Their names beside those of the splits, where hashes are kept."""


@dataclass
class Progress:
    """Where a run stands."""

    epoch: int = 0
    """Passes over the training reviews that are complete, validation included."""
    batch: int = 0
    """Batches done of the pass after them."""
    update: int = 0
    """Optimizer updates."""
    epochs_without_gain: int = 0
    best: dict[str, float] = field(default_factory=dict)
    """Figures of the best epoch by TensorBoard tag, with its `epoch` and `update`."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Rows of `history.csv`."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    """Batches that were skipped, their loss or gradient being no finite number."""
    coverage: dict[str, float] = field(default_factory=dict)
    """What the word vectors covered when the run began."""
    data_sha256: dict[str, str] = field(default_factory=dict)
    """Hash of each split, of a prior for the n-grams, and of a teacher."""
    event_sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each TensorBoard file that belong to the run so far."""


@dataclass(frozen=True)
class Resumable:
    """A checkpoint that training can go on from."""

    checkpoint: Saved
    progress: Progress
    tensors: dict[str, Tensor]
    """Contents of `training_state.safetensors`."""

    def require_reviews(self, data_sha256: Mapping[str, str]) -> None:
        """See that the reviews, and what else was learned from, are those that the run began with.

        Raises:
            UserError: they are not.
        """
        for name, found in data_sha256.items():
            if self.progress.data_sha256.get(name) != found:
                what = name if name in (PRIOR, TEACHER) else f"{name} reviews"
                raise UserError(
                    f"the {what} are others than those that the run of "
                    f"{self.checkpoint.folder} began with; give it the same, or start a new run"
                )


class TrainingState(Generic[Model]):
    """A model, its optimizer, and how far they are.

    Args:
        model: on the device that it is trained on.
        optimizer: of its trained weights.
        progress: where to begin.
        figures: names of what the training curves show.
        processes: that train together, each with a generator and figures of its own.
    """

    def __init__(
        self,
        model: Model,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        figures: Sequence[str],
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.optimizer, self.progress = model, optimizer, progress
        self._processes = processes
        self.device = next(model.parameters()).device
        self.since_point = RunningMeans(figures, self.device)
        """Figures since the last point of the training curves."""
        self.since_epoch = RunningMeans(figures, self.device)
        """Figures since the epoch began."""

    def tensors(self) -> dict[str, Tensor]:
        """What the second file holds; of several processes all have to ask for it together."""
        gathered = {name: self._processes.gather(part) for name, part in self._own().items()}
        return self._moments() | {name: torch.stack(parts) for name, parts in gathered.items()}

    def files(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the two files."""
        yield STATE, to_json(asdict(self.progress))
        yield TENSORS, safetensors.torch.save({n: t.cpu().contiguous() for n, t in tensors.items()})

    def restore(self, saved: Resumable) -> None:
        """Go back to what was saved; model and progress are those of then already.

        Raises:
            UserError: tensors that do not fit the model, or come from another kind of device or
                another number of processes.
        """
        path, processes = saved.checkpoint.folder / TENSORS, self._processes
        if self.progress.update + len(self.progress.faults) > 0:
            for group in self.optimizer.param_groups:
                for weight in group["params"]:
                    self.optimizer.state[weight] = {
                        "step": torch.zeros((), device=weight.device),
                        "exp_avg": torch.empty_like(weight, requires_grad=False),
                        "exp_avg_sq": torch.empty_like(weight, requires_grad=False),
                    }
        own = self._own()
        everyones = {name: part.expand(processes.count, *part.shape) for name, part in own.items()}
        places = self._moments() | everyones
        for name in sorted(places.keys() | saved.tensors.keys()):
            found, expected = describe(saved.tensors.get(name)), describe(places.get(name))
            if found != expected:
                raise UserError(
                    f"{path}: {one_line(name)} is {found}, expected {expected}; a run goes on on "
                    f"the same kind of device, in as many processes (now {processes.count})"
                )
        for name, place in (self._moments() | own).items():
            of_all = saved.tensors[name]
            place.copy_(of_all[processes.rank] if name in own else of_all)
            if not place.isfinite().all():
                raise UserError(f"{path}: {name} holds NaN or infinity")
        try:
            torch.set_rng_state(own["generator.cpu"])
            if "generator.cuda" in own:
                torch.cuda.set_rng_state(own["generator.cuda"], self.device)
        except RuntimeError as error:
            raise UserError(f"{path} holds no state of a generator: {one_line(error)}") from error

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"optimizer.{name}.{key}": tensor
            for name, weight in self.model.named_parameters()
            for key, tensor in self.optimizer.state.get(weight, {}).items()
        }

    def _own(self) -> dict[str, Tensor]:
        """What every process has of its own."""
        own = {
            "figures.since_point": self.since_point.sums,
            "figures.since_epoch": self.since_epoch.sums,
            "generator.cpu": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            own["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        return own


def load_resumable(folder: Path) -> Resumable | None:
    """Read and verify the newest whole checkpoint that training can go on from.

    Args:
        folder: `checkpoints/last` of a run.

    Returns:
        `None` if there is nothing.

    Raises:
        UserError: there are some, and all are damaged.
    """
    damage: UserError | None = None
    for place in existing_versions(folder):
        try:
            manifest = Manifest(place, (*FILES, STATE, TENSORS))
            checkpoint = read_checkpoint(manifest)
            progress = _read_progress(manifest, checkpoint.chosen_by)
            most_bytes = 2 * total_bytes(checkpoint.weights) + MOST_BYTES_BESIDE_MOMENTS
            tensors = parse_tensors(manifest.read(TENSORS, most_bytes), place / TENSORS)
            return Resumable(checkpoint, progress, tensors)
        except UserError as error:
            log.warning("%s", error)
            damage = error
    if damage is not None:
        raise UserError(f"{damage}; without any, delete {folder.parent} to start anew") from damage
    return None


def _read_progress(manifest: Manifest, chosen_by: frozenset[str]) -> Progress:
    path = manifest.folder / STATE
    content = manifest.read(STATE, MOST_BYTES_OF_PROGRESS)
    try:
        values = json.loads(content)
        if values.keys() != {field.name for field in fields(Progress)}:
            raise ValueError("it has other keys")
        progress = Progress(**values)
        _check(progress, chosen_by)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{path} is no training state of this version: {one_line(error)}"
        ) from error
    return progress


def _check(progress: Progress, chosen_by: frozenset[str]) -> None:
    for counter in ("epoch", "batch", "update", "epochs_without_gain"):
        value = getattr(progress, counter)
        if type(value) is not int or not 0 <= value <= MOST_STEPS:
            raise ValueError(f"{counter} is no whole number from 0 to {MOST_STEPS}")
    for name in ("history", "faults"):
        rows = getattr(progress, name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{name} holds no rows")
    for figures in (progress.best, progress.coverage, *progress.history):
        if not isinstance(figures, dict) or not all(map(_is_figure, figures.values())):
            raise ValueError("best, coverage or history holds something other than figures")
    if progress.best and not progress.best.keys() >= chosen_by:
        raise ValueError("best lacks the figures that the next epoch is compared with")
    if any(row.keys() != progress.history[0].keys() for row in progress.history):
        raise ValueError("the rows of history have different columns")
    hashes, sizes = progress.data_sha256, progress.event_sizes
    if not isinstance(hashes, dict) or not all(isinstance(v, str) for v in hashes.values()):
        raise ValueError("data_sha256 holds no hashes by name")
    if not isinstance(sizes, dict) or not all(type(v) is int and v >= 0 for v in sizes.values()):
        raise ValueError("event_sizes holds no sizes by name")
    for name in sizes:
        if not is_event_file(name):
            raise ValueError(f"{name} is no name of a TensorBoard file")


def _is_figure(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
