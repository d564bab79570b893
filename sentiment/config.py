"""Every setting of the pipeline as a typed dataclass: documented here, given its value in `conf/`.

Hydra fills these classes from YAML and the command line, so types are checked there;
`__post_init__` checks what a type cannot say. Past the doors nobody sees a `DictConfig`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from sentiment.errors import UserError

LABEL_NAMES = ("negative", "positive")
"""Of the labels 0 and 1, where the data does not name them."""
THRESHOLD = 0.5
"""A review whose probability of being positive is above this is called positive."""

MOST_UNITS = 100_000
"""Width of anything, at most: a slip of the keyboard must not ask for a terabyte."""


class DataSource(Enum):
    """Where reviews come from."""

    imdb = "imdb"
    sample = "sample"


class TruncationSide(Enum):
    """Which end of a too long review is dropped (the meaning of `transformers`)."""

    left = "left"
    right = "right"


class EmbeddingSource(Enum):
    """What the embedding starts from."""

    random = "random"
    glove = "glove"


class Pooling(Enum):
    """What the encoder's outputs are reduced to; several are concatenated in the given order."""

    final = "final"
    max = "max"
    mean = "mean"
    attention = "attention"


class Schedule(Enum):
    """How the learning rate moves after its linear warm-up."""

    cosine = "cosine"
    constant = "constant"


class Device(Enum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """The number format of the LSTM's products; weights and loss are always float32."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def _require(condition: bool, setting: str, found: Any, expected: str) -> None:
    if not condition:
        raise UserError(f"{setting} is {found}, expected {expected}")


@dataclass
class DataConfig:
    """Which reviews to read, and where from."""

    source: DataSource | None
    """`None` stands for "what the checkpoint was trained on", in the evaluation door only."""
    path: str | None
    """A local copy: parquet files, the `aclImdb` folder or its `.tar.gz`; `None`: the hub."""

    def __post_init__(self) -> None:
        if self.source is DataSource.sample:
            _require(self.path is None, "data.path", self.path, "null with data=sample")


@dataclass
class SplitConfig:
    """How validation reviews are taken from the training reviews."""

    validation_fraction: float
    """Share of the training reviews, in (0, 1)."""
    seed: int
    """Chooses the blocks; apart from the run's own seed, so that runs stay comparable."""

    def __post_init__(self) -> None:
        fraction = self.validation_fraction
        _require(0 < fraction < 1, "split.validation_fraction", fraction, "a number in (0, 1)")
        _require(self.seed >= 0, "split.seed", self.seed, "0 or more")


@dataclass
class TokenizerConfig:
    """From text to token ids."""

    vocabulary_size: int
    """Most words to keep, most frequent first, with `<pad>` and `<unk>`."""
    min_frequency: int
    """Words seen less often in the training reviews become `<unk>`."""
    max_length: int | None
    """Most tokens of a review that the model reads; `None`: all."""
    truncation_side: TruncationSide
    """`left` keeps the end of a review, where its verdict usually stands."""

    def __post_init__(self) -> None:
        size, length = self.vocabulary_size, self.max_length
        frequency, most = self.min_frequency, 10_000_000
        _require(3 <= size <= most, "tokenizer.vocabulary_size", size, f"3 to {most}")
        _require(1 <= frequency <= most, "tokenizer.min_frequency", frequency, f"1 to {most}")
        valid = length is None or 1 <= length <= most
        _require(valid, "tokenizer.max_length", length, f"1 to {most}, or null")


@dataclass
class EmbeddingsConfig:
    """What the embedding starts from."""

    source: EmbeddingSource
    path: str | None
    """A file in GloVe's text format, needed with `embeddings=glove`."""
    dimension: int | None
    """Width of a word vector; `None`: that of the file."""
    freeze: bool
    """Keep the vectors as they are instead of training them."""

    def __post_init__(self) -> None:
        dimension = self.dimension
        valid = dimension is None or 1 <= dimension <= MOST_UNITS
        _require(valid, "embeddings.dimension", dimension, f"1 to {MOST_UNITS}, or null")
        if self.source is EmbeddingSource.glove:
            expected = "a GloVe text file (embeddings.path=glove.6B.100d.txt)"
            _require(self.path is not None, "embeddings.path", self.path, expected)
        else:
            _require(self.path is None, "embeddings.path", self.path, "null (or embeddings=glove)")
            _require(dimension is not None, "embeddings.dimension", dimension, "1 or more")
            _require(not self.freeze, "embeddings.freeze", True, "false with random vectors")


@dataclass
class ModelConfig:
    """The classifier between the embedding and the logit."""

    layers: int
    """Bidirectional LSTM layers."""
    hidden_size: int
    """Width of one direction of one layer."""
    pooling: list[Pooling]
    """What the logit is computed from."""
    word_dropout: float
    """Share of the vocabulary that a training batch reads as zeros, in [0, 1)."""
    embedding_dropout: float
    """Dropout on word vectors, one mask per review shared over time, in [0, 1)."""
    dropout: float
    """Dropout between layers (shared over time) and before the logit, in [0, 1)."""

    def __post_init__(self) -> None:
        layers, size = self.layers, self.hidden_size
        _require(1 <= layers <= 100, "model.layers", layers, "1 to 100")
        _require(1 <= size <= MOST_UNITS, "model.hidden_size", size, f"1 to {MOST_UNITS}")
        names = [pooling.name for pooling in self.pooling]
        distinct = 0 < len(names) == len(set(names))
        _require(distinct, "model.pooling", names, "at least one pooling, each once")
        for name in ("word_dropout", "embedding_dropout", "dropout"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"model.{name}", value, "a number in [0, 1)")


@dataclass
class ObjectiveConfig:
    """What is minimised: `BCEWithLogitsLoss`."""

    pos_weight: float
    """Weight of the positive reviews' loss; above 1 trades precision for recall."""

    def __post_init__(self) -> None:
        _require(self.pos_weight > 0, "objective.pos_weight", self.pos_weight, "above 0")


@dataclass
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019) and its learning rate over time."""

    learning_rate: float
    """Peak learning rate."""
    weight_decay: float
    """Decoupled decay of the weight matrices; biases and embedding are not decayed."""
    schedule: Schedule
    warmup_fraction: float
    """Share of all updates in which the learning rate rises linearly from 0, in [0, 1)."""
    max_gradient_norm: float
    """The whole gradient is scaled down to this L2 norm where it is larger."""

    def __post_init__(self) -> None:
        warmup, norm = self.warmup_fraction, self.max_gradient_norm
        _require(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "above 0")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        _require(0 <= warmup < 1, "optimizer.warmup_fraction", warmup, "a number in [0, 1)")
        _require(norm > 0, "optimizer.max_gradient_norm", norm, "above 0")


@dataclass
class TrainerConfig:
    """How long and in what portions to train."""

    epochs: int
    """Passes over the training reviews, at most."""
    batch_size: int
    """Reviews per optimizer update."""
    patience: int
    """Stop after this many epochs in a row that are no better on validation than the best one:
    neither higher accuracy nor the same with lower loss."""
    log_every: int
    """Optimizer updates between two points of the training curves."""
    max_train_batches: int | None
    """Stop each epoch after so many batches, for quick checks; `None`: all."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "log_every"):
            _require(getattr(self, name) >= 1, f"trainer.{name}", getattr(self, name), "1 or more")
        limit = self.max_train_batches
        _require(limit is None or limit >= 1, "trainer.max_train_batches", limit, "1 or more")


