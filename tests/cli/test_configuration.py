"""What a user sees who mistypes: one line on standard error, exit code 2, nothing left behind."""

import contextlib
import io
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sentiment import cli, evaluate, train
from tests.conftest import compose_train

PRESETS = [
    f"{group}={path.stem}"
    for group in ("debug", "experiment")
    for path in sorted((cli.CONF / group).glob("*.yaml"))
]


def fail(main: object, *overrides: str, capsys: pytest.CaptureFixture[str], cwd: Path) -> str:
    """Run a door that must refuse, and return its one line."""
    with pytest.raises(SystemExit) as stop:
        run_door(main, *overrides)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert list(cwd.iterdir()) == []
    line, end = captured.err[:-1], captured.err[-1]
    assert end == "\n"
    assert "\n" not in line
    assert line.startswith("error: ")
    return line


def door_in(cwd: Path, main: object, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Run a door in this process, which spares the imports, from another working directory."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run_door(main, *overrides)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return subprocess.CompletedProcess(overrides, code, out.getvalue(), err.getvalue())


def run_door(main: object, *overrides: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["sentiment", *overrides])
        main()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.droput=0.3", r"unknown setting model\.droput, expected perhaps model\.dropout"),
        ("+model.foo=1", r"unknown setting model\.foo"),
        ("epochs=3", r"unknown setting epochs, expected perhaps trainer\.epochs"),
        ("dta=imdb", r"unknown setting dta"),
        ("data=imbd", r"data=imbd: there is no such choice, expected perhaps imdb"),
        ("experiment=bset", r"experiment=bset: there is no such choice"),
        ("model.hidden_size=abc", r"model\.hidden_size: Value 'abc'.*Integer"),
        ("trainer.epochs=2.5", r"trainer\.epochs: Value '2\.5'.*Integer"),
        ("seed=null", r"seed: "),
        ("model.pooling=[fnal]", r"model\.pooling\[0\]: Invalid value 'fnal', expected one of"),
        ("runtime.device=gpu", r"runtime\.device: Invalid value 'gpu'.*cuda"),
        ("model.dropout=1.5", r"model\.dropout is 1\.5, expected a number in \[0, 1\)"),
        ("model.pooling=[max,max]", r"model\.pooling is .*each once"),
        ("model.layers=0", r"model\.layers is 0"),
        ("model.cell=lstmm", r"model\.cell: Invalid value 'lstmm', expected one of"),
        ("model.forget_bias=nan", r"model\.forget_bias is nan, expected a number"),
        ("trainer.epochs=0", r"trainer\.epochs is 0, expected 1 or more"),
        ("trainer.max_train_batches=0", r"trainer\.max_train_batches is 0"),
        ("trainer.max_skipped_steps=-1", r"trainer\.max_skipped_steps is -1, expected 0 or more"),
        ("checkpoint.every_updates=0", r"checkpoint\.every_updates is 0, expected 1 or more, or"),
        ("checkpoint.every_minutes=0", r"checkpoint\.every_minutes is 0\.0, expected above 0"),
        ("checkpoint.keep=0", r"checkpoint\.keep is 0, expected 1 to 1000"),
        ("data.max_tokens_per_batch=0", r"data\.max_tokens_per_batch is 0, expected 1 or more"),
        ("resume=nowhere", r"resume=nowhere is no run, expected the directory of one"),
        ("split.validation_fraction=1", r"split\.validation_fraction is 1\.0, expected .*\(0, 1\)"),
        ("split.kind=blocks", r"split\.kind: Invalid value 'blocks', expected one of"),
        ("optimizer.learning_rate=-1", r"optimizer\.learning_rate is -1\.0, expected above 0"),
        ("optimizer.warmup_fraction=1", r"optimizer\.warmup_fraction is 1\.0"),
        (
            "objective.pos_weight=0",
            r"objective\.pos_weight is 0, expected a number above 0, or auto",
        ),
        ("objective.pos_weight=balanced", r"objective\.pos_weight is balanced, expected a number"),
        ("tokenizer.vocabulary_size=1", r"tokenizer\.vocabulary_size is 1"),
        ("seed=-1", r"seed is -1"),
        ("embeddings=glove", r"embeddings\.path is None, expected a file of vectors"),
        ("embeddings.path=x", r"embeddings\.path is x, expected null \(or embeddings=glove\)"),
        ("model.freeze=[encoder]", r"model\.freeze is \['encoder'\], expected parts .*init_from"),
        ("model.freeze=[output]", r"model\.freeze\[0\]: Invalid value 'output'"),
        ("init_from=nowhere", r"/nowhere is no checkpoint: it does not exist"),
        (
            "embeddings.url=http://x/y",
            r"embeddings\.url is .*, expected null \(or embeddings=glove_6b",
        ),
        ("data=trained", r"data\.source is None, expected a data set"),
        ("data.path=nowhere", r"data\.path=.*/nowhere: not there; expected a folder with"),
        ("a b", r"cannot read 'a b', expected KEY=VALUE"),
        ("data.path=~/imdb", r"""cannot read 'data\.path=~/imdb', .*'KEY="VALUE"' where"""),
        ("seed=0,1", r"Ambiguous value for argument 'seed=0,1'.*-m runs one job for each"),
        ("runtime.threads=1000000", r"runtime\.threads is 1000000, expected 1 to 1024"),
        ("~model", r"model is not set"),
        ("trainer=null", r"Config group override must be a string or a list"),
    ],
)
def test_a_mistake_is_one_line(
    override: str, message: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(message, fail(train.main, override, capsys=capsys, cwd=cwd))


def test_taking_back_a_run_leaves_other_files_alone(
    cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cwd / "notes.txt").write_text("mine")
    (cwd / "runs").mkdir()
    (cwd / "runs" / "mine.txt").write_text("mine")
    for run in (".", "runs", "new/run"):
        with pytest.raises(SystemExit):
            run_door(train.main, "model.dropout=1.5", f"hydra.run.dir={run}")
    assert {str(path.relative_to(cwd)) for path in cwd.rglob("*")} == {
        "notes.txt",
        "runs",
        "runs/mine.txt",
    }


def test_a_cache_folder_that_cannot_be_made_is_named(
    cwd: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("cache") / "file"
    file.touch()
    line = fail(train.main, "data=sample", f"runtime.cache_dir={file}", capsys=capsys, cwd=cwd)
    assert line == f"error: {file}: File exists"


def test_vectors_of_another_width_are_refused_before_anything_is_written(
    cwd: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    vectors = tmp_path_factory.mktemp("glove") / "vectors.txt"
    vectors.write_text("the 1 2 3\nof 1 2\n")
    overrides = ("data=sample", "embeddings=glove", f"embeddings.path={vectors}")
    line = fail(train.main, *overrides, capsys=capsys, cwd=cwd)
    assert f"{vectors}, line 2: 2 numbers after the word, expected 3" in line


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), r"checkpoint is not set, expected checkpoint=VALUE"),
        (("checkpoint=nowhere",), r"nowhere is no checkpoint: it does not exist; expected a run"),
        (("checkpoint=x", "model.layers=1"), r"unknown setting model"),
    ],
)
def test_evaluation_refuses_in_one_line(
    overrides: tuple[str, ...], message: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(message, fail(evaluate.main, *overrides, capsys=capsys, cwd=cwd))


def test_what_never_started_leaves_other_folders_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mount = tmp_path_factory.mktemp("mount")
    options = ("data=imdb", "data.path=nowhere", f"hydra.run.dir={mount}/run")
    assert "nowhere" in fail(train.main, *options, capsys=capsys, cwd=cwd)
    assert list(mount.iterdir()) == []


def test_a_sweep_by_several_processes_is_refused(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = fail(train.main, "-m", "seed=0,1", capsys=capsys, cwd=cwd)
    assert "several processes train one model, expected no -m" in line


def test_the_traceback_is_there_for_those_who_ask(
    cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match=r"model\.dropout"):
        run_door(train.main, "model.dropout=1.5")
    with pytest.raises(Exception, match="droput"):
        run_door(train.main, "model.droput=1.5")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("embeddings.url=ftp://x/y", r"embeddings\.url is ftp://x/y, expected http://"),
        ("embeddings.sha256=null", r"embeddings\.sha256 is None, expected 64 hexadecimal digits"),
        ("embeddings.dimension=0", r"embeddings\.dimension is 0, expected 1 to 100000"),
    ],
)
def test_a_wrong_address_of_vectors_is_one_line(
    override: str, message: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fail(train.main, "embeddings=glove_6b_100d", override, capsys=capsys, cwd=cwd)
    assert re.search(message, line)


def test_a_random_split_and_groups_contradict_each_other(
    cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("data=files", "data.train=x.csv", "data.group_column=film", "split.kind=random")
    line = fail(train.main, *command, capsys=capsys, cwd=cwd)
    assert line == "error: split.kind is random, expected grouped with data.group_column=film"


def test_a_forget_bias_without_a_forget_gate_is_refused(
    cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fail(train.main, "model=gru", "model.forget_bias=0", capsys=capsys, cwd=cwd)
    assert "model.forget_bias is 0.0, expected 1.0 with model.cell=gru, which has no" in line


@pytest.mark.parametrize("dimension", [50, 100, 200, 300])
def test_each_choice_of_glove_is_the_same_archive_in_another_width(dimension: int) -> None:
    chosen = compose_train(f"embeddings=glove_6b_{dimension}d").embeddings
    assert chosen == replace(
        compose_train("embeddings=glove_6b_100d").embeddings, dimension=dimension
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes(preset: str) -> None:
    compose_train(preset)


def test_every_setting_is_explained_where_it_is_set() -> None:
    for path in sorted(cli.CONF.rglob("*.yaml")):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.match(r"\s*[a-z_]+: ?[^|]*$", line) and not line.strip().endswith(":"):
                before = lines[number - 1].strip() if number else ""
                explained = "#" in line or before.startswith(("#", "format", "name", "defaults"))
                assert explained or path.parent.name in ("experiment", "debug"), f"{path}: {line}"
