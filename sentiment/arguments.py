"""What the doors that read plain arguments share: how they refuse, and how they end."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sentiment.config import THRESHOLD, Device, Precision
from sentiment.errors import UserError

if TYPE_CHECKING:
    from sentiment.training.predictor import SentimentPredictor


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line.

    Args:
        prog: name of the command.
        description: what it is for.
        epilog: the rest of its help, as it is to be printed.
    """

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message} (--help explains)")

    def add_predictor(self) -> None:
        """Add the options that `SentimentPredictor.load` takes."""
        add = self.add_argument
        add("--checkpoint", required=True, metavar="RUN", help="run directory or checkpoint folder")
        add("--threshold", type=share, default=THRESHOLD, help=f"from 0 to 1 ({THRESHOLD})")
        devices = [device.value for device in Device]
        add("--device", choices=devices, default="auto", help="a GPU if there is one")
        precisions = [precision.value for precision in Precision]
        add("--precision", choices=precisions, default="auto", help="the training's if possible")
        add("--threads", type=threads, metavar="N", help="CPU threads (one per core)")


def load_predictor(arguments: argparse.Namespace) -> "SentimentPredictor":
    """What the options of `Parser.add_predictor` stand for.

    Raises:
        UserError: no checkpoint that can be used.
    """
    # torch takes seconds to import: `--help` and a mistyped option do not wait.
    from sentiment.training.predictor import SentimentPredictor

    return SentimentPredictor.load(
        arguments.checkpoint,
        Device(arguments.device),
        Precision(arguments.precision),
        arguments.threads,
        arguments.threshold,
    )


def share(value: str) -> float:
    """A number from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    with contextlib.suppress(ValueError):
        if 0 <= float(value) <= 1:
            return float(value)
    raise argparse.ArgumentTypeError(f"{value} is no number from 0 to 1")


def threads(value: str) -> int:
    """A whole number from 1 to 1024.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    return whole_number(value, 1, 1024)


def whole_number(value: str, least: int, most: int) -> int:
    """A whole number of a range.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    with contextlib.suppress(ValueError):
        if least <= int(value) <= most:
            return int(value)
    raise argparse.ArgumentTypeError(f"{value} is no whole number from {least} to {most}")


def new_file(value: str) -> Path:
    """A file that can be written, as far as its folder shows: nothing is, before the work is done.

    Raises:
        argparse.ArgumentTypeError: its folder is not there, or it is one itself.
    """
    path = Path(value)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{value}: there is no folder {path.parent}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{value} is a folder, expected a file to write")
    return path


@contextlib.contextmanager
def orderly_exit() -> Iterator[None]:
    """End the process with the exit code of what went wrong, and one line that says it.

    Raises:
        SystemExit: 130 after Ctrl-C, 2 after a mistake of the user or a file that cannot be used.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (UserError, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        print("error:", *message.split(), file=sys.stderr)
        sys.exit(2)
