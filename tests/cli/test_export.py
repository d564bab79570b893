"""`sentiment.export` as a user runs it."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard
from tokenizers import Tokenizer

from sentiment import SentimentPredictor, export, train
from sentiment.config import Device, Precision
from sentiment.data.encoded import encode_texts
from sentiment.data.reviews import SAMPLE
from sentiment.model import onnx
from sentiment.report.run import recorded_hashes
from sentiment.training import exporting
from sentiment.training.exporting import largest_difference
from tests.cli.test_configuration import run_door
from tests.conftest import write_checkpoint

TEXTS = pq.read_table(SAMPLE / "test.parquet")["text"].to_pylist()[:40]
ODD = ["", " ", "\u200b", "no", "\u540d\u4f5c <br /> &amp; \u201cx\u201d", "a fine film " * 50]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "checkpoints" / "best", TEXTS)


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    folder = checkpoint.parent.parent / "exported"
    run_door(export.main, f"--checkpoint={checkpoint}", f"--output={folder}")
    return folder


def on_cpu(checkpoint: Path) -> SentimentPredictor:
    return SentimentPredictor.load(checkpoint, Device.cpu, Precision.float32, threads=1)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command says when it fails."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        run_door(export.main, *map(str, arguments))
    line = capsys.readouterr().err
    assert (stopped.value.code, line.count("\n")) == (2, 1)
    return line


def test_the_folder_gives_the_probabilities_of_its_checkpoint(
    checkpoint: Path, exported: Path
) -> None:
    names = {"model.onnx", "tokenizer.json", "README.md", "predict.py"}
    assert {path.name for path in exported.iterdir()} == names
    assert not exported.with_name("exported.partial").exists()
    predictor = on_cpu(checkpoint)
    found = {round(p, 3) for _, p in predictor(TEXTS) if p is not None}
    assert len(found) > 5
    assert largest_difference(predictor, exported, TEXTS + ODD) <= 2e-6
    card = ModelCard.load(exported / "README.md")
    assert "python predict.py < lines.txt" in card.text
    assert "SentimentPredictor" not in card.text


def test_the_tokenizer_alone_gives_our_ids(checkpoint: Path, exported: Path) -> None:
    loaded = on_cpu(checkpoint).checkpoint
    limits = (loaded.config.tokenizer.max_length, loaded.config.tokenizer.truncation_side)
    texts = [text for text in TEXTS + ODD if loaded.tokenizer.encode(text).ids]
    expected = encode_texts(loaded.tokenizer, texts).truncate(*limits)
    alone = Tokenizer.from_file(str(exported / "tokenizer.json")).encode_batch(texts)
    for start, length, encoding in zip(
        expected.starts_N.tolist(), expected.lengths_N.tolist(), alone, strict=True
    ):
        assert encoding.ids[:length] == expected.ids[start : start + length].tolist()
        assert encoding.ids[length:] == [0] * (20 - length)
        assert encoding.attention_mask == [1] * length + [0] * (20 - length)


def test_the_example_needs_neither_torch_nor_this_project(exported: Path) -> None:
    code = (
        "import runpy, sys; sys.modules.update(torch=None, sentiment=None, onnx=None); "
        f"runpy.run_path({str(exported / 'predict.py')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"a\nb c\n", capture_output=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["text"] for record in records] == ["a", "b c"]
    for record in records:
        assert record["label"] == ("positive" if record["probability"] > 0.5 else "negative")


def test_a_wrong_export_is_not_left_behind(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(onnx.LAYERS, "LSTM", ("LSTM", (0, 1, 2, 3), {}))
    line = refused(capsys, "--checkpoint", checkpoint, "--output", tmp_path / "deep" / "wrong")
    assert "from its own, expected 0.0001 at most; it was not kept" in line
    assert list((tmp_path / "deep").iterdir()) == []


def test_an_export_of_nan_is_not_left_behind(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_of_two = subprocess.CompletedProcess([], 0, b'{"probability": 0.5}\n{"probability": NaN}\n')
    monkeypatch.setattr(exporting.subprocess, "run", lambda *_, **__: one_of_two)
    monkeypatch.setattr(exporting, "_probes", lambda _: TEXTS[:2])
    line = refused(capsys, "--checkpoint", checkpoint, "--output", tmp_path / "wrong")
    assert "gives probabilities that are nan from its own" in line
    assert list(tmp_path.iterdir()) == []


def test_the_probes_are_lines_whatever_stands_in_a_token(checkpoint: Path) -> None:
    loaded = on_cpu(checkpoint).checkpoint
    loaded.tokenizer.add_tokens(["\n", "a\r\nb"])
    assert not [probe for probe in exporting._probes(loaded) if len(probe.splitlines()) > 1]


def test_a_checkpoint_alone_has_no_run(tmp_path: Path) -> None:
    assert recorded_hashes(Path("/model")) == {}
    (tmp_path / "environment.json").write_text("of something else")
    assert recorded_hashes(tmp_path / "models" / "best") == {}


def test_what_cannot_be_done_is_one_line(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "mine").write_text("")
    arguments = ("--checkpoint", checkpoint, "--output", tmp_path)
    assert "is there already, expected the name of a new folder" in refused(capsys, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert "--format: invalid choice: 'tf'" in refused(capsys, *arguments, "--format", "tf")
    assert "required: --output" in refused(capsys, "--checkpoint", checkpoint)
    nowhere = refused(capsys, "--checkpoint", "nowhere", "--output", tmp_path / "new")
    assert "nowhere is no checkpoint: it does not exist" in nowhere
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert "--format onnx needs onnx and onnxruntime: pip install" in refused(capsys, *arguments)


@pytest.mark.slow
def test_torch_export_is_a_folder_too(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    run_door(export.main, f"--checkpoint={checkpoint}", f"--output={folder}", "--format", "torch")
    assert largest_difference(on_cpu(checkpoint), folder, TEXTS[:5] + ODD) <= 2e-6
    assert str(Path(export.__file__).parent).encode() not in (folder / "model.pt2").read_bytes()


@pytest.mark.slow
def test_the_example_runs_where_torch_is_not_installed(exported: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "onnxruntime", "tokenizers"]
    if subprocess.run(install, check=False).returncode != 0:
        pytest.skip("no package index at hand")
    assert subprocess.run([python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode
    command, text = [python, exported / "predict.py"], "a fine film\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    here = [sys.executable, exported / "predict.py"]
    again = subprocess.run(here, input=text, capture_output=True, text=True, check=True)
    assert done.stdout == again.stdout


@pytest.mark.slow
def test_parity_over_a_thousand_real_reviews(imdb_dir: Path, tmp_path: Path) -> None:
    few, run = tmp_path / "few.parquet", tmp_path / "run"
    pq.write_table(pq.read_table(imdb_dir / "train.parquet").take(list(range(0, 25_000, 10))), few)
    small = ("trainer.epochs=1", "model.hidden_size=16", f"hydra.run.dir={run}")
    run_door(train.main, "data=files", f"data.train={few}", *small)
    texts = pq.read_table(imdb_dir / "test.parquet")["text"].to_pylist()
    lines = [" ".join(text.split()) for text in texts[::25]]
    for name, some in (("onnx", lines), ("torch", lines[::100])):
        folder = tmp_path / name
        run_door(export.main, f"--checkpoint={run}", f"--output={folder}", "--format", name)
        assert largest_difference(on_cpu(run), folder, some) <= 1e-4
