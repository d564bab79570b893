"""Train a preset with several seeds, compare rows, and keep the README's table of results.

    python scripts/results.py run NAME [KEY=VALUE ...] [--seeds N]
    python scripts/results.py compare NAME OTHER
    python scripts/results.py table

`run` trains by the command that a user types, `python -m sentiment.train KEY=VALUE ... seed=S`, one
seed after the other in `outputs/results/NAME/`, and writes a raw file of each to `results/NAME/`. A
seed whose raw file is there is not run again, a run that was stopped goes on.
`table` makes the README's table out of the raw files, and out of nothing else.
"""

import argparse
import contextlib
import csv
import json
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import NamedTuple

import numpy as np
from scipy import stats

from sentiment import cli
from sentiment.config import SplitKind, TrainConfig
from sentiment.errors import UserError
from sentiment.report.result import (
    Result,
    describe_split,
    read_results,
    require_same_command,
    result_path,
    without_places,
    write_result,
)
from sentiment.report.run import ENVIRONMENT, HISTORY, METRICS, PREDICTIONS, write_text
from sentiment.resume import quote

RESULTS, RUNS, README = Path("results"), Path("outputs", "results"), Path("README.md")
START, END = "<!-- results -->", "<!-- /results -->"
DOOR = ("-m", "sentiment.train")


class Summary(NamedTuple):
    """Figures of several runs; `None` where one run cannot tell."""

    runs: int
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None


def summarize(values: Sequence[float]) -> Summary:
    """Mean, standard deviation, and the 95 % interval of the mean by Student's t."""
    count, center = len(values), mean(values)
    if count < 2:
        return Summary(count, center, None, None)
    half = float(stats.t.ppf(0.975, count - 1)) * stdev(values) / math.sqrt(count)
    return Summary(count, center, stdev(values), (center - half, center + half))


def compare(first: Sequence[Result], second: Sequence[Result]) -> tuple[float, float, float]:
    """Compare the mean test accuracies of two rows, review by review.

    Returns:
        The difference, and the ends of its 95 % interval by a bootstrap over the test reviews; the
        runs are taken as they are.

    Raises:
        UserError: other test reviews.
    """
    require_same_tests([*first, *second])
    share_N, other_share_N = (
        np.mean([result.right_N for result in results], axis=0) for results in (first, second)
    )
    resampled = stats.bootstrap(
        (share_N - other_share_N,), np.mean, n_resamples=9999, batch=100, method="percentile", rng=0
    )
    low, high = resampled.confidence_interval
    return float((share_N - other_share_N).mean()), float(low), float(high)


def mcnemar(first: Result, second: Result) -> tuple[int, int, float]:
    """Compare two runs by McNemar's exact test.

    Returns:
        How many reviews only the first, and only the second tells right, and the p-value.
    """
    only_first = int((first.right_N & ~second.right_N).sum())
    only_second = int((~first.right_N & second.right_N).sum())
    discordant = only_first + only_second
    p_value = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    return only_first, only_second, float(p_value)


def require_same_tests(results: Sequence[Result]) -> None:
    """Refuse to put side by side what was measured on different reviews.

    Raises:
        UserError: the runs have other test reviews, or the same in another order.
    """
    hashes = sorted({result.test_sha256[:12] for result in results})
    if len(hashes) > 1:
        raise UserError(f"the runs have test reviews of {hashes}, expected the same in all")


def run(name: str, seeds: int, overrides: list[str], root: Path = RESULTS) -> None:
    """Train with the seeds from 0 on, and write what has no raw file yet.

    Args:
        name: of the row.
        seeds: how many.
        overrides: what a user types behind the command.
        root: where raw files lie.

    Raises:
        UserError: settings that cannot be used, or do not belong to this name.
        SystemExit: with the exit code of a run that failed.
    """
    for seed in range(seeds):
        arguments = [*overrides, f"seed={seed}"]
        config = cli.compose_train(arguments)
        raw = result_path(root, name, seed, config.split.seed)
        command = shlex.join(["python", *DOOR, *without_places(arguments)])
        require_same_command(root, name, command)
        if raw.exists():
            print(f"{raw} is there", flush=True)
            continue
        directory = RUNS / name / raw.stem
        is_new, started = not directory.exists(), time.monotonic()
        place = (f"hydra.run.dir={quote(directory)}", "resume=auto")
        if code := finish([sys.executable, *DOOR, *arguments, *place]):
            raise SystemExit(code)
        seconds = round(time.monotonic() - started) if is_new else None
        result = collect(directory, config, command, seconds)
        print(f"{write_result(root, name, result)} is written", flush=True)


def finish(command: list[str]) -> int:
    """The exit code of a command that may take its time to save when Ctrl-C stops it, too."""
    with subprocess.Popen(command) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


def collect(directory: Path, config: TrainConfig, command: str, seconds: float | None) -> Result:
    """What a finished run left behind, as a result."""
    with (directory / HISTORY).open(newline="") as file:
        history = [{tag: float(v) for tag, v in row.items()} for row in csv.DictReader(file)]
    with (directory / PREDICTIONS).open(newline="") as file:
        right = [row["prediction"] == row["label"] for row in csv.DictReader(file)]
    return Result(
        command=command,
        seed=config.seed,
        split=describe_split(config.split),
        environment=json.loads((directory / ENVIRONMENT).read_text()),
        history=history,
        metrics=json.loads((directory / METRICS).read_text()),
        seconds=seconds,
        right_N=np.array(right),
    )


