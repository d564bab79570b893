"""Runs that stop and go on: what comes out is what would have come out."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from sentiment import train
from sentiment.model.classifier import Classifier
from sentiment.report.run import lock
from tests.cli.test_configuration import run_door

SMALL = (
    *("data=sample", "embeddings.dimension=8", "model.hidden_size=8", "runtime.threads=1"),
    *("trainer.epochs=2", "trainer.max_train_batches=6", "trainer.log_every=2"),
    *("checkpoint.every_updates=2", "model.ngrams=2"),
)
RESULTS = (
    *("checkpoints/best/model.safetensors", "checkpoints/last/model.safetensors"),
    *("checkpoints/last/training_state.safetensors", "history.csv", "metrics.json"),
    *("predictions.csv", "gradients.csv"),
    *("checkpoints/best/metrics.json", "checkpoints/best/README.md"),
    *("predictions.csv", "projector_config.pbtxt"),
    *("projector/tensors.tsv", "projector/metadata.tsv"),
)


class Died(BaseException):
    """What no code is prepared for."""


def results(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in RESULTS]


def points(run: Path) -> list[tuple[str, int, float, bytes]]:
    """Every scalar and image in the run's event files, as it stands there, but for the clock's."""
    events = [
        (event.step, value)
        for path in sorted(run.glob("events.out.tfevents.*"))
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    return [
        (value.tag, step, value.simple_value, value.image.encoded_image_string)
        for step, value in events
        if value.WhichOneof("value") in ("simple_value", "image")
        and value.tag != "train/reviews_per_second"
    ]


def pictures_and_texts(run: Path) -> list[tuple[str, int, bytes]]:
    """Everything else that stands there, but for the hyper-parameters' clock."""
    return [
        (value.tag, event.step, value.SerializeToString(deterministic=True))
        for path in sorted(run.glob("events.out.tfevents.*"))
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
        if not value.HasField("simple_value") and not value.tag.startswith("_hparams_/")
    ]


