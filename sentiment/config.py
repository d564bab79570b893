"""Every setting of the pipeline as a typed dataclass: documented here, given its value in `conf/`.

Hydra fills these classes from YAML and the command line, so types are checked there;
`__post_init__` checks what a type cannot say. Past the doors nobody sees a `DictConfig`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from sentiment.errors import UserError

HUB_ID = "stanfordnlp/imdb"
REVISION = "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"  # so that every run reads the same bytes
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
    files = "files"


class SplitKind(Enum):
    """What is drawn for validation: reviews that belong together, or single ones."""

    grouped = "grouped"
    random = "random"


class TokenizerModel(Enum):
    """What a token is."""

    word = "word"
    bpe = "bpe"
    wordpiece = "wordpiece"


class TruncationSide(Enum):
    """Which end of a too long review is dropped (the meaning of `transformers`)."""

    left = "left"
    right = "right"


class EmbeddingSource(Enum):
    """What the embedding starts from."""

    random = "random"
    glove = "glove"


class Cell(Enum):
    """What a recurrent layer computes: LSTM, GRU (Cho et al., 2014), or tanh (Elman, 1990)."""

    lstm = "lstm"
    gru = "gru"
    rnn = "rnn"


class Pooling(Enum):
    """What the encoder's outputs are reduced to; several are concatenated in the given order."""

    final = "final"
    max = "max"
    mean = "mean"
    attention = "attention"


class Part(Enum):
    """A part of the model that can be kept as it was loaded."""

    embedding = "embedding"
    encoder = "encoder"


class Schedule(Enum):
    """How the learning rate moves after its linear warm-up."""

    cosine = "cosine"
    constant = "constant"


