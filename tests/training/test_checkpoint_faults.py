"""Every operation on the disk, made to fail in turn while a checkpoint is saved.

What was there before has to be found afterwards, or what is new, and nothing in between.
"""

import errno
import functools
import io
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.report.card import CARD
from sentiment.text.tokenizer import train_tokenizer
from sentiment.training import checkpoint
from sentiment.training.checkpoint import FILES, load_checkpoint, save_checkpoint
from sentiment.training.folder import MANIFEST, write_folder
from sentiment.training.optimizer import build_optimizer
from sentiment.training.state import STATE, TENSORS, Progress, TrainingState, load_resumable
from tests.conftest import FUZZ_EXAMPLES, compose_train

CONFIG = compose_train(
    *("data=sample", "model.layers=1", "model.hidden_size=4", "embeddings.dimension=3"),
    "tokenizer.min_frequency=1",
)
TOKENIZER = train_tokenizer([["a fine film"]], CONFIG.tokenizer)
Contents = tuple[tuple[str, bytes], ...]


def save(place: Path, version: int, keep: int) -> None:
    """Save a checkpoint in whose every part is its version."""
    model = Classifier(nn.Embedding(TOKENIZER.get_vocab_size(), 3), CONFIG.model)
    for weight in model.parameters():
        nn.init.constant_(weight, version)
    optimizer = build_optimizer(model, CONFIG.optimizer)
    state = TrainingState(model, optimizer, Progress(update=version), ("loss", "accuracy"))
    state.since_epoch.sums.fill_(version)
    metrics = {"version": float(version)}
    save_checkpoint(place, model, TOKENIZER, CONFIG, metrics, state.files(state.tensors()), keep)


def version_at(place: Path) -> int:
    """The version that is found there, once all its parts agree on it."""
    found = load_checkpoint(place)
    version = int(found.metrics["version"])
    resumable = load_resumable(place)
    assert resumable is not None
    assert resumable.progress.update == version
    assert resumable.tensors["figures.since_epoch"].tolist() == [[version] * 3]
    for part in (found, resumable.checkpoint):
        assert part.metrics == {"version": version}
        assert all(torch.all(weight == version) for weight in part.weights.values())
        assert part.tokenizer.to_str() == TOKENIZER.to_str()
    return version


class Died(BaseException):
    """The process is no more, and nothing that it would still do reaches the disk."""


class Disk:
    """Counts what is done to it, and lets one operation fail.

    Attributes:
        done: how many operations of each kind there were.
        hit: whether the one that was to fail was among them.
    """

    def __init__(self) -> None:
        self.fail_at(-1, "nothing")

    def fail_at(self, number: int, fault: str) -> None:
        """Count anew, and let the operation of this number, from 0, fail."""
        self.number, self.fault = number, fault
        self.done: Counter[str] = Counter()
        self.seen, self.hit = 0, False

    def passes(self, kind: str) -> bool:
        """Count an operation; whether it is done as it should, and not by halves.

        Raises:
            OSError: it is the one that fails.
            Died: so is every one after this.
        """
        if self.hit and self.fault == "death":
            raise Died
        self.done[kind] += 1
        by_halves = self.fault.startswith("short")
        if by_halves and kind != "write":
            return True
        self.seen += 1
        if self.seen != self.number + 1:
            return True
        self.hit = True
        if by_halves:
            return False
        if self.fault == "death":
            raise Died
        raise os_error(self.fault)


