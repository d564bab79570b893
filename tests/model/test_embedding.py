from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sentiment.config import EmbeddingsConfig, EmbeddingSource
from sentiment.model.embedding import build_embedding
from sentiment.text.tokenizer import train_tokenizer
from tests.conftest import compose_train

THE = (0.418, 0.24968, -0.41242, 0.1217)  # the first numbers of the first line of glove.6B.50d.txt


def settings(file: Path) -> EmbeddingsConfig:
    return EmbeddingsConfig(EmbeddingSource.glove, str(file), None, std=None)


def test_words_start_from_their_vectors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(f"the {' '.join(map(str, THE))}\nfilm -1 0 1 2\n")
    vocabulary = {"<pad>": 0, "<unk>": 1, "the": 2, "film": 3, "wxyz": 4}
    ids = torch.tensor([2, 2, 3, 4, 1], dtype=torch.int32)
    with caplog.at_level("INFO"):
        embedding, coverage = build_embedding(settings(file), file, vocabulary, ids)
    weight_VE = embedding.weight.detach()
    torch.testing.assert_close(weight_VE[2:4], torch.tensor([THE, (-1, 0, 1, 2)]))
    assert coverage == {
        "embeddings/vocabulary_coverage": pytest.approx(2 / 3),
        "embeddings/token_coverage": pytest.approx(3 / 4),
    }
    assert "vectors.txt has 66.67 % of the words, 75.00 % of the tokens" in caplog.text


def test_real_glove_covers_the_words_of_real_imdb(imdb_dir: Path, glove_file: Path) -> None:
    texts = pq.read_table(imdb_dir / "train.parquet")["text"].to_pylist()[::10]
    tokenizer = train_tokenizer([texts], compose_train("tokenizer.vocabulary_size=30000").tokenizer)
    vocabulary = tokenizer.get_vocab()
    ids = np.concatenate([e.ids for e in tokenizer.encode_batch_fast(texts)]).astype(np.int32)
    embedding, coverage = build_embedding(
        settings(glove_file), glove_file, vocabulary, torch.from_numpy(ids)
    )
    assert coverage["embeddings/token_coverage"] >= 0.99
    the = embedding.weight[vocabulary["the"], :4].tolist()
    assert the == pytest.approx(THE)