@dataclass
class RuntimeConfig:
    """The machine's side of a run."""

    device: Device
    """`auto` takes a GPU where there is one."""
    precision: Precision
    """`auto` takes bfloat16 where the hardware has it natively, else float32."""
    threads: int | None
    """CPU threads; `None`: one per core that this process may use."""
    cache_dir: str
    """Folder for tokenizers and encoded reviews; safe to delete."""

    def __post_init__(self) -> None:
        valid = self.threads is None or 1 <= self.threads <= 1024
        _require(valid, "runtime.threads", self.threads, "1 to 1024, or null")


@dataclass
class TrainConfig:
    """Everything that `python -m sentiment.train` reads."""

    seed: int
    """Seeds the weights, the order of the reviews and the dropout masks."""
    data: DataConfig
    split: SplitConfig
    tokenizer: TokenizerConfig
    embeddings: EmbeddingsConfig
    model: ModelConfig
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    runtime: RuntimeConfig

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 2**32 - 1")
        expected = "a data set (data=imdb or data=sample)"
        _require(self.data.source is not None, "data.source", None, expected)


@dataclass
class EvaluateConfig:
    """Everything that `python -m sentiment.evaluate` reads."""

    checkpoint: str
    """A run directory (its best checkpoint is taken) or a checkpoint folder."""
    data: DataConfig
    runtime: RuntimeConfig


def flatten(config: TrainConfig) -> dict[str, Any]:
    """Settings by dotted name, enums by their names."""

    def walk(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            elif isinstance(value, list):
                yield prefix + name, "+".join(item.value for item in value)
            else:
                yield prefix + name, value.value if isinstance(value, Enum) else value

    return dict(walk(asdict(config), ""))