def os_error(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


class _File(io.FileIO):
    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path, "w")
        self.disk = disk

    def write(self, content: Any) -> int:
        if self.disk.passes("write"):
            return super().write(content)
        super().write(memoryview(content)[: len(content) // 2])
        if self.disk.fault == "short, then ENOSPC":
            raise os_error("ENOSPC")
        return len(content)


parse_config = checkpoint._parse_config


@functools.cache
def parsed(content: bytes) -> object:
    """A configuration, which is not at stake here, and parsing it most of the time."""
    return parse_config(content, Path("config.yaml"))


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: a disk would take most of the time of these tests."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """What `os` and `pathlib` write to from here on."""
    disk = Disk()

    def intercepted(kind: str) -> Callable[..., Any]:
        real = getattr(os, kind)

        def operation(*args: Any, **kwargs: Any) -> Any:
            disk.passes(kind)
            return real(*args, **kwargs)

        return operation

    def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode != "wb":
            return real_open(path, mode, *args, **kwargs)
        disk.passes("create")
        return io.BufferedWriter(_File(path, disk))

    real_open = io.open
    for kind in ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, kind, intercepted(kind))
    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(checkpoint, "_parse_config", lambda content, path: parsed(content))
    return disk


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Contents]:
    """What `save_checkpoint` writes for a version."""
    root = tmp_path_factory.mktemp("contents")

    @functools.cache
    def of_version(version: int) -> Contents:
        save(root / str(version), version, 1)
        names = (*FILES, CARD, STATE, TENSORS)
        return tuple((name, (root / str(version) / name).read_bytes()) for name in names)

    return of_version


def test_a_save_does_nothing_that_these_tests_do_not_see(disk: Disk, tmp_path: Path) -> None:
    place = tmp_path / "last"
    for version in (1, 2):
        save(place, version, keep=2)
    disk.fail_at(-1, "nothing")
    save(place, 3, keep=2)
    files = len((*FILES, CARD, STATE, TENSORS, MANIFEST))
    assert disk.done == {
        "mkdir": 1,
        "create": files,
        "write": files,
        "open": 3,  # two folders to sync, one to delete
        "fsync": files + 2,
        "rename": 3,
        "unlink": files,
        "rmdir": 1,
    }
    assert version_at(place) == 3


@pytest.mark.parametrize(
    "fault", ["EIO", "ENOSPC", "death", "short, and nothing said", "short, then ENOSPC"]
)
@pytest.mark.parametrize(
    ("name", "keep", "before"),
    [("last", 2, 1), ("last", 2, 2), ("best", 1, 1)],
    ids=["the second", "the third", "the only one kept"],
)
def test_a_save_that_fails_anywhere_leaves_the_old_checkpoint_or_the_new_one(
    disk: Disk,
    tmp_path: Path,
    contents: Callable[[int], Contents],
    name: str,
    keep: int,
    before: int,
    fault: str,
) -> None:
    for number in itertools.count():
        root = tmp_path / str(number)
        root.mkdir()
        place = root / name
        for version in range(1, before + 1):
            write_folder(place, contents(version), keep)

        new, newer = before + 1, contents(before + 1)
        disk.fail_at(number, fault)
        failed = attempt(place, newer, keep, fault)
        hit = disk.hit
        disk.fail_at(-1, "nothing")
        # Where only the deletion of what is not kept fails, the save is none the worse.
        assert version_at(place) in ((before, new) if failed else (new,))

        write_folder(place, contents(new + 1), keep)
        assert version_at(place) == new + 1
        expected = {place, *(root / f"{name}.{age}" for age in range(1, keep))}
        assert set(root.iterdir()) == expected
        assert (root / f"{name}.1").is_dir() == (keep == 2)
        shutil.rmtree(root)
        if not hit:
            break
    assert number >= (7 if fault.startswith("short") else 28)


def attempt(place: Path, contents: Contents, keep: int, fault: str) -> bool:
    """Save; whether that failed, in which case it says so as it should."""
    try:
        write_folder(place, contents, keep)
    except Died:
        return True
    except UserError as error:
        message = str(error)
        reason = {
            "short, and nothing said": "came out shorter than it was written",
            "short, then ENOSPC": "No space left on device",
            "ENOSPC": "No space left on device",
            "EIO": "Input/output error",
        }[fault]
        assert str(place) in message
        assert reason in message or "File exists" in message  # left by an earlier failure
        assert "\n" not in message
        return True
    return False


@pytest.mark.parametrize("seed", range(1 + FUZZ_EXAMPLES // 100))
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_failure_upon_failure_loses_nothing(
    disk: Disk, tmp_path: Path, contents: Callable[[int], Contents], keep: int, seed: int
) -> None:
    draw, place, found = random.Random(seed), tmp_path / "last", 1
    write_folder(place, contents(found), keep)
    for new in range(2, 42):
        fault = draw.choice(["EIO", "ENOSPC", "death", "short, then ENOSPC"])
        newer = contents(new)
        disk.fail_at(draw.randrange(60), fault)
        failed = attempt(place, newer, keep, fault)
        disk.fail_at(-1, "nothing")
        now = version_at(place)
        assert now in ((found, new) if failed else (new,))
        found = now
    for new in range(42, 42 + keep):
        write_folder(place, contents(new), keep)
    assert version_at(place) == new
    assert set(tmp_path.iterdir()) == {place, *(tmp_path / f"last.{age}" for age in range(1, keep))}


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "run" / "best"
    save(place, 1, keep=1)
    yield place
    assert version_at(place) == 1


SAVE_AGAIN = """
import resource, sys
from pathlib import Path
from sentiment.errors import UserError
from sentiment.training.checkpoint import load_checkpoint, save_checkpoint

place, most_bytes = Path(sys.argv[1]), int(sys.argv[2])
old = load_checkpoint(place)
resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
try:
    save_checkpoint(place, old.build_model(), old.tokenizer, old.config, {"version": 2.0})
except UserError as error:
    print(error)
"""


def test_weights_that_the_operating_system_does_not_take_leave_the_old_ones(saved: Path) -> None:
    pytest.importorskip("resource")
    most_bytes = (saved / "model.safetensors").stat().st_size // 2
    command = [sys.executable, "-c", SAVE_AGAIN, str(saved), str(most_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    reason = os.strerror(errno.EFBIG)
    assert done.stdout == (
        f"cannot write the checkpoint {saved}: {reason}; what was saved before is still there\n"
    )
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_named(saved: Path) -> None:
    saved.parent.chmod(0o500)
    try:
        with pytest.raises(UserError, match=rf"{saved}: Permission denied"):
            save(saved, 2, keep=1)
    finally:
        saved.parent.chmod(0o700)
