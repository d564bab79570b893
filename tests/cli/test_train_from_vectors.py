"""Training from downloaded vectors as a user runs it, and what is left when that fails."""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from sentiment import evaluate, train
from sentiment.data.reviews import SAMPLE
from tests.cli.test_configuration import fail, run_door
from tests.web import serve

WORDS = ("the", "film", "was", "it", "and")


def glove_zip() -> bytes:
    """An archive laid out as the official one, of few words."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for width in (50, 100, 200, 300):
            values = np.random.default_rng(width).normal(size=(len(WORDS), width)).round(4)
            lines = (f"{w} {' '.join(map(str, v))}\n" for w, v in zip(WORDS, values, strict=True))
            archive.writestr(f"glove.6B.{width}d.txt", "".join(lines))
    return buffer.getvalue()


def overrides(url: str, content: bytes, folder: Path) -> tuple[str, ...]:
    """Train a tiny model on a few reviews of the sample, from the vectors at an address."""
    for split in ("train", "test"):
        reviews = pd.read_parquet(SAMPLE / f"{split}.parquet").groupby("label").head(60)
        reviews.to_parquet(folder / f"{split}.parquet")
    return (
        *("embeddings=glove_6b_50d", f"embeddings.url={url}"),
        f"embeddings.sha256='{hashlib.sha256(content).hexdigest()}'",
        *(f"data.path={folder}", f"runtime.cache_dir={folder / 'cache'}", "runtime.threads=1"),
        "runtime.kernel=plain",  # no library has to be built into each new cache
        *("model.layers=1", "model.hidden_size=4", "trainer.epochs=1"),
    )


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_downloaded_vectors_are_in_the_model_and_no_longer_needed(
    cwd: Path, tmp_path: Path
) -> None:
    content = glove_zip()
    with serve(content) as web:
        web.cuts = [len(content) // 2]
        vectors = overrides(web.url, content, tmp_path)
        run_door(train.main, *vectors, "model.freeze=[embedding]")
    (run,) = cwd.glob("outputs/train/*/*")
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 < metrics["embeddings/vocabulary_coverage"] < 0.1
    assert 0 < metrics["embeddings/token_coverage"] < 1
    of_tokens = 100 * metrics["embeddings/token_coverage"]
    assert f"{of_tokens:.2f} % of the tokens" in (run / "train.log").read_text()

    best = run / "checkpoints" / "best"
    vocabulary = Tokenizer.from_file(str(best / "tokenizer.json")).get_vocab()
    weight_VE = load_file(best / "model.safetensors")["embedding.weight"]
    values = np.random.default_rng(50).normal(size=(len(WORDS), 50)).round(4)
    np.testing.assert_allclose(weight_VE[[vocabulary[w] for w in WORDS]], values, rtol=1e-6)

    run_door(
        evaluate.main,
        f"checkpoint={run}",
        f"runtime.cache_dir={tmp_path / 'elsewhere'}",
        "runtime.kernel=plain",
    )
    (evaluated,) = cwd.glob("outputs/evaluate/*/*")
    again = json.loads((evaluated / "metrics.json").read_text())
    assert again == {tag: value for tag, value in metrics.items() if tag.startswith("test/")}


@pytest.mark.parametrize(
    ("statuses", "sha256", "message"),
    [
        (
            [404],
            None,
            r"error: cannot download http://.*: the server answers 404 .*embeddings\.path",
        ),
        ([], "0" * 64, r"error: http://.* has the SHA-256 .*, expected 0{64}.*deleted"),
    ],
)
def test_a_download_that_fails_is_one_line_and_leaves_nothing(
    cwd: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    statuses: list[int],
    sha256: str | None,
    message: str,
) -> None:
    content = glove_zip()
    with serve(content) as web:
        web.statuses = statuses
        vectors = overrides(web.url, content, tmp_path)
        wrong = () if sha256 is None else (f"embeddings.sha256='{sha256}'",)
        line = fail(train.main, *vectors, *wrong, capsys=capsys, cwd=cwd)
    assert re.match(message, line)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_file_of_your_own_goes_before_the_download(
    cwd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "glove.6B.zip"
    file.write_bytes(glove_zip())
    vectors = ("data=sample", "embeddings=glove_6b_50d", f"embeddings.path={file}")
    line = fail(train.main, *vectors, "embeddings.dimension=51", capsys=capsys, cwd=cwd)
    assert f"{file} holds glove.6B.50d.txt, glove.6B.100d.txt" in line
