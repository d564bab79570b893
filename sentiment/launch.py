"""How a command that trains is started: alone, or by `torchrun` as one of several processes."""

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sentiment import cli
from sentiment.errors import Interrupted, UserError
from sentiment.resume import Config, resolve_resume

RUNS_NOTHING = {"-h", "--help", "--hydra-help", "--version", "-sc", "--shell-completion"}
RUNS_NOTHING |= {"-c", "--cfg", "-i", "--info"}
"""Options with which Hydra prints something and starts no job."""


def launch(name: str, schema: type[Config], load: Callable[[], Callable[..., Any]]) -> None:
    """Read the command line and run the pipeline, or do what the first process asks for.

    Args:
        name: of the command.
        schema: of its settings.
        load: imports the pipeline, and returns its `run`. It is called late, as torch and datasets
            take seconds to import: `--help` and a mistyped setting do not wait.

    Raises:
        SystemExit: as `cli.run`; a further process ends with the exit code of its own mistake, or
            is ended with the first.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        if not RUNS_NOTHING & {argument.partition("=")[0] for argument in sys.argv}:
            _follow(load, schema)
    else:
        cli.run(partial(_lead, load), name, schema, partial(_resolve, name, schema))


def _resolve(name: str, schema: type[Config], arguments: list[str]) -> list[str]:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and {"-m", "--multirun"} & set(arguments):
        raise UserError(
            "several processes train one model, expected no -m; start each job of a sweep by a "
            "torchrun of its own"
        )
    return resolve_resume(name, schema, arguments)


def _lead(load: Callable[[], Callable[..., Any]], config: object, directory: Path) -> None:
    run = load()
    from sentiment.training.processes import joined

    with joined() as processes:
        processes.from_first((config, directory))
        run(config, directory, processes)


def _follow(load: Callable[[], Callable[..., Any]], schema: type[Config]) -> None:
    # The first process warns of what all of them see.
    logging.disable(logging.WARNING)
    run = load()
    from sentiment.training.processes import joined

    try:
        with joined() as processes:
            config, directory = processes.from_first(None)
            run(config, directory, processes)
    except (UserError, OSError) as error:
        # The first process, if it has the same trouble, says so, and `torchrun` ends this one.
        time.sleep(2)
        process = os.environ["RANK"]
        print(f"error: process {process}: {cli.explain(error, schema)}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stop:
        sys.exit(128 + stop.number)
