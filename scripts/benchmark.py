"""Measure what is claimed of speed and memory: python scripts/benchmark.py BENCHMARK data.path=DIR.

    training     this pipeline's loop, that of the usual tutorials, and Keras' example
    inference    prediction by this pipeline, and by `nn.LSTM` in the usual ways
    tokenize     from texts to token ids, at first and from the cache
    startup      until `--help` is there, and until the first update
    memory       most memory of training and prediction
    scaling      two processes, each on a core, and one
    checkpoints  training that saves its state after every update, and training that does not

Each side runs in a process of its own, in turn, several times, on the same reviews: what one side
tells its process (threads, memory, number formats) cannot help or hinder the other. Figures are
medians over the rounds; a ratio is that to the first row of the same group. All is measured on the
CPU, `training` with `runtime.device=cuda` on a GPU. Keras needs the extra `bench`.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from benchmarks import commands, encoding, inference, memory, report, training
from benchmarks.sides import Benchmark, Figures, SkippedError
from sentiment import cli
from sentiment.arguments import new_file
from sentiment.config import Device, RuntimeConfig, TrainConfig
from sentiment.errors import UserError
from sentiment.training.runtime import describe_environment, prepare

BENCHMARKS: dict[str, Benchmark] = {
    "training": training.TRAINING,
    "inference": inference.INFERENCE,
    "tokenize": encoding.TOKENIZE,
    "startup": commands.STARTUP,
    "memory": memory.MEMORY,
    "scaling": commands.SCALING,
    "checkpoints": commands.CHECKPOINTS,
}
BASE = ("runtime.device=cpu",)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UserError(f"{message} (--help explains)")


def measure(benchmark: Benchmark, group: str, side: str, count: int, given: list[str]) -> Figures:
    """Run one side, in this process."""
    settings, sides = benchmark.groups[group]
    return sides[side].measure(count, [*BASE, *settings, *given, *sides[side].overrides])


def compare(name: str, count: int, rounds: int, given: list[str]) -> dict[str, Any]:
    """Let all sides run in turn, each in a process of its own.

    Args:
        name: of the benchmark.
        count: reviews of each run.
        rounds: runs of each side.
        given: overrides.

    Raises:
        SystemExit: a side failed, and has said why.
    """
    benchmark = BENCHMARKS[name]
    runs: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    skipped: dict[str, str] = {}
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    for number in range(rounds):
        for group, (_, sides) in benchmark.groups.items():
            for side in sides:
                title = f"{group}: {side}"
                if title in skipped:
                    continue
                command = [sys.executable, __file__, name, "--side", group, side]
                command += ["--reviews", str(count)] if benchmark.reviews else []
                done = subprocess.run([*command, *given], stdout=subprocess.PIPE, text=True)
                if done.returncode != 0:
                    sys.exit(done.returncode)
                found = json.loads(done.stdout.splitlines()[-1])
                if isinstance(found, str):
                    skipped[title] = found
                    print(f"{title}: skipped, {found}", flush=True)
                    continue
                runs[group, side].append(found)
                shown = ", ".join(f"{report.number(found[unit])} {unit}" for unit in found)
                print(f"round {number + 1}: {title}: {shown}", flush=True)
    environment = describe_environment(prepare(cli.compose_train([*BASE, *given]).runtime))
    for package in ("numpy", "keras"):
        try:
            environment["packages"][package] = version(package)
        except PackageNotFoundError:
            environment["packages"][package] = None
    return {
        "benchmark": name,
        "unit": benchmark.unit,
        "reviews": count if benchmark.reviews else None,
        "rounds": rounds,
        # Where the reviews lie is no part of a figure.
        "settings": [setting for setting in given if not setting.startswith("data.path=")],
        "environment": environment | {"cores": os.cpu_count()},
        "groups": report.summarize(benchmark, runs),
        "skipped": skipped,
    }


def check_device(name: str, config: RuntimeConfig) -> None:
    """See that the benchmark can measure the device that is asked for.

    Raises:
        UserError: it cannot, or there is none.
    """
    if config.device is Device.cpu:
        return
    if config.device is Device.auto or name != "training":
        expected = "cpu or cuda" if name == "training" else "cpu"
        raise UserError(f"runtime.device is {config.device.value}: {name} measures {expected}")
    prepare(config)


def parse() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: what it asks for is impossible.
    """
    assert __doc__ is not None
    title, _, epilog = __doc__.partition("\n\n")
    parser = Parser(
        description=title, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    defaults = ", ".join(f"{name} {b.reviews}" for name, b in BENCHMARKS.items() if b.reviews)
    add("benchmark", choices=list(BENCHMARKS))
    add("--reviews", type=int, help=f"of each run, at most ({defaults})")
    add("--rounds", type=int, default=5, help="runs of each side (5)")
    add("--output", type=new_file, metavar="FILE.json", help="write all figures here")
    add("--plot", type=new_file, metavar="FILE.png", help="draw them here")
    add("--side", nargs=2, help=argparse.SUPPRESS)
    add("overrides", nargs="*", help="which reviews and settings: data.path=DIR, data=sample, ...")
    arguments = parser.parse_intermixed_args()
    default = BENCHMARKS[arguments.benchmark].reviews
    if default is None and arguments.reviews is not None:
        parser.error(f"{arguments.benchmark} takes no --reviews")
    arguments.reviews = default if arguments.reviews is None else arguments.reviews
    for name in ("reviews", "rounds"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            parser.error(f"--{name} is {value}, expected 1 or more")
    return arguments


def main() -> None:
    """Parse the command line, measure and print."""
    try:
        arguments = parse()
        benchmark, given = BENCHMARKS[arguments.benchmark], arguments.overrides
        if arguments.side:
            group, side = arguments.side
            try:
                found: Figures | str = measure(benchmark, group, side, arguments.reviews, given)
            except SkippedError as reason:
                found = str(reason)
            print(json.dumps(found))
            return
        check_device(arguments.benchmark, cli.compose_train([*BASE, *given]).runtime)
    except UserError as error:
        print(f"error: {cli.explain(error, TrainConfig)}", file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    result = compare(arguments.benchmark, arguments.reviews, arguments.rounds, given)
    print(*report.table(result), sep="\n")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.plot:
        from benchmarks.plot import draw

        draw(result, arguments.plot)


if __name__ == "__main__":
    main()
