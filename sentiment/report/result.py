"""Raw files of results: what a run scored, how it was made, which test reviews it got right.

`results/NAME/*.json`, a file per run. The runs of one name differ in their seeds and in nothing
else. A file holds no path of the machine that wrote it.
"""

import base64
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentiment.config import SplitConfig
from sentiment.errors import UserError
from sentiment.report.run import write_json

SEEDS = ("seed", "split.seed")
PLACES = {
    "data.path": "DIR",
    "data.train": "FILE",
    "data.validation": "FILE",
    "data.test": "FILE",
    "data.unlabelled": "FILE",
    "embeddings.path": "FILE",
    "tokenizer.path": "FILE",
    "init_from": "RUN",
    "runtime.cache_dir": "DIR",
}
"""Settings that say where something is, and what stands for their values in a raw file."""


@dataclass(frozen=True)
class Result:
    """One run.

    Attributes:
        command: what to type for the same, with DIR, FILE or RUN in the place of paths.
        seed: of the run.
        split: how validation reviews were taken from the training reviews.
        environment: as in a run's `environment.json`.
        history: everything that validation chose from: epochs, or settings.
        metrics: what it chose, and its validation and test figures, as in `metrics.json`.
        seconds: that the command took; `None` where it was stopped and resumed.
        right_N: whether the label of a test review was told right, in the order of the test split,
            whose hash is in `environment`.
    """

    command: str
    seed: int
    split: dict[str, Any]
    environment: dict[str, Any]
    history: list[dict[str, float]]
    metrics: dict[str, float]
    seconds: float | None
    right_N: NDArray[np.bool_]

    @property
    def test_sha256(self) -> str:
        """Hash of the test reviews."""
        return str(self.environment["data_sha256"]["test"])


def describe_split(split: SplitConfig) -> dict[str, Any]:
    """The settings of a split as JSON has them."""
    values = asdict(split) | {"kind": split.kind.value}
    return {name: value for name, value in values.items() if value is not None}


def without_places(overrides: Sequence[str]) -> list[str]:
    """Overrides as a raw file shows them: no path of this machine."""
    named = (override.partition("=") for override in overrides)
    return [f"{key}={PLACES.get(key, value)}" for key, _, value in named]


def result_path(root: Path, name: str, seed: int, split_seed: int) -> Path:
    """Where the raw file of a run lies.

    Raises:
        UserError: a name that is no plain name of a folder.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name) is None:
        raise UserError(f"the name is {name!r}, expected lower-case letters, digits, - _ or .")
    return root / name / f"split-{split_seed}-seed-{seed}.json"


def require_same_command(root: Path, name: str, command: str) -> None:
    """Keep runs of different settings out of one row.

    Raises:
        UserError: the runs of this name were made by another command, seeds apart.
    """
    for result in read_results(root).get(name, []):
        if _without_seeds(result.command) != _without_seeds(command):
            raise UserError(
                f"{root / name} holds runs of `{result.command}`, expected the same command but "
                f"for its seeds, found `{command}`; give these runs another name"
            )


def write_result(root: Path, name: str, result: Result) -> Path:
    """Write the raw file of a run; where it is.

    Raises:
        UserError: it does not belong to this name.
    """
    require_same_command(root, name, result.command)
    path = result_path(root, name, result.seed, result.split["seed"])
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {key: value for key, value in vars(result).items() if key != "right_N"}
    packed = base64.b64encode(np.packbits(result.right_N).tobytes()).decode()
    write_json(path, values | {"test_reviews": len(result.right_N), "test_right": packed})
    return path


def read_results(root: Path) -> dict[str, list[Result]]:
    """All runs, by the name of their row.

    Raises:
        UserError: a file that is no raw file of a result, or contradicts itself.
    """
    found: dict[str, list[Result]] = {}
    for path in sorted(root.glob("*/*.json")):
        try:
            result = _from_json(json.loads(path.read_text()))
            accuracy = result.metrics["test/accuracy"]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is no raw file of a result: {error!r}") from error
        if abs(accuracy - result.right_N.mean()) > 1e-9:
            raise UserError(
                f"{path} says {accuracy} of its test reviews are right, and {result.right_N.mean()}"
            )
        found.setdefault(path.parent.name, []).append(result)
    return found


def _from_json(values: Mapping[str, Any]) -> Result:
    known = dict(values)
    bits = np.frombuffer(base64.b64decode(known.pop("test_right")), np.uint8)
    right_N = np.unpackbits(bits, count=known.pop("test_reviews")).astype(np.bool_)
    return Result(**known, right_N=right_N)


def _without_seeds(command: str) -> list[str]:
    return [word for word in shlex.split(command) if word.partition("=")[0] not in SEEDS]
