from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tensorboard.plugins.projector import projector_plugin
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from sentiment.report import projector
from sentiment.report.projector import polar_words, write_projector

WORDS = ("<pad>", "<unk>", "dull", "the", "fine", "a\tb", "\n")
LOGITS_V = torch.tensor([9.0, 9.0, -3.0, 0.1, 2.0, -0.5, 0.4])


def tokenizer() -> Tokenizer:
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.add_special_tokens(["<pad>"])
    return made


def written(directory: Path, width: int = 3) -> torch.Tensor:
    torch.manual_seed(0)
    vectors_VE = torch.randn(len(WORDS), width) * 10.0 ** torch.arange(-3, width - 3)
    train_ids = torch.tensor([2, 3, 3, 3, 4, 1], dtype=torch.int32)
    write_projector(directory, tokenizer(), vectors_VE, LOGITS_V, train_ids)
    return vectors_VE


def test_words_are_ordered_by_what_they_say_and_no_special_token_is_among_them() -> None:
    assert polar_words(tokenizer(), LOGITS_V).tolist() == [2, 4, 5, 6, 3]
    assert polar_words(tokenizer(), LOGITS_V, most=2).tolist() == [2, 4]


def test_the_plugin_reads_the_vectors_and_what_is_known_of_each_word(tmp_path: Path) -> None:
    vectors_VE = written(tmp_path)
    config = text_format.Parse((tmp_path / projector.CONFIG).read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    path = projector_plugin._rel_to_abs_asset_path(
        embedding.tensor_path, str(tmp_path / projector.CONFIG)
    )
    tensor = projector_plugin._read_tensor_tsv_file(path)
    assert list(embedding.tensor_shape) == list(tensor.shape) == [5, 3]
    np.testing.assert_allclose(tensor, vectors_VE[[2, 4, 5, 6, 3]], rtol=1e-5)
    table = (tmp_path / embedding.metadata_path).read_text().splitlines()
    assert table == [
        "word\tlogit\tcount",
        "dull\t-3.0000\t1",
        "fine\t2.0000\t1",
        "'a\\tb'\t-0.5000\t0",
        "'\\n'\t0.4000\t0",
        "the\t0.1000\t3",
    ]


def test_a_second_time_takes_the_place_of_the_first(tmp_path: Path) -> None:
    written(tmp_path)
    once = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    written(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == once
    assert len(once) == 3


def test_who_dies_while_writing_leaves_nothing_for_the_projector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    write = projector.write_text

    def die_at_the_metadata(path: Path, text: str) -> None:
        if path.name == "metadata.tsv":
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(projector, "write_text", die_at_the_metadata)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, width=4)
    assert not (tmp_path / projector.CONFIG).exists()