def report(results: dict[str, list[Result]], name: str, other: str) -> Iterator[str]:
    """What `compare` prints.

    Raises:
        UserError: no such row, or rows that cannot be compared.
    """
    for wanted in (name, other):
        if wanted not in results:
            raise UserError(f"no runs of {wanted} in {RESULTS}, expected one of {sorted(results)}")
        yield f"{wanted}: {_percent(summarize(_accuracies(results[wanted], 'test')))} on test"
    first, second = results[name], results[other]
    difference, low, high = (100 * figure for figure in compare(first, second))
    yield (
        f"{difference:+.2f} points of test accuracy, 95 % interval over the "
        f"{len(first[0].right_N)} reviews {low:+.2f} to {high:+.2f}"
    )
    for a in first:
        for b in second:
            if (a.seed, a.split) == (b.seed, b.split):
                only_a, only_b, p_value = mcnemar(a, b)
                yield (
                    f"split {a.split['seed']}, seed {a.seed}: only {name} is right on {only_a}, "
                    f"only {other} on {only_b}; McNemar's exact p {p_value:.2g}"
                )


def table(results: dict[str, list[Result]]) -> str:
    """The README's table, worst row first.

    Raises:
        UserError: there are no rows, or they cannot be compared.
    """
    every = [result for runs in results.values() for result in runs]
    if not every:
        raise UserError(f"{RESULTS} has no raw files, expected some of `results.py run`")
    require_same_tests(every)
    lines = [
        "| row | command | validation | test | 95 % interval of the mean "
        "| test AUROC | runs | time |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in sorted(results, key=lambda name: mean(_accuracies(results[name], "test"))):
        runs = results[name]
        tags = ("validation/accuracy", "test/accuracy", "test/auroc")
        validation, test, area = (summarize([run.metrics[tag] for run in runs]) for tag in tags)
        interval = " to ".join(f"{100 * end:.2f}" for end in test.interval or ())
        cells = [f"[{name}](results/{name})", f"`{_shown(runs[0].command)}`"]
        cells += [_percent(validation), _percent(test), interval, _percent(area)]
        cells += [str(test.runs), _time(runs)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *gaps(every)])


def gaps(results: Sequence[Result]) -> Iterator[str]:
    """How far validation accuracy is off test accuracy, for each kind of split."""
    for kind in SplitKind:
        points = [
            100 * (result.metrics["validation/accuracy"] - result.metrics["test/accuracy"])
            for result in results
            if result.split["kind"] == kind.value
        ]
        if points:
            yield (
                f"With a {kind.value} split, validation accuracy is {mean(map(abs, points)):.2f} "
                "points off test accuracy on average "
                f"({mean(points):+.2f} with its sign; runs: {len(points)})."
            )


def insert(document: str, section: str) -> str:
    """Put the table between its markers.

    Raises:
        UserError: a document without them.
    """
    before, start, rest = document.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise UserError(f"{README} has no {START} and {END}, expected the table between them")
    return f"{before}{START}\n{section}\n{END}{after}"


def _accuracies(results: Sequence[Result], part: str) -> list[float]:
    return [result.metrics[f"{part}/accuracy"] for result in results]


def _percent(summary: Summary) -> str:
    deviation = "" if summary.deviation is None else f" ± {100 * summary.deviation:.2f}"
    return f"{100 * summary.mean:.2f}{deviation}"


def _shown(command: str) -> str:
    hidden = ("data.path", "seed", "split.seed")
    return shlex.join(w for w in shlex.split(command) if w.partition("=")[0] not in hidden)


def _time(results: Sequence[Result]) -> str:
    seconds = [result.seconds for result in results if result.seconds is not None]
    machines = sorted({result.environment["device"] for result in results})
    duration = f"{median(seconds) / 60:.1f} min, " if seconds else ""
    return duration + " and ".join(machines)


def main() -> None:
    """Parse the command line, and do it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    doors = parser.add_subparsers(dest="door", required=True)
    train = doors.add_parser("run", help="train with several seeds and write raw files")
    train.add_argument("name", help="of the row: the folder in results/")
    train.add_argument("--seeds", type=int, default=5, help="how many, from 0 on (5)")
    train.add_argument("overrides", nargs="*", help="of sentiment.train: experiment=... data.path=")
    against = doors.add_parser("compare", help="two rows on the same test reviews")
    against.add_argument("name")
    against.add_argument("other")
    doors.add_parser("table", help="rewrite the table in README.md")
    arguments = parser.parse_args()
    with cli.one_line_errors():
        if arguments.door == "run":
            run(arguments.name, arguments.seeds, arguments.overrides)
        elif arguments.door == "compare":
            print(*report(read_results(RESULTS), arguments.name, arguments.other), sep="\n")
        else:
            write_text(README, insert(README.read_text(), table(read_results(RESULTS))))


if __name__ == "__main__":
    main()
