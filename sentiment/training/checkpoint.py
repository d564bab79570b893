"""A checkpoint is a folder that is complete in itself and cannot execute code.

`model.safetensors`, `tokenizer.json`, `config.yaml`, `metrics.json`, a card for people, and
`manifest.json`, which lists every other file with its size and SHA-256. The one to resume from has
two more files (`sentiment/training/state.py`).
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from omegaconf import OmegaConf
from tokenizers import Tokenizer
from torch import Tensor, nn

from sentiment.config import LABEL_NAMES, PretrainConfig, RunConfig, TrainConfig
from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.model.language_model import LanguageModel
from sentiment.model.ngrams import lead_somewhere
from sentiment.text.tokenizer import parse_tokenizer, vocabulary_size
from sentiment.training.folder import (
    MANIFEST,
    Manifest,
    one_line,
    to_json,
    versions,
    write_folder,
)

FILES = ("model.safetensors", "tokenizer.json", "config.yaml", "metrics.json")
MOST_BYTES_OF_TEXT, MOST_BYTES_OF_A_TOKENIZER = 100_000, 500_000_000
MOST_BYTES_OF_A_HEADER = 1_000_000  # of a safetensors file
MOST_EVENTS, MOST_LEVELS = 1000, 10  # of a configuration's YAML, some 200 and 3 in fact


@dataclass(frozen=True)
class _Folder:
    """What any checkpoint folder holds, verified."""

    folder: Path
    tokenizer: Tokenizer
    weights: dict[str, Tensor]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Checkpoint(_Folder):
    """A classifier."""

    config: TrainConfig

    chosen_by = frozenset({"validation/accuracy", "validation/loss"})

    @property
    def label_names(self) -> tuple[str, str]:
        """Names of the labels 0 and 1, as the training data has them."""
        data = self.config.data
        return data.negative or LABEL_NAMES[0], data.positive or LABEL_NAMES[1]

    def build_model(self) -> Classifier:
        """The trained classifier, on the CPU; it shares its memory with `weights`."""
        model = _classifier(self.config, self.tokenizer)
        model.load_state_dict(self.weights, assign=True)
        return model


@dataclass(frozen=True)
class Pretrained(_Folder):
    """A language model, whose embedding and encoder a classifier can start from."""

    config: PretrainConfig

    chosen_by = frozenset({"validation/loss"})

    def build_model(self) -> LanguageModel:
        """The trained language model, on the CPU.

        A deep copy of it would lack what keeps its directions apart.
        """
        embedding = _embedding(self.config, self.tokenizer)
        model = LanguageModel(embedding, self.config.model)
        model.load_state_dict(self.weights)
        return model


Saved = Checkpoint | Pretrained


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    tokenizer: Tokenizer,
    config: RunConfig,
    metrics: dict[str, float],
    more: Iterable[tuple[str, bytes]] = (),
    keep: int = 1,
    data_sha256: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint in place of the one that may stand there.

    Args:
        folder: its place.
        model: the weights.
        tokenizer: what the model reads through.
        config: the run's settings.
        metrics: figures of these weights.
        more: names and contents of further files.
        keep: how many checkpoints stay at this place, the older ones as `NAME.1`, `NAME.2`, ...
        data_sha256: hash of each split, for the card.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    # It imports `datasets`, which those who load a checkpoint can do without.
    from sentiment.report.card import CARD, model_card
    from sentiment.report.language_card import language_card

    weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    if isinstance(config, TrainConfig):
        card = model_card(config, metrics, data_sha256 or {})
    else:
        assert isinstance(config, PretrainConfig)
        card = language_card(config, metrics, data_sha256 or {})
    contents = (
        ("model.safetensors", safetensors.torch.save(weights)),
        ("tokenizer.json", tokenizer.to_str(pretty=True).encode()),
        ("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)).encode()),
        ("metrics.json", to_json(metrics)),
        # Nothing is read from it, so it may be edited.
        (CARD, card.encode()),
    )
    write_folder(folder, itertools.chain(contents, more), keep)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a classifier.

    Args:
        path: a checkpoint folder, or a run directory, whose best checkpoint is taken.

    Raises:
        UserError: no checkpoint, one whose files differ from its manifest, contents that are not
            what they should be, or a language model.
    """
    found = load_any(path)
    if isinstance(found, Pretrained):
        raise UserError(
            f"{path} is a language model, which knows no labels; train a classifier that starts "
            f"from it: python -m sentiment.train init_from={path}"
        )
    return found


def load_any(path: Path) -> Saved:
    """Read and verify a classifier or a language model.

    Raises:
        UserError: as `load_checkpoint`, but for language models.
    """
    return read_checkpoint(Manifest(find_checkpoint(path), FILES))


def find_checkpoint(path: Path) -> Path:
    """The checkpoint folder that a path stands for.

    Raises:
        UserError: neither the path nor its `checkpoints/best` is one.
    """
    for folder in (path, path / "checkpoints" / "best"):
        # A crash between two renames leaves the whole checkpoint under its second name.
        for candidate in itertools.islice(versions(folder), 2):
            if (candidate / MANIFEST).is_file():
                return candidate
    found = "it does not exist" if not path.exists() else f"it has no {MANIFEST}"
    raise UserError(
        f"{path} is no checkpoint: {found}; expected a run directory "
        "(outputs/train/DATE/TIME-ID) or a folder such as checkpoints/best in it"
    )