class Device(Enum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Kernel(Enum):
    """What computes LSTM layers on a CPU: our own kernel, or PyTorch's."""

    auto = "auto"
    compiled = "compiled"
    plain = "plain"


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
    train: str | None = None
    """With `data=files`, as all that follow: CSV, TSV, JSON Lines (each also `.gz`) or parquet."""
    validation: str | None = None
    """`None`: taken from `train`."""
    test: str | None = None
    """`None`: taken from `train`, before the validation reviews."""
    text_column: str | None = None
    """`None`: found by its usual names."""
    label_column: str | None = None
    """`None`: found by its usual names."""
    positive: str | None = None
    """The label of positive reviews; `None`: recognised. A checkpoint has it for every source."""
    negative: str | None = None
    """The label of negative reviews; likewise."""
    group_column: str | None = None
    """Rows of the same value stay together where reviews are taken from `train`, and where it is
    divided to learn n-grams."""
    unlabelled: str | None = None
    """More texts, for `sentiment.pretrain` and `teacher`: a file like the others, labels not
    looked at."""
    drop_empty: bool = False
    """Leave out rows without a text or a label instead of refusing the file."""
    max_tokens_per_batch: int = 65_536
    """Most tokens of a training batch, padding included; a longer review is a batch alone."""

    def __post_init__(self) -> None:
        tokens = self.max_tokens_per_batch
        _require(tokens >= 1, "data.max_tokens_per_batch", tokens, "1 or more")
        if self.source is DataSource.sample:
            _require(self.path is None, "data.path", self.path, "null with data=sample")
        if self.source is DataSource.files:
            self._check_files()
        elif self.source is not None:
            other = f"null with data={self.source.value} (data=files reads your own)"
            columns = ("text_column", "label_column", "group_column")
            for name in ("train", "validation", "test", "unlabelled", *columns):
                _require(getattr(self, name) is None, f"data.{name}", getattr(self, name), other)
            for name in ("positive", "negative"):
                value = getattr(self, name)
                _require(value in (None, name), f"data.{name}", value, other)
            _require(not self.drop_empty, "data.drop_empty", True, "false: " + other)

    def _check_files(self) -> None:
        _require(self.path is None, "data.path", self.path, "null with data=files")
        given = self.train is not None or self.test is not None
        _require(given, "data.train", None, "a file (data.train=reviews.csv)")
        both = self.positive is not None and self.positive == self.negative
        _require(not both, "data.positive", self.positive, "another value than data.negative")


@dataclass
class SplitConfig:
    """How validation reviews are taken from the training reviews."""

    validation_fraction: float
    """Share of the training reviews, in (0, 1)."""
    seed: int
    """Chooses which; apart from the run's own seed, so that runs stay comparable."""
    kind: SplitKind = SplitKind.grouped
    """`grouped`: all reviews of a film of IMDB, and whole groups of `data.group_column`. `random`:
    single reviews, which overstates test accuracy; it does not go with `data.group_column`."""
    labelled: int | None = None
    """So many training reviews keep their labels, the others join the texts without labels;
    `None`: all keep them."""

    def __post_init__(self) -> None:
        fraction, labelled = self.validation_fraction, self.labelled
        valid = labelled is None or labelled >= 2
        _require(valid, "split.labelled", labelled, "2 or more, or null")
        _require(0 < fraction < 1, "split.validation_fraction", fraction, "a number in (0, 1)")
        _require(self.seed >= 0, "split.seed", self.seed, "0 or more")


@dataclass
class TokenizerConfig:
    """From text to token ids."""

    model: TokenizerModel
    """Whole words, or pieces of words: byte-pair encoding (Sennrich et al., 2016) or WordPiece
    (Schuster & Nakajima, 2012)."""
    vocabulary_size: int
    """Most tokens to keep, most frequent first, with `<pad>` and `<unk>`."""
    min_frequency: int
    """Words, or pairs of pieces to be merged, seen less often in the training reviews are left out
    of the vocabulary."""
    path: str | None
    """A `tokenizer.json` of the `tokenizers` library to use in place of learning one."""
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
    """A file of vectors as text (GloVe, word2vec, fastText), plain, `.gz` or `.zip`."""
    dimension: int | None
    """Width of a word vector; `None`: that of the file."""
    std: float | None
    """Standard deviation of random vectors; `None`: that of the file's, for words it lacks."""
    url: str | None = None
    """Where to download the file from, once, if `path` does not give it."""
    sha256: str | None = None
    """Of the file at `url`, in hexadecimal digits."""

    def __post_init__(self) -> None:
        dimension, std, url, sha256 = self.dimension, self.std, self.url, self.sha256
        valid = dimension is None or 1 <= dimension <= MOST_UNITS
        _require(valid, "embeddings.dimension", dimension, f"1 to {MOST_UNITS}, or null")
        _require(std is None or std > 0, "embeddings.std", std, "above 0, or null")
        if self.source is EmbeddingSource.glove:
            expected = "a file of vectors (or embeddings=glove_6b_100d, which downloads one)"
            _require(self.path is not None or url is not None, "embeddings.path", None, expected)
            valid = url is None or re.fullmatch(r"https?://[^\s/]+/\S*", url) is not None
            _require(valid, "embeddings.url", url, "http://... or https://...")
            valid = url is None or re.fullmatch("[0-9a-f]{64}", sha256 or "") is not None
            _require(valid, "embeddings.sha256", sha256, "64 hexadecimal digits, in lower case")
        else:
            _require(self.path is None, "embeddings.path", self.path, "null (or embeddings=glove)")
            _require(url is None, "embeddings.url", url, "null (or embeddings=glove_6b_100d)")
            _require(dimension is not None, "embeddings.dimension", dimension, "1 or more")
            _require(std is not None, "embeddings.std", std, "above 0")


@dataclass
class EncoderConfig:
    """The recurrent layers above the word vectors."""

    layers: int
    """Recurrent layers, one above the other."""
    hidden_size: int
    """Width of one direction of one layer."""
    embedding_dropout: float
    """Dropout on word vectors, one mask per review shared over time, in [0, 1)."""
    dropout: float
    """Dropout between layers (shared over time) and above the last one, in [0, 1)."""
    cell: Cell = Cell.lstm
    """Of every layer. (This and the following have defaults for checkpoints of before they were
    there.)"""
    bidirectional: bool = True
    """Each layer reads in both directions; else from left to right."""
    forget_bias: float = 1.0
    """What the bias of an LSTM's forget gates starts from."""

    def __post_init__(self) -> None:
        layers, size = self.layers, self.hidden_size
        _require(1 <= layers <= 100, "model.layers", layers, "1 to 100")
        _require(1 <= size <= MOST_UNITS, "model.hidden_size", size, f"1 to {MOST_UNITS}")
        bias, has_gate = self.forget_bias, self.cell is Cell.lstm
        _require(math.isfinite(bias), "model.forget_bias", bias, "a number")
        expected = f"1.0 with model.cell={self.cell.value}, which has no forget gate"
        _require(has_gate or bias == 1, "model.forget_bias", bias, expected)
        for name in ("embedding_dropout", "dropout"):
            self._require_share(name)

    def _require_share(self, name: str) -> None:
        value = getattr(self, name)
        _require(0 <= value < 1, f"model.{name}", value, "a number in [0, 1)")


@dataclass(kw_only=True)
class ModelConfig(EncoderConfig):
    """The classifier between the embedding and the logit."""

    pooling: list[Pooling]
    """What the logit is computed from."""
    word_dropout: float
    """Share of the vocabulary that a training batch reads as zeros, in [0, 1)."""
    freeze: list[Part]
    """Parts that are not trained: what was loaded from vectors or from another run stays."""
    ngrams: int = 0
    """Tokens of the longest n-grams of which the encoder reads, beside the word vectors, what the
    training labels say of them (`sentiment/training/ngrams.py`); 0: it reads none."""
    ngrams_size: int = 500_000
    """Most n-grams of each length; in a checkpoint the size of its tables."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [pooling.name for pooling in self.pooling]
        distinct = 0 < len(names) == len(set(names))
        _require(distinct, "model.pooling", names, "at least one pooling, each once")
        longest, most = self.ngrams, self.ngrams_size
        _require(0 <= longest <= 10, "model.ngrams", longest, "0 to 10")
        _require(1 <= most <= 100_000_000, "model.ngrams_size", most, "1 to 100000000")
        self._require_share("word_dropout")


@dataclass
class LanguageConfig:
    """How a language model is trained, before there is a classifier."""

    samples: int | None
    """Tokens that a right one is told from, drawn anew for every batch; `None`: all of them."""
    span: int | None
    """Texts are cut into pieces of about so many tokens, for more updates from as much text;
    `None`: they stay whole."""

    def __post_init__(self) -> None:
        samples, span = self.samples, self.span
        _require(samples is None or samples >= 1, "language.samples", samples, "1 or more, or null")
        _require(span is None or span >= 4, "language.span", span, "4 or more, or null")


@dataclass
class ObjectiveConfig:
    """What is minimised: `BCEWithLogitsLoss`, and more (`sentiment/training/objectives.py`)."""

    pos_weight: str
    """Weight of the positive reviews' loss, a number; above 1 trades precision for recall. `auto`:
    negative over positive training reviews, which gives both classes the same weight; the
    checkpoint of such a run has the number. (OmegaConf has no `float | Literal["auto"]`.)"""
    adversarial: float = 0.0
    """Weight of the loss where a small change of the word vectors raises it most."""
    virtual_adversarial: float = 0.0
    """Weight of how far such a change moves the probability; also of texts without labels."""
    entropy: float = 0.0
    """Weight of the entropy of the probabilities of texts without labels."""
    epsilon: float = 5.0
    """Size of these changes: norm over a review, in standard deviations of the word vectors."""

    def __post_init__(self) -> None:
        try:
            valid = self.pos_weight == "auto" or 0 < float(self.pos_weight) < float("inf")
        except ValueError:
            valid = False
        _require(valid, "objective.pos_weight", self.pos_weight, "a number above 0, or auto")
        for name in ("adversarial", "virtual_adversarial", "entropy"):
            weight = getattr(self, name)
            _require(0 <= weight < math.inf, f"objective.{name}", weight, "a number, 0 or above")
        epsilon = self.epsilon
        _require(0 < epsilon < math.inf, "objective.epsilon", epsilon, "a number above 0")

    @property
    def added(self) -> dict[str, float]:
        """Weights of what is added to the cross entropy, by name."""
        weights = {
            name: getattr(self, name) for name in ("adversarial", "virtual_adversarial", "entropy")
        }
        return {name: weight for name, weight in weights.items() if weight > 0}


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
    max_skipped_steps: int
    """Batches of a whole run that may be skipped because their loss or gradient is no finite
    number; one more stops the run."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "log_every"):
            _require(getattr(self, name) >= 1, f"trainer.{name}", getattr(self, name), "1 or more")
        limit, skipped = self.max_train_batches, self.max_skipped_steps
        _require(limit is None or limit >= 1, "trainer.max_train_batches", limit, "1 or more")
        _require(skipped >= 0, "trainer.max_skipped_steps", skipped, "0 or more")


@dataclass
class CheckpointConfig:
    """When to save what a run needs to go on; it is also saved after every epoch."""

    every_updates: int | None
    """After so many optimizer updates; `None`: not by their number."""
    every_minutes: float | None
    """After so many minutes; `None`: not by the clock."""
    keep: int
    """How many of them stay, the newest included."""

    def __post_init__(self) -> None:
        updates, minutes = self.every_updates, self.every_minutes
        valid = updates is None or updates >= 1
        _require(valid, "checkpoint.every_updates", updates, "1 or more, or null")
        valid = minutes is None or minutes > 0
        _require(valid, "checkpoint.every_minutes", minutes, "above 0, or null")
        _require(1 <= self.keep <= 1000, "checkpoint.keep", self.keep, "1 to 1000")


@dataclass
class RuntimeConfig:
    """The machine's side of a run."""

    device: Device
    """`auto` takes a GPU where there is one."""
    precision: Precision
    """`auto` takes bfloat16 where the hardware has it natively, else float32."""
    threads: int | None
    """CPU threads; `None`: one per core that this process may use."""
    deterministic: bool
    """Same bytes from the same seed on a GPU, too, at the price of speed; a CPU always gives them
    with the same number of threads."""
    cache_dir: str
    """Folder for tokenizers, encoded reviews, downloads and the kernel; safe to delete."""
    kernel: Kernel = Kernel.auto
    """`auto` takes the compiled one where the processor and a compiler allow it. (The default is
    for checkpoints of before it was there.)"""

    def __post_init__(self) -> None:
        valid = self.threads is None or 1 <= self.threads <= 1024
        _require(valid, "runtime.threads", self.threads, "1 to 1024, or null")


@dataclass
class RunConfig:
    """What all commands that train something read."""

    seed: int
    """Seeds the weights, the order of the reviews and the dropout masks."""
    resume: str | None
    """A run directory to go on with. On the command line also `auto`, the newest unfinished run
    of the same settings: `sentiment/resume.py` finds it before this is filled."""
    data: DataConfig
    split: SplitConfig
    tokenizer: TokenizerConfig
    embeddings: EmbeddingsConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    checkpoint: CheckpointConfig
    runtime: RuntimeConfig

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 2**32 - 1")
        expected = "a data set (data=imdb, data=sample or data=files)"
        _require(self.data.source is not None, "data.source", None, expected)
        if self.data.source is DataSource.files:
            expected = "a file to train on (data.train=reviews.csv)"
            _require(self.data.train is not None, "data.train", None, expected)
        is_random, column = self.split.kind is SplitKind.random, self.data.group_column
        expected = f"grouped with data.group_column={column}"
        _require(not (is_random and column is not None), "split.kind", "random", expected)


@dataclass
class TrainConfig(RunConfig):
    """Everything that `python -m sentiment.train` reads."""

    init_from: str | None
    """A run or checkpoint whose tokenizer, embedding and encoder to start from, and n-grams, if it
    learned them from other reviews."""
    model: ModelConfig
    objective: ObjectiveConfig
    teacher: str | None = None
    """A run or checkpoint, of the same split, whose probabilities for the texts without labels are
    learned from as if they were labels: self-training. (The default is for checkpoints of before it
    was there.)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_from is not None:
            vectors, tokenizer = self.embeddings.source, self.tokenizer.path
            comes = "with init_from, which brings its own"
            random = vectors is EmbeddingSource.random
            _require(random, "embeddings.source", vectors.value, f"random {comes}")
            _require(tokenizer is None, "tokenizer.path", tokenizer, f"null {comes}")
        elif self.model.freeze:
            loaded = [Part.embedding] if self.embeddings.source is EmbeddingSource.glove else []
            names = [part.value for part in self.model.freeze]
            expected = "parts that were loaded from somewhere (init_from, or embeddings=glove)"
            _require(self.model.freeze == loaded, "model.freeze", names, expected)


@dataclass
class PretrainConfig(RunConfig):
    """Everything that `python -m sentiment.pretrain` reads."""

    model: EncoderConfig
    language: LanguageConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        labelled = self.split.labelled
        _require(labelled is None, "split.labelled", labelled, "null: no label is read")


@dataclass
class EvaluateConfig:
    """Everything that `python -m sentiment.evaluate` reads."""

    checkpoint: str
    """A run directory (its best checkpoint is taken) or a checkpoint folder."""
    data: DataConfig
    runtime: RuntimeConfig
    report: str | None = None
    """Where to write a page of all figures and errors, such as `report.html`; `None`: nowhere."""
    slice_by: str | None = None
    """A column of the test reviews; accuracy is given for each of its values, too."""
    calibrate: bool = False
    """Divide the logits by the temperature that fits the validation reviews best, and leave a
    checkpoint that does."""


def flatten(config: RunConfig) -> dict[str, Any]:
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
