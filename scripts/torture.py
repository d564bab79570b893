"""Kill a training run at random moments, resume it each time, and compare what comes out.

    python scripts/torture.py --kills 100 [KEY=VALUE ...]

One run is left alone. Others get SIGKILL at random moments, half of the time while a checkpoint is
being written, and are started again by the same command with `resume=auto`, until they finish. Each
has to end with the same bytes in its weights, its optimizer state, its model card, `history.csv`,
`gradients.csv`, `predictions.csv` and `metrics.json`, and with the same TensorBoard points; only
reviews per second are its own.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from sentiment.report.run import GRADIENTS, HISTORY, METRICS, PREDICTIONS, is_event_file

SETTINGS = (
    "data=sample",
    "embeddings.dimension=32",
    "model.hidden_size=32",
    "trainer.epochs=3",
    "trainer.log_every=3",
    "checkpoint.every_updates=7",
    "runtime.threads=1",
)
SAME_BYTES = (
    *("checkpoints/best/model.safetensors", "checkpoints/last/model.safetensors"),
    *("checkpoints/last/training_state.safetensors", HISTORY, GRADIENTS, PREDICTIONS, METRICS),
    "checkpoints/best/README.md",
)
CLOCK = "train/reviews_per_second"


def train(folder: Path, cache: Path, settings: list[str]) -> None:
    """What a process of its own does: go on with the run in the folder, or begin it."""
    os.environ |= {"SENTIMENT_CACHE": str(cache), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["train", *settings, f"hydra.run.dir={folder}", "resume=auto"]
    from sentiment.train import main

    main()


def context() -> ForkServerContext:
    """Where processes come from: a server that has done the slow imports, and nothing else."""
    # What is killed cannot give its semaphores back; that this is said of each helps nobody.
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"
    found = multiprocessing.get_context("forkserver")
    # The optimizer imports torch._dynamo when it is made.
    found.set_forkserver_preload(["sentiment.pipeline", "sentiment.train", "torch._dynamo"])
    return found


def being_written(checkpoints: Path) -> set[tuple[str, int]]:
    """Unfinished checkpoints, and when each was begun."""
    found = set()
    for partial in checkpoints.glob("*.partial"):
        with contextlib.suppress(FileNotFoundError):  # finished meanwhile
            found.add((partial.name, partial.stat().st_ctime_ns))
    return found


def kill(process: ForkServerProcess, checkpoints: Path, horizon: float) -> str | None:
    """Kill a run at a random moment, or in the first checkpoint that it writes after that.

    Returns:
        What the run was at; `None` if it was finished before that moment came.
    """
    left_over = being_written(checkpoints)
    moment = time.monotonic() + random.uniform(0, horizon)
    in_write = random.random() < 0.5
    while process.is_alive():
        time.sleep(0.0005)
        if time.monotonic() >= moment and not (
            in_write and being_written(checkpoints) <= left_over
        ):
            if in_write:
                time.sleep(random.uniform(0, 0.01))
            process.kill()
            break
    process.join()
    if process.exitcode == -signal.SIGKILL:
        if being_written(checkpoints) - left_over:
            return "writing a checkpoint"
        return "training or testing" if checkpoints.exists() else "starting"
    finish(process)
    return None


def finish(process: ForkServerProcess) -> None:
    """Wait for a run that is left alone; it has to end well."""
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"a run ended with exit code {process.exitcode}; see {process.name}")


def points(run: Path) -> Iterator[tuple[str, int, float | None]]:
    """Tag, step and value of every scalar in a run's event files, as they stand there."""
    for path in sorted(p for p in run.iterdir() if is_event_file(p.name)):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    shown = None if value.tag == CLOCK else value.simple_value
                    yield value.tag, event.step, shown


def differences(run: Path, reference: Path) -> list[str]:
    """What a run left behind that is not as in the one that was left alone."""
    found = [n for n in SAME_BYTES if (run / n).read_bytes() != (reference / n).read_bytes()]
    if list(points(run)) != list(points(reference)):
        found.append("TensorBoard points")
    return found


def main() -> None:
    """Parse the command line, torture, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100, help="in all (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("settings", nargs="*", help="of the runs, e.g. data.path=DIR")
    arguments = parser.parse_intermixed_args()
    random.seed(arguments.seed)
    settings, server = [*SETTINGS, *arguments.settings], context()
    folder = Path(tempfile.mkdtemp(prefix="torture-"))

    def start(run: Path) -> ForkServerProcess:
        arguments = (run, folder / f"cache-{run.name}", settings)
        process = server.Process(target=train, args=arguments, name=f"{run}.log")
        process.start()
        return process

    reference = folder / "undisturbed"
    for _ in range(2):  # the second finds the caches that a resumed run finds
        shutil.rmtree(reference, ignore_errors=True)
        started = time.monotonic()
        finish(start(reference))
        seconds = time.monotonic() - started
    print(f"undisturbed: {seconds:.1f} s, {len(list(points(reference)))} points", flush=True)

    moments: Counter[str] = Counter()
    runs = 0
    while moments.total() < arguments.kills:
        runs += 1
        run, before = folder / f"run-{runs}", moments.total()
        while moments.total() < arguments.kills:
            moment = kill(start(run), run / "checkpoints", horizon=seconds / 2)
            if moment is None:
                break
            moments[moment] += 1
        else:
            finish(start(run))
        found = differences(run, reference)
        killed = moments.total() - before
        print(f"run {runs}: {killed} kills, {', '.join(found) or 'the same'}", flush=True)
        if found:
            raise SystemExit(f"not as the undisturbed run; see {folder}")
    shutil.rmtree(folder)
    shown = ", ".join(f"{count} while {moment}" for moment, count in moments.most_common())
    print(f"{moments.total()} kills, {shown}; each of {runs} runs ended as the undisturbed one")


if __name__ == "__main__":
    main()
