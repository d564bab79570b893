"""A checkpoint is a folder that is complete in itself and cannot execute code.

`model.safetensors`, `tokenizer.json`, `config.yaml`, `metrics.json`, and `manifest.json`, which
lists every other file with its size and SHA-256. It is written beside its place, synced, and
renamed: at any moment there is a whole checkpoint or none under its name.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from omegaconf import OmegaConf
from tokenizers import Tokenizer
from torch import Tensor, nn

from sentiment.config import LABEL_NAMES, TrainConfig
from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.text.tokenizer import parse_tokenizer, vocabulary_size

MANIFEST = "manifest.json"
FILES = ("model.safetensors", "tokenizer.json", "config.yaml", "metrics.json")
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds, verified."""

    folder: Path
    config: TrainConfig
    tokenizer: Tokenizer
    weights: dict[str, Tensor]
    metrics: dict[str, float]

    @property
    def label_names(self) -> tuple[str, str]:
        """Names of the labels 0 and 1, as the training data has them."""
        data = self.config.data
        return data.negative or LABEL_NAMES[0], data.positive or LABEL_NAMES[1]

    def build_model(self) -> Classifier:
        """The trained classifier, on the CPU; it shares its memory with `weights`.

        Raises:
            UserError: weights that do not fit the configuration, or are no finite numbers.
        """
        dimension = self.config.embeddings.dimension
        if dimension is None:
            raise UserError(f"{self.folder / 'config.yaml'} has no embeddings.dimension")
        # Without memory or initial values until the weights are known to fit.
        with torch.device("meta"):
            embedding = nn.Embedding(vocabulary_size(self.tokenizer), dimension)
            model = Classifier(embedding, self.config.model)
        expected = {name: (tuple(t.shape), t.dtype) for name, t in model.state_dict().items()}
        found = {name: (tuple(t.shape), t.dtype) for name, t in self.weights.items()}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise UserError(
                    f"{self.folder / 'model.safetensors'}: {name} is {found.get(name)}, "
                    f"but {self.folder / 'config.yaml'} asks for {expected.get(name)}"
                )
        for name, tensor in self.weights.items():
            if not tensor.isfinite().all():
                raise UserError(
                    f"{self.folder / 'model.safetensors'}: {name} holds NaN or infinity; "
                    "use another checkpoint"
                )
        model.load_state_dict(self.weights, assign=True)
        return model


def save_checkpoint(
    folder: Path,
    model: Classifier,
    tokenizer: Tokenizer,
    config: TrainConfig,
    metrics: dict[str, float],
) -> None:
    """Write a checkpoint in place of the one that may stand there.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    partial = folder.with_name(folder.name + ".partial")
    previous = folder.with_name(folder.name + ".previous")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
        contents = {
            "model.safetensors": safetensors.torch.save(weights),
            "tokenizer.json": tokenizer.to_str(pretty=True).encode(),
            "config.yaml": OmegaConf.to_yaml(OmegaConf.structured(config)).encode(),
            "metrics.json": _json(metrics),
        }
        files = {name: _describe(content) for name, content in contents.items()}
        contents[MANIFEST] = _json({"format": FORMAT, "files": files})
        for name, content in contents.items():
            _write_synced(partial / name, content)
        _sync_folder(partial)
        # A folder cannot replace a folder in one step: the old one steps aside first.
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            folder.rename(previous)
        partial.rename(folder)
        _sync_folder(folder.parent)
        shutil.rmtree(previous, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {folder}: {error.strerror}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Args:
        path: a checkpoint folder, or a run directory, whose best checkpoint is taken.

    Raises:
        UserError: no checkpoint, one whose files differ from its manifest, or contents that are
            not what they should be.
    """
    folder = find_checkpoint(path)
    contents = _read_verified(folder)
    return Checkpoint(
        folder=folder,
        config=_parse_config(contents["config.yaml"], folder / "config.yaml"),
        tokenizer=_parse_tokenizer(contents["tokenizer.json"], folder / "tokenizer.json"),
        weights=_parse_weights(contents["model.safetensors"], folder / "model.safetensors"),
        metrics=_parse_metrics(contents["metrics.json"], folder / "metrics.json"),
    )


def find_checkpoint(path: Path) -> Path:
    """The checkpoint folder that a path stands for.

    Raises:
        UserError: neither the path nor its `checkpoints/best` is one.
    """
    for folder in (path, path / "checkpoints" / "best"):
        # A crash between two renames leaves the whole checkpoint under its second name.
        for candidate in (folder, folder.with_name(folder.name + ".previous")):
            if (candidate / MANIFEST).is_file():
                return candidate
    found = "it does not exist" if not path.exists() else f"it has no {MANIFEST}"
    raise UserError(
        f"{path} is no checkpoint: {found}; expected a run directory "
        "(outputs/train/DATE/TIME-ID) or a folder such as checkpoints/best in it"
    )


def _read_verified(folder: Path) -> dict[str, bytes]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        found, files = manifest["format"], dict(manifest["files"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged; use another checkpoint") from error
    if found != FORMAT:
        raise UserError(
            f"{path} has the format {found}, expected {FORMAT}: made by another version"
        )
    missing = set(FILES) - set(files)
    if missing:
        raise UserError(f"{path} does not list {sorted(missing)}; use another checkpoint")
    contents = {}
    for name in FILES:
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise UserError(f"{folder / name}: {error.strerror}; use another checkpoint") from error
        if files[name] != _describe(content):
            raise UserError(
                f"{folder / name} differs from what {MANIFEST} says of it: it was changed or cut "
                "off after it was saved; use another checkpoint"
            )
        contents[name] = content
    return contents


def _parse_config(content: bytes, path: Path) -> TrainConfig:
    try:
        loaded = OmegaConf.create(content.decode())
        # ${...} would read the environment, and put a value where a group belongs.
        if OmegaConf.to_container(loaded) != OmegaConf.to_container(loaded, resolve=True):
            raise ValueError("it holds ${...}, expected values")
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), loaded))
    except Exception as error:  # on damaged YAML its libraries raise nearly anything
        first_line = str(error).partition("\n")[0]
        raise UserError(f"{path} is no configuration of this version: {first_line}") from error
    assert isinstance(config, TrainConfig)
    return config


def _parse_tokenizer(content: bytes, path: Path) -> Tokenizer:
    try:
        return parse_tokenizer(content)
    except ValueError as error:
        raise UserError(f"{path} is no tokenizer: {error}") from error


def _parse_metrics(content: bytes, path: Path) -> dict[str, float]:
    try:
        metrics = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} holds no figures: {error}") from error
    if not isinstance(metrics, dict) or not all(type(v) in (int, float) for v in metrics.values()):
        raise UserError(f"{path} holds something other than figures by name")
    return metrics


def _parse_weights(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"{path} holds no weights: {error}") from error


def _describe(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
