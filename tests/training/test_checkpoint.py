import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.text.tokenizer import train_tokenizer
from sentiment.training.checkpoint import load_checkpoint, save_checkpoint
from tests.conftest import compose_train

CONFIG = compose_train(
    "data=sample",
    "model.hidden_size=4",
    "embeddings.dimension=3",
    "model.pooling=[final,attention]",
)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_tokenizer([["a fine film"]], compose_train("tokenizer.min_frequency=1").tokenizer)


@pytest.fixture
def model(tokenizer: Tokenizer) -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Embedding(tokenizer.get_vocab_size(), 3), CONFIG.model).eval()


@pytest.fixture
def folder(tmp_path: Path, model: Classifier, tokenizer: Tokenizer) -> Path:
    folder = tmp_path / "run" / "checkpoints" / "best"
    save_checkpoint(folder, model, tokenizer, CONFIG, {"validation/accuracy": 0.75})
    return folder


def replace_config(folder: Path, content: bytes) -> None:
    """Put another configuration into a checkpoint, in agreement with its manifest."""
    (folder / "config.yaml").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["config.yaml"] = {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_everything_comes_back(folder: Path, model: Classifier, tokenizer: Tokenizer) -> None:
    for path in (folder, folder.parent.parent):
        checkpoint = load_checkpoint(path)
        assert checkpoint.config == CONFIG
        assert checkpoint.tokenizer.to_str() == tokenizer.to_str()
        assert checkpoint.metrics == {"validation/accuracy": 0.75}
        loaded, ids_TB = checkpoint.build_model().eval(), torch.tensor([[2], [3], [4]])
        assert torch.equal(loaded(ids_TB, torch.tensor([3])), model(ids_TB, torch.tensor([3])))


def test_holds_the_agreed_files_and_no_pickle(folder: Path) -> None:
    names = {"model.safetensors", "tokenizer.json", "config.yaml", "metrics.json", "manifest.json"}
    assert {file.name for file in folder.iterdir()} == names | {"README.md"}
    assert list(folder.parent.iterdir()) == [folder]


def test_the_card_may_be_edited_or_missing_as_in_checkpoints_of_before(folder: Path) -> None:
    assert "README.md" in json.loads((folder / "manifest.json").read_text())["files"]
    (folder / "README.md").write_text("My best model.")
    assert load_checkpoint(folder).metrics == {"validation/accuracy": 0.75}
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["README.md"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "README.md").unlink()
    assert load_checkpoint(folder).metrics == {"validation/accuracy": 0.75}


def test_a_new_checkpoint_replaces_the_old_one(
    folder: Path, model: Classifier, tokenizer: Tokenizer
) -> None:
    save_checkpoint(folder, model, tokenizer, CONFIG, {"validation/accuracy": 0.8})
    assert load_checkpoint(folder).metrics == {"validation/accuracy": 0.8}
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.yaml", "metrics.json"]
)
def test_a_changed_cut_off_or_missing_file_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (bytes(flipped), content[:-1], b""):
        (folder / name).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{name} differs from what manifest\.json says"):
            load_checkpoint(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: No such file"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format": 1, "files": {}}',
        b'{"format": 1, "files": 1}',
        b'{"format": 2, "files": {}}',
    ],
)
def test_a_damaged_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        load_checkpoint(folder)


def test_weights_of_another_shape_are_refused(
    folder: Path, model: Classifier, tokenizer: Tokenizer
) -> None:
    other = compose_train("data=sample", "model.hidden_size=5", "embeddings.dimension=3")
    save_checkpoint(folder, model, tokenizer, other, {})
    with pytest.raises(UserError, match=r"model\.safetensors: .* asks for"):
        load_checkpoint(folder).build_model()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("dropout: ", "droput: "), r"config\.yaml is no configuration of this version: Key"),
        (("dropout: 0", "dropout: 7"), r"config\.yaml is no configuration .*dropout is 7"),
        (("seed: 0", "seed: ["), r"config\.yaml is no configuration"),
        (("dimension: 3", "dimension: null"), r"embeddings\.dimension"),
        (("path: null", "path: ${oc.env:HOME}"), r"config\.yaml .*it holds \$\{\.\.\.\}"),
    ],
)
def test_a_configuration_of_another_version_is_named(
    folder: Path, change: tuple[str, str], message: str
) -> None:
    replace_config(folder, (folder / "config.yaml").read_text().replace(*change).encode())
    with pytest.raises(UserError, match=message):
        load_checkpoint(folder).build_model()


def test_a_checkpoint_of_before_there_were_other_cells_is_a_bidirectional_lstm(
    folder: Path,
) -> None:
    path = folder / "config.yaml"
    added = ("  cell:", "  bidirectional:", "  forget_bias:")
    lines = path.read_text().splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.startswith(added)).encode()
    assert len(kept) < path.stat().st_size
    replace_config(folder, kept)
    assert load_checkpoint(folder).config == CONFIG


def test_a_crash_between_two_renames_costs_nothing(folder: Path) -> None:
    folder.rename(folder.with_name("best.1"))
    assert load_checkpoint(folder).metrics == {"validation/accuracy": 0.75}
    assert load_checkpoint(folder.parent.parent).metrics == {"validation/accuracy": 0.75}


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it does not exist"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"it has no manifest\.json"):
        load_checkpoint(tmp_path)


def test_a_failing_write_says_so_and_keeps_the_old_checkpoint(
    folder: Path, model: Classifier, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(UserError, match="No space left on device"):
        save_checkpoint(folder, model, tokenizer, CONFIG, {"validation/accuracy": 0.9})
    assert load_checkpoint(folder).metrics == {"validation/accuracy": 0.75}


def test_the_manifest_lists_size_and_hash(folder: Path) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    for name, entry in files.items():
        content = (folder / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
