"""`python -m sentiment.train`: learn from one split, choose on a second, test once on a third."""

import os
import sys
from pathlib import Path

from sentiment import cli
from sentiment.config import TrainConfig
from sentiment.errors import Interrupted, UserError
from sentiment.resume import JOB, resolve_resume


def train(config: TrainConfig, directory: Path) -> None:
    """Run the whole pipeline, or what is left of it, and leave its results in the run directory.

    Started by `torchrun`, this is the first process, and the others `follow`.

    Raises:
        UserError: something that the user gave cannot be used, or training diverged.
        Interrupted: by SIGTERM or Ctrl-C during training, after saving.
    """
    # torch and datasets take seconds to import: `--help` and a mistyped setting do not wait.
    from sentiment.pipeline import run
    from sentiment.training.processes import joined

    with joined() as processes:
        processes.from_first((config, directory))
        run(config, directory, processes)


def follow() -> None:
    """Take part in what another process was asked for.

    Raises:
        SystemExit: with the exit code of the first process, which says why.
    """
    from sentiment.pipeline import run
    from sentiment.training.processes import joined

    try:
        with joined() as processes:
            config, directory = processes.from_first(None)
            run(config, directory, processes)
    except UserError:
        sys.exit(2)
    except Interrupted as stop:
        sys.exit(128 + stop.number)


def main() -> None:
    """Entry point of `sentiment-train`."""
    if int(os.environ.get("RANK", "0")) > 0:
        follow()
    else:
        cli.run(train, JOB, TrainConfig, resolve_resume)


if __name__ == "__main__":
    main()