def read_checkpoint(manifest: Manifest) -> Saved:
    """Read what a folder's manifest lists, and verify it before it is given memory.

    Raises:
        UserError: as `load_any`.
    """
    folder = manifest.folder

    def content(name: str, most_bytes: int = MOST_BYTES_OF_TEXT) -> tuple[bytes, Path]:
        return manifest.read(name, most_bytes), folder / name

    # The weights last: the configuration and the vocabulary say how large they can be.
    config = _parse_config(*content("config.yaml"))
    metrics = _parse_metrics(*content("metrics.json"))
    tokenizer = _parse_tokenizer(*content("tokenizer.json", MOST_BYTES_OF_A_TOKENIZER))
    if config.embeddings.dimension is None:
        raise UserError(f"{folder / 'config.yaml'} has no embeddings.dimension")
    expected = _shapes(config, tokenizer)
    most_bytes = total_bytes(expected) + MOST_BYTES_OF_A_HEADER
    weights = parse_tensors(*content("model.safetensors", most_bytes))
    for name in sorted(expected.keys() | weights.keys()):
        asked, found = describe(expected.get(name)), describe(weights.get(name))
        if asked != found:
            raise UserError(
                f"{folder / 'model.safetensors'}: {one_line(name)} is {found}, "
                f"but {folder / 'config.yaml'} asks for {asked}"
            )
        if not weights[name].isfinite().all():
            raise UserError(
                f"{folder / 'model.safetensors'}: {name} holds NaN or infinity; "
                "use another checkpoint"
            )
    keys_OS = weights.get("ngrams.keys_OS")
    if keys_OS is not None and not lead_somewhere(keys_OS, vocabulary_size(tokenizer)):
        raise UserError(
            f"{folder / 'model.safetensors'}: ngrams.keys_OS holds n-grams that there cannot be; "
            "use another checkpoint"
        )
    if isinstance(config, TrainConfig):
        return Checkpoint(folder, tokenizer, weights, metrics, config)
    return Pretrained(folder, tokenizer, weights, metrics, config)


def _shapes(config: TrainConfig | PretrainConfig, tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The weights that a configuration asks for, without memory or values."""
    if isinstance(config, TrainConfig):
        return _classifier(config, tokenizer).state_dict()
    with torch.device("meta"):
        return LanguageModel(_embedding(config, tokenizer), config.model).state_dict()


def _classifier(config: TrainConfig, tokenizer: Tokenizer) -> Classifier:
    """The classifier that a configuration asks for, its weights without memory or values."""
    with torch.device("meta"):
        return Classifier(_embedding(config, tokenizer), config.model)


def _embedding(config: RunConfig, tokenizer: Tokenizer) -> nn.Embedding:
    assert config.embeddings.dimension is not None
    size = (vocabulary_size(tokenizer), config.embeddings.dimension)
    # Drawing values on the device "meta" would import torch's compiler, more than a second's work.
    return nn.Embedding(*size, _weight=torch.empty(size))


def total_bytes(tensors: Mapping[str, Tensor]) -> int:
    """What all of them take in memory or in a file."""
    return sum(tensor.nbytes for tensor in tensors.values())


def describe(tensor: Tensor | None) -> str:
    """Type and shape of a tensor, in words."""
    if tensor is None:
        return "missing"
    return one_line(f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}")


def _parse_config(content: bytes, path: Path) -> TrainConfig | PretrainConfig:
    try:
        text = content.decode()
        _check_yaml(text)
        loaded = OmegaConf.create(text)
        # Such a value would read the environment.
        if any("${" in value for value in _strings(OmegaConf.to_container(loaded))):
            raise ValueError("it holds ${...}, expected values")
        schema = PretrainConfig if "language" in loaded else TrainConfig
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), loaded))
    except Exception as error:  # on damaged YAML its libraries raise nearly anything
        first_line = one_line(str(error).partition("\n")[0])
        raise UserError(f"{path} is no configuration of this version: {first_line}") from error
    assert isinstance(config, TrainConfig | PretrainConfig)
    return config


def _check_yaml(text: str) -> None:
    """See that YAML is small enough to be read in a moment, for which its bytes are no measure."""
    level = 0
    for number, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        # Aliases of aliases would grow without end.
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it holds an alias, expected values")
        level += isinstance(event, yaml.CollectionStartEvent)
        level -= isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS or number > MOST_EVENTS:
            raise ValueError("it holds more than any configuration does")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _strings(part)


def _parse_tokenizer(content: bytes, path: Path) -> Tokenizer:
    try:
        return parse_tokenizer(content)
    except ValueError as error:
        raise UserError(f"{path} is no tokenizer: {one_line(error)}") from error


def _parse_metrics(content: bytes, path: Path) -> dict[str, float]:
    try:
        metrics = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} holds no figures: {error}") from error
    if not isinstance(metrics, dict) or not all(type(v) in (int, float) for v in metrics.values()):
        raise UserError(f"{path} holds something other than figures by name")
    return metrics


def parse_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        UserError: it is none, or PyTorch has no tensor of a type or shape in there.
    """
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # its own and, on types and shapes unknown to PyTorch, several
        raise UserError(f"{path} holds no tensors: {one_line(error)}") from error