def die_in(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    forward, numbers = Classifier.forward, itertools.count(1)

    def mortal(self: Classifier, *arguments: object) -> object:
        if self.training and next(numbers) == batch:
            raise Died
        return forward(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Classifier, "forward", mortal)


def killed(run: Path, batch: int, *overrides: str) -> Path:
    """A run that died in the given batch, counted from 1."""
    with pytest.MonkeyPatch.context() as patch:
        die_in(patch, batch)
        with pytest.raises(Died):
            run_door(train.main, *SMALL, f"hydra.run.dir={run}", *overrides)
    return run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    run_door(train.main, *SMALL, f"hydra.run.dir={run}")
    return run


@pytest.fixture
def stopped(cwd: Path) -> Path:
    return killed(cwd / "run", 9)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that leave it as it is."""
    return killed(tmp_path_factory.mktemp("stopped") / "run", 9)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file but the logs."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return {str(path): path.read_bytes() for path in files}


def refused(*overrides: str, capsys: pytest.CaptureFixture[str], unchanged: Path = Path()) -> str:
    """Run a command that must fail with one line and leave everything as it was."""
    before = snapshot(unchanged)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_door(train.main, *overrides)
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert snapshot(unchanged) == before
    return line


@pytest.mark.parametrize("batch", [2, 7, 12])
def test_a_run_that_died_anywhere_ends_as_if_it_had_not(
    cwd: Path, undisturbed: Path, batch: int
) -> None:
    run = killed(cwd / "run", batch)
    run_door(train.main, f"resume={run}")
    assert results(run) == results(undisturbed)
    assert points(run) == points(undisturbed)
    shown = pictures_and_texts(run)
    assert shown == pictures_and_texts(undisturbed)
    assert [tag for tag, _, _ in shown].count("validation/confident_mistakes/text_summary") == 2


def test_auto_goes_on_with_the_newest_unfinished_run_of_the_same_settings(
    cwd: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("outputs/train/2026-01-01")
    older, newest, other = (folder / name for name in ("older", "newest", "other"))
    killed(older, 3)
    killed(newest, 5)
    killed(other, 5, "seed=1")
    run_door(train.main, *SMALL, "resume=auto")
    assert results(newest) == results(undisturbed)
    assert not (older / "metrics.json").exists()
    with lock(older):
        run_door(train.main, *SMALL, "resume=auto")
    assert "no unfinished run with these settings, so a new one" in capsys.readouterr().out
    (fresh,) = set(Path("outputs/train").glob("*/*")) - {older, newest, other}
    assert (fresh / "metrics.json").exists()
    assert not (older / "metrics.json").exists()
    assert not (other / "metrics.json").exists()


def test_the_same_command_again_and_again_is_enough(
    cwd: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for batch in (3, 6):
        killed(Path("here"), batch, "resume=auto")
    for _ in range(2):
        run_door(train.main, *SMALL, "hydra.run.dir=here", "resume=auto")
        assert results(Path("here")) == results(undisturbed)
    assert "here is finished" in capsys.readouterr().out


def test_a_run_that_died_before_it_saved_anything_begins_anew(cwd: Path, undisturbed: Path) -> None:
    run = killed(cwd / "run", 1)
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    (run / "environment.json").unlink()
    run_door(train.main, f"resume={run}")
    assert results(run) == results(undisturbed)


def test_as_many_checkpoints_stay_as_are_asked_for(cwd: Path) -> None:
    run_door(train.main, *SMALL, "checkpoint.keep=5", "trainer.epochs=1", "hydra.run.dir=run")
    updates = {
        folder.name: json.loads((folder / "metrics.json").read_text())["update"]
        for folder in Path("run/checkpoints").iterdir()
    }
    # Every two updates, then before and after validation.
    last = {"last": 6, "last.1": 6, "last.2": 6, "last.3": 4, "last.4": 2}
    assert updates == {"best": 6} | last


def test_a_cpu_needs_no_setting_to_be_deterministic(cwd: Path, undisturbed: Path) -> None:
    run_door(train.main, *SMALL, "runtime.deterministic=true", "hydra.run.dir=run")
    assert results(Path("run")) == results(undisturbed)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(stopped: Path, undisturbed: Path) -> None:
    weights = stopped / "checkpoints/last/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    run_door(train.main, f"resume={stopped}")
    log = (stopped / "train.log").read_text()
    assert f"{weights} differs from what manifest.json says of it" in log
    assert f"going on with {stopped} after update 6" in log
    assert results(stopped) == results(undisturbed)


def test_more_epochs_extend_a_finished_run(
    cwd: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(undisturbed, "run")
    run_door(train.main, "resume=run", "trainer.epochs=3")
    assert (
        "trainer.epochs goes from 2 to 3: from here on the learning rate is that of the longer"
        in (capsys.readouterr().out)
    )
    rows = Path("run/history.csv").read_text().splitlines()
    assert rows[:3] == (undisturbed / "history.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "1", "2", "3"]
    tested = [step for tag, step, *_ in points(Path("run")) if tag == "test/accuracy"]
    assert tested == [json.loads(Path("run/metrics.json").read_text())["update"]]
    before = snapshot(Path("run/checkpoints"))
    run_door(train.main, "resume=run")
    assert "run is finished" in capsys.readouterr().out
    assert snapshot(Path("run/checkpoints")) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1", r"seed is 1, but .*run was started with 0 .* expected 0; leave it out"),
        ("optimizer.learning_rate=1", r"optimizer\.learning_rate is 1\.0, but .* with 0\.003"),
        ("data=imdb", r"data\.source is imdb, but .* with sample"),
        ("model.pooling=[max]", r"model\.pooling is max, but .* with final"),
        ("runtime.threads=2", r"runtime\.threads is 2, but .* with 1"),
        ("trainer.epochs=1", r"trainer\.epochs is 1, but .* with 2 .* expected 2 or more"),
        ("trainer.epoch=3", r"unknown setting trainer\.epoch, expected perhaps trainer\.epochs"),
        ("-m", r"resume goes on with one run, expected no -m"),
        ("hydra.run.dir=x", r"hydra\.run\.dir is x, expected nothing with resume="),
    ],
)
def test_what_would_change_the_result_is_refused_by_name(
    cwd: Path,
    stopped_once: Path,
    capsys: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    line = refused(f"resume={stopped_once}", override, capsys=capsys, unchanged=stopped_once)
    assert re.search(message, line)
    assert list(cwd.iterdir()) == []


def test_what_cannot_be_resumed_is_refused(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "resume=nowhere is no run" in refused("resume=nowhere", capsys=capsys)
    for place in (stopped / "checkpoints").glob("last*"):
        (place / "training_state.json").unlink()
    line = refused(f"resume={stopped}", capsys=capsys)
    assert "training_state.json" in line
    assert f"delete {stopped / 'checkpoints'} to start anew" in line


def test_a_new_run_does_not_start_in_the_directory_of_another(
    cwd: Path, stopped_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = (*SMALL, f"hydra.run.dir={stopped_once}")
    line = refused(*again, capsys=capsys, unchanged=stopped_once)
    assert f"holds a run already; go on with it by resume={stopped_once}" in line


def test_a_sweep_does_not_write_over_another(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_door(train.main, *SMALL, "trainer.epochs=1", "hydra.run.dir=sweep/0")
    before = snapshot(Path("sweep"))
    line = refused("-m", "seed=0,1", *SMALL, "hydra.sweep.dir=sweep", capsys=capsys)
    assert "hydra.sweep.dir=sweep holds the runs of a sweep already" in line
    assert snapshot(Path("sweep")) == before


def test_two_processes_do_not_train_the_same_run(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock(stopped):
        line = refused(f"resume={stopped}", capsys=capsys)
    assert f"{stopped} is in use by another process" in line
    empty = Path("empty")
    empty.mkdir()
    with lock(empty):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            run_door(train.main, *SMALL, "hydra.run.dir=empty")
        assert "in use by another process" in capsys.readouterr().err
        # What the other process is about to need has not been cleared away.
        assert (empty / ".hydra").exists()


def test_reviews_may_move_but_not_change(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"a {'fine' if i % 2 else 'dull'} film, number {i}", i % 2) for i in range(120)]
    text = "text,label\n" + "\n".join(f'"{text}",{label}' for text, label in rows)
    Path("reviews.csv").write_text(text)
    own = ("data=files", "data.train=reviews.csv", "tokenizer.min_frequency=1")
    run_door(train.main, *SMALL, *own, "trainer.batch_size=8", "hydra.run.dir=whole")
    killed(Path("moved"), 9, *own, "trainer.batch_size=8")
    shutil.copytree("moved", "changed")

    Path("elsewhere").mkdir()
    Path("reviews.csv").rename("elsewhere/reviews.csv")
    assert "reviews.csv" in refused("resume=moved", capsys=capsys)
    run_door(train.main, "resume=moved", "data.train=elsewhere/reviews.csv")
    assert results(Path("moved")) == results(Path("whole"))

    Path("elsewhere/reviews.csv").write_text(text.replace("number 7", "number seven"))
    line = refused("resume=changed", "data.train=elsewhere/reviews.csv", capsys=capsys)
    assert "reviews are others than those that the run" in line


def test_what_a_run_starts_from_is_needed_to_go_on_and_may_not_change(
    cwd: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(undisturbed, "source")
    rows = [f"a {('dull', 'fine')[i % 2]} film number {i},{i % 2}" for i in range(150)]
    Path("own.csv").write_text("\n".join(["text,label", *rows]))
    started = ("init_from=source", "data=files", "data.train=own.csv", "trainer.batch_size=8")
    run_door(train.main, *SMALL, *started, "hydra.run.dir=whole")
    killed(Path("parts"), 9, *started)
    shutil.copytree("parts", "changed")
    Path("source").rename("elsewhere")
    assert "source is no checkpoint" in refused("resume=parts", capsys=capsys)
    Path("elsewhere").rename("source")
    run_door(train.main, "resume=parts")
    assert results(Path("parts")) == results(Path("whole"))

    shutil.rmtree("source")
    shutil.copytree("whole", "source")
    line = refused("resume=changed", capsys=capsys)
    assert "the n-grams of init_from are others than those that the run" in line


def test_where_nothing_can_be_written_the_line_says_so(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = snapshot(stopped / "checkpoints")
    # A file where the folder of the next checkpoint has to be.
    shutil.rmtree(stopped / "checkpoints/last.partial", ignore_errors=True)
    (stopped / "checkpoints/last.partial").write_text("")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_door(train.main, f"resume={stopped}")
    assert stop.value.code == 2
    assert "cannot write the checkpoint" in capsys.readouterr().err
    (stopped / "checkpoints/last.partial").unlink()
    assert snapshot(stopped / "checkpoints") == kept


@pytest.mark.slow
def test_sigterm_saves_and_what_follows_is_the_same(cwd: Path) -> None:
    long = [*SMALL, "trainer.max_train_batches=60", "trainer.epochs=1", "model.hidden_size=16"]
    run = cwd / "run"
    door = (sys.executable, "-m", "sentiment.train")
    command = (*door, *long, f"hydra.run.dir={run}")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (run / "checkpoints/last").exists():
            assert process.poll() is None
            time.sleep(0.02)
        sent = time.monotonic()
        process.terminate()
        _, printed = process.communicate(timeout=60)
        assert time.monotonic() - sent < 10
    assert process.returncode == 143
    assert printed == f"SIGTERM: saved; resume={run} goes on from here\n"
    state = json.loads((run / "checkpoints/last/training_state.json").read_text())
    assert state["update"] == state["batch"] < 60
    subprocess.run((*door, f"resume={run}"), check=True)
    subprocess.run((*door, *long, "hydra.run.dir=whole"), check=True)
    assert results(run) == results(cwd / "whole")
    assert points(run) == points(cwd / "whole")
