"""`python -m sentiment.export`: a saved checkpoint for use without this project."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from sentiment.arguments import Parser, orderly_exit
from sentiment.config import Device, Precision
from sentiment.errors import UserError
from sentiment.report.run import recorded_hashes

NEEDED: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxruntime"), "torch": ()}
"""Packages that a format needs beside those that are always there."""
HELP = """\
The folder has the model (model.onnx, or model.pt2 of torch.export), tokenizer.json, which also
truncates and pads, a model card, and predict.py, which labels the lines of its standard input with
nothing but onnxruntime (or torch) and tokenizers. It is compared with the checkpoint before it
appears. ONNX is the fast one; model.pt2 goes step by step through torch's scan.

Exit codes: 0 done, 2 a mistake in the input (one line on standard error says which), 130 stopped by
Ctrl-C.
"""


def export(arguments: argparse.Namespace) -> None:
    """Export what the command line asks for.

    Raises:
        UserError: a checkpoint that cannot be used, or an export that differs from it.
        OSError: files that cannot be written.
    """
    missing = [name for name in NEEDED[arguments.format] if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format {arguments.format} needs {' and '.join(missing)}: "
            "pip install -e '.[export]', or --format torch"
        )
    # torch takes seconds to import: `--help` and a mistyped option do not wait.
    from sentiment.training.exporting import Format, export_checkpoint
    from sentiment.training.predictor import SentimentPredictor

    predictor = SentimentPredictor.load(arguments.checkpoint, Device.cpu, Precision.float32)
    data_sha256 = recorded_hashes(predictor.checkpoint.folder)
    output: Path = arguments.output
    difference = export_checkpoint(predictor, Format(arguments.format), output, data_sha256)
    print(f"{output} gives the checkpoint's probabilities; largest difference {difference:.6f}")


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: options that are unknown or impossible.
    """
    description = "Export a saved checkpoint for use without this project."
    parser = Parser("sentiment-export", description, HELP)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="RUN", help="run directory or checkpoint folder")
    add("--format", choices=list(NEEDED), default="onnx", help="of the model (onnx)")
    add("--output", required=True, type=Path, metavar="DIR", help="a new folder")
    return parser.parse_args(command_line)


def main() -> None:
    """Entry point of `sentiment-export`."""
    with orderly_exit():
        export(parse(sys.argv[1:]))


if __name__ == "__main__":
    main()
