"""`python -m sentiment.predict`: label a user's own texts with a saved checkpoint."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from tqdm import tqdm

from sentiment.arguments import Parser, load_predictor, orderly_exit
from sentiment.config import THRESHOLD
from sentiment.data.lines import line_portions

if TYPE_CHECKING:
    from sentiment.training.predictor import Explanation, Prediction

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

reasons, with --explain (needs pip install 'sentiment[explain]'; some hundred times the work):
  each line also has "tokens": [[start, end, weight], ...], the tokens that the model reads, by
  their characters in the text; a weight above 0 speaks for the positive label. The weights add up
  to the logit of the probability less that of a text as long that says next to nothing
  (integrated gradients). On a terminal the text is shown instead, with words that speak for the
  positive label in green and for the negative one in red; with NO_COLOR set, with weights beside
  the strongest.

The label is positive where the probability is above {THRESHOLD}, or --threshold. Tokenizer,
truncation and label names are the checkpoint's. Exit codes: 0 done, 2 a mistake in the input (one
line on standard error says which), 130 stopped by Ctrl-C.
"""


Found = TypeVar("Found", bound="Prediction | Explanation")
Answer = Callable[[Sequence[str]], Sequence[Found]]
Show = Callable[[str, Found], str]
EXPLAINED_AT_ONCE = 32
WEIGHT_DIGITS = 6


def predict(arguments: argparse.Namespace) -> None:
    """Predict what the command line asks for.

    Raises:
        UserError: a checkpoint, texts or a table that cannot be used.
        OSError: files that cannot be opened or written.
    """
    predictor = load_predictor(arguments)
    if arguments.input:
        from sentiment.data.annotation import annotate

        with metered(predictor) as metered_predictor:
            annotate(arguments.input, arguments.output, metered_predictor, arguments.text_column)
    elif arguments.explain:
        show = in_colours if sys.stdout.isatty() else to_explained_json
        _answer(arguments.texts, predictor.explain, show, EXPLAINED_AT_ONCE)
    else:
        _answer(arguments.texts, predictor, to_json)


def _answer(
    texts: Sequence[str], answer: Answer[Found], show: Show[Found], at_once: int = sys.maxsize
) -> None:
    """Write what is said of these texts or, if there are none, of those on standard input."""
    output = sys.stdout.buffer
    if texts:
        write_records(_parts([texts], at_once), answer, output, show)
        return
    parts = _parts(line_portions(sys.stdin.buffer, STDIN), at_once)
    if sys.stdin.isatty():
        print("type a text and press Enter; Ctrl-D ends", file=sys.stderr)
        write_records(parts, answer, output, show)
        return
    with metered(answer) as metered_answer:
        write_records(parts, metered_answer, output, show)


def _parts(portions: Iterable[Sequence[str]], at_once: int) -> Iterator[Sequence[str]]:
    for texts in portions:
        for start in range(0, len(texts), at_once):
            yield texts[start : start + at_once]


def write_records(
    portions: Iterable[Sequence[str]], answer: Answer[Found], stream: BinaryIO, show: Show[Found]
) -> None:
    """Write what is said of each text, portion by portion, in order."""
    for texts in portions:
        for text, found in zip(texts, answer(texts), strict=True):
            stream.write(show(text, found).encode() + b"\n")
        stream.flush()


def to_json(text: str, found: "Prediction | Explanation", **more: Any) -> str:
    """The record of a text, as a line."""
    record = {"text": text, "label": found.label, "probability": found.probability, **more}
    if found.label is None:
        record["error"] = "empty text"
    return json.dumps(record, ensure_ascii=False)


def to_explained_json(text: str, found: "Explanation") -> str:
    """The record of a text with its tokens, as a line."""
    tokens = [(start, end, round(weight, WEIGHT_DIGITS)) for start, end, weight in found.tokens]
    return to_json(text, found, tokens=tokens)


def in_colours(text: str, found: "Explanation") -> str:
    """Label and probability of a text and its words in colour, for a terminal."""
    from sentiment.report.terminal import explained

    coloured = not os.environ.get("NO_COLOR")
    return explained(text, found.label, found.probability, found.tokens, coloured=coloured)


@contextlib.contextmanager
def metered(answer: Answer[Found]) -> Iterator[Answer[Found]]:
    """Show how many texts were answered: a bar on a terminal, and a line at the end."""
    started, empty = time.perf_counter(), 0
    shown = sys.stderr.isatty() and not sys.stdout.isatty()
    with tqdm(unit=" texts", disable=not shown, leave=False) as bar:
        count = 0

        def counting(texts: Sequence[str]) -> Sequence[Found]:
            nonlocal count, empty
            found = answer(texts)
            count += len(texts)
            empty += sum(each.label is None for each in found)
            bar.update(len(texts))
            return found

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
    add("--explain", action="store_true", help="say what each word adds, too")
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
    if arguments.input and arguments.explain:
        parser.error("--explain goes with texts or standard input, not with --input")
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
