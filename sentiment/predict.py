"""`python -m sentiment.predict`: label a user's own texts with a saved checkpoint."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tqdm import tqdm

from sentiment.arguments import Parser, orderly_exit
from sentiment.config import THRESHOLD, Device, Precision
from sentiment.data.lines import line_portions

if TYPE_CHECKING:
    from sentiment.training.predictor import Prediction

STDIN = "standard input"
HELP = f"""\
texts, from one of three places:
  arguments       sentiment-predict --checkpoint RUN "I loved it." "What a bore."
  standard input  sentiment-predict --checkpoint RUN < reviews.txt
                  one text per line, in UTF-8; typed lines are answered one by one
  a table         sentiment-predict --checkpoint RUN --input reviews.csv --output predicted.csv
                  CSV, TSV, JSON Lines (each also .gz) or parquet; every column is kept, and
                  `prediction` and `probability` are added; the output appears when it is whole

results, as a line of JSON on standard output for each text, in order:
  {{"text": "I loved it.", "label": "positive", "probability": 0.973112}}
  `probability` is that of the positive label, whichever is predicted. An empty text has null as
  label and probability, and an `error`. Progress and speed go to standard error.

The label is positive where the probability is above {THRESHOLD}, or --threshold. Tokenizer,
truncation and label names are the checkpoint's. Exit codes: 0 done, 2 a mistake in the input (one
line on standard error says which), 130 stopped by Ctrl-C.
"""


Predict = Callable[[Sequence[str]], Sequence["Prediction"]]


def predict(arguments: argparse.Namespace) -> None:
    """Predict what the command line asks for.

    Raises:
        UserError: a checkpoint, texts or a table that cannot be used.
        OSError: files that cannot be opened or written.
    """
    # torch takes seconds to import: `--help` and a mistyped option do not wait.
    from sentiment.training.predictor import SentimentPredictor

    predictor = SentimentPredictor.load(
        arguments.checkpoint,
        Device(arguments.device),
        Precision(arguments.precision),
        arguments.threads,
        arguments.threshold,
    )
    if arguments.input:
        from sentiment.data.annotation import annotate

        with metered(predictor) as metered_predictor:
            annotate(arguments.input, arguments.output, metered_predictor, arguments.text_column)
    elif arguments.texts:
        write_records([arguments.texts], predictor, sys.stdout.buffer)
    elif sys.stdin.isatty():
        print("type a text and press Enter; Ctrl-D ends", file=sys.stderr)
        write_records(line_portions(sys.stdin.buffer, STDIN), predictor, sys.stdout.buffer)
    else:
        with metered(predictor) as metered_predictor:
            portions = line_portions(sys.stdin.buffer, STDIN)
            write_records(portions, metered_predictor, sys.stdout.buffer)


def write_records(portions: Iterable[Sequence[str]], predictor: Predict, stream: BinaryIO) -> None:
    """Write a JSON line for each text, portion by portion, in order."""
    for texts in portions:
        for text, (label, probability) in zip(texts, predictor(texts), strict=True):
            record = {"text": text, "label": label, "probability": probability}
            if label is None:
                record["error"] = "empty text"
            stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        stream.flush()


@contextlib.contextmanager
def metered(predictor: Predict) -> Iterator[Predict]:
    """Show how many texts were predicted: a bar on a terminal, and a line at the end."""
    started, empty = time.perf_counter(), 0
    shown = sys.stderr.isatty() and not sys.stdout.isatty()
    with tqdm(unit=" texts", disable=not shown, leave=False) as bar:
        count = 0

        def counting(texts: Sequence[str]) -> Sequence["Prediction"]:
            nonlocal count, empty
            predictions = predictor(texts)
            count += len(texts)
            empty += sum(prediction.label is None for prediction in predictions)
            bar.update(len(texts))
            return predictions

        yield counting
    rate = count / (time.perf_counter() - started)
    print(f"{count} texts ({empty} empty), {rate:.0f} per second", file=sys.stderr)


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: options that are unknown, impossible or contradict each other.
    """
    parser = Parser(
        "sentiment-predict", "Label texts as positive or negative with a saved checkpoint.", HELP
    )
    parser.add_predictor()
    add = parser.add_argument
    add("--input", type=Path, metavar="FILE", help="a table with a column of texts")
    add("--output", type=Path, metavar="FILE", help="where to put it with its predictions")
    add("--text-column", metavar="NAME", help="of the input (a usual name: text, review, ...)")
    add(
        "texts",
        nargs="*",
        metavar="TEXT",
        help="what to label; put -- before one that starts with -",
    )
    arguments = parser.parse_args(command_line)
    if (arguments.input is None) != (arguments.output is None):
        parser.error("--input and --output go together")
    if arguments.input and arguments.texts:
        parser.error("give texts or --input, not both")
    if arguments.text_column and not arguments.input:
        parser.error("--text-column goes with --input")
    for number, text in enumerate(arguments.texts, 1):
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            parser.error(f"text {number} is not UTF-8")
    return arguments


def main() -> None:
    """Entry point of `sentiment-predict`."""
    with orderly_exit():
        try:
            predict(parse(sys.argv[1:]))
        except BrokenPipeError:
            # Who reads has seen enough; nothing must be left for the interpreter to flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
