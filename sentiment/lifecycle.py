"""What all runs that train something have in common: how they are taken up again, and are kept."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer

from sentiment.config import RunConfig
from sentiment.report.journal import Journal
from sentiment.report.run import ENVIRONMENT, METRICS, changes, write_environment
from sentiment.resume import extend
from sentiment.training.checkpoint import save_checkpoint
from sentiment.training.runtime import Runtime, describe_environment
from sentiment.training.state import Resumable, TrainingState, load_resumable

log = logging.getLogger(__name__)

BEST, LAST = Path("checkpoints/best"), Path("checkpoints/last")

Config = TypeVar("Config", bound=RunConfig)


def take_up(config: Config, directory: Path) -> tuple[Config, Resumable | None]:
    """Find what a run goes on from, if it is to go on.

    Args:
        config: as composed.
        directory: the run directory.

    Returns:
        The settings to go on with, and the state, `None` for a run that has not trained yet.

    Raises:
        UserError: a run that cannot be resumed.
    """
    resumed = load_resumable(directory / LAST) if config.resume is not None else None
    if resumed is None:
        return config, None
    saved = resumed.checkpoint.config
    config = extend(config, saved, directory)
    if is_finished(resumed, config, directory):
        log.info("%s is finished; a higher trainer.epochs would go on with it", directory)
        return config, resumed
    log.info("going on with %s after update %d", directory, resumed.progress.update)
    if config.trainer.epochs > saved.trainer.epochs:
        log.info(
            "trainer.epochs goes from %d to %d: from here on the learning rate is that of the "
            "longer schedule",
            *(saved.trainer.epochs, config.trainer.epochs),
        )
    return config, resumed


def settle_places(config: RunConfig, runtime: Runtime) -> None:
    """Make of the settings what the checkpoint says of the run: as it was, not as asked for."""
    config.resume = None
    config.runtime.precision = runtime.precision
    for name in ("path", "train", "validation", "test", "unlabelled"):
        if (path := getattr(config.data, name)) is not None:
            setattr(config.data, name, os.path.abspath(os.path.expanduser(path)))


def is_finished(resumed: Resumable | None, config: RunConfig, directory: Path) -> bool:
    """Whether nothing is left to do."""
    if resumed is None or not (directory / METRICS).exists():
        return False
    return config.trainer.epochs == resumed.checkpoint.config.trainer.epochs


def record_environment(
    directory: Path, runtime: Runtime, data_sha256: Mapping[str, str], is_new: bool
) -> None:
    """Write down what the figures will depend on, or say what has changed since the run began."""
    if not runtime.processes.is_first:
        return
    environment: dict[str, Any] = describe_environment(runtime) | {"data_sha256": data_sha256}
    if is_new or not (directory / ENVIRONMENT).exists():
        write_environment(directory, environment)
        return
    for name, before, now in changes(directory, environment):
        log.warning(
            "%s was %s when the run began and is %s now: the last digits may come out "
            "different from those of a run that never stopped",
            *(name, before, now),
        )


def saver(
    directory: Path,
    state: TrainingState[Any],
    tokenizer: Tokenizer,
    config: RunConfig,
    journal: Journal,
    runtime: Runtime,
) -> Callable[[str, dict[str, float]], None]:
    """What keeps `checkpoints/best`, and `checkpoints/last` with all that it takes to go on."""
    progress = state.progress

    def save(name: str, metrics: dict[str, float]) -> None:
        more: Iterable[tuple[str, bytes]] = ()
        keep = 1
        if name == LAST.name:
            progress.event_sizes = journal.sizes()
            more, keep = state.files(state.tensors()), config.checkpoint.keep
        if runtime.processes.is_first:
            folder, saved = directory / LAST.with_name(name), (tokenizer, config, metrics)
            save_checkpoint(folder, state.model, *saved, more, keep, progress.data_sha256)
        # Did one leave before it is written, by a signal, `torchrun` would end the one that writes.
        runtime.processes.wait()

    return save
