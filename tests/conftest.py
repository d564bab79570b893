import os
import tempfile
from pathlib import Path

# Read by `datasets` and by conf/ when they are first used: nothing a test does may touch a user's
# caches, and no test may wait for the network.
CACHE = tempfile.TemporaryDirectory(prefix="sentiment-tests-", ignore_cleanup_errors=True)
os.environ["HF_HOME"] = str(Path(CACHE.name) / "huggingface")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # the compiled kernel is built for one and serves all
    kernel = Path(os.environ["SENTIMENT_CACHE"], "kernel")
    kernel.mkdir(parents=True, exist_ok=True)
    Path(CACHE.name, "sentiment").mkdir()
    Path(CACHE.name, "sentiment", "kernel").symlink_to(kernel)
# A test process per core, each with a thread: two that share cores wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["SENTIMENT_CACHE"] = str(Path(CACHE.name) / "sentiment")

import pytest
import torch

from sentiment import cli
from sentiment.config import TrainConfig
from sentiment.model.classifier import Classifier
from sentiment.text.tokenizer import train_tokenizer, vocabulary_size
from sentiment.training.checkpoint import save_checkpoint

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "50"))
"""Of each fuzz test; 2,000 take minutes."""


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a test by the length of its bytes: an archive's bytes hold the time it was made."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None


def compose_train(*overrides: str) -> TrainConfig:
    """The configuration that these command-line overrides stand for."""
    return cli.compose_train(list(overrides))


def write_checkpoint(folder: Path, texts: list[str], *overrides: str) -> Path:
    """A checkpoint of random weights whose vocabulary is that of the texts."""
    config = compose_train(
        *("data=sample", "model.hidden_size=8", "embeddings.dimension=4"),
        *("runtime.precision=float32", "tokenizer.max_length=20", "tokenizer.min_frequency=1"),
        *overrides,
    )
    tokenizer = train_tokenizer([texts], config.tokenizer)
    torch.manual_seed(0)
    model = Classifier(torch.nn.Embedding(vocabulary_size(tokenizer), 4), config.model)
    save_checkpoint(folder, model, tokenizer, config, {})
    return folder


@pytest.fixture(scope="session")
def imdb_dir() -> Path:
    """The real reviews, where `IMDB_DIR` says they are."""
    if "IMDB_DIR" not in os.environ:
        pytest.skip("IMDB_DIR is not set: no real reviews at hand")
    return Path(os.environ["IMDB_DIR"])


@pytest.fixture(scope="session")
def glove_file() -> Path:
    """Real GloVe vectors, where `GLOVE_DIR` says they are."""
    if "GLOVE_DIR" not in os.environ:
        pytest.skip("GLOVE_DIR is not set: no real word vectors at hand")
    return Path(os.environ["GLOVE_DIR"]) / "glove.6B.50d.imdb.txt"
