"""Starting from another run's tokenizer, embedding and encoder instead of from random weights.

What another run may bring along without telling labels is also asked of a teacher.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from operator import attrgetter

from torch import Tensor, nn

from sentiment.config import (
    DataSource,
    ModelConfig,
    Part,
    PretrainConfig,
    SplitKind,
    TrainConfig,
)
from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.model.ngrams import NGramFeatures
from sentiment.report.run import recorded_hashes
from sentiment.training.checkpoint import Checkpoint, Pretrained, Saved

READS_INPUTS = ("left_to_right.0.weight_ih_l0", "right_to_left.0.weight_ih_l0")
"""Weights of an encoder that multiply what it reads."""

ANYTHING = {"yes", "no", "true", "false"}
"""Labels that say nothing without their question."""


def shares_reviews(config: TrainConfig, other: TrainConfig | PretrainConfig) -> bool:
    """Whether two runs draw their reviews from the same ones; files are known by their paths."""
    return (config.data.source, config.data.train) == (other.data.source, other.data.train)


def knows_what_is_drawn(config: TrainConfig, source: Saved) -> bool:
    """Whether a checkpoint could know what this run sets aside, did it draw in another way.

    A language model knows no labels; it has read IMDB's validation reviews, but no test review.
    """
    draws_test = config.data.source is DataSource.files and config.data.test is None
    is_told = isinstance(source, Checkpoint) or draws_test
    return is_told and shares_reviews(config, source.config)


def require_same_split(config: TrainConfig, other: Saved, setting: str) -> None:
    """See that another run has learned from nothing that this one may not learn from.

    Args:
        config: of this run.
        other: what the other one has left.
        setting: that names it.

    Raises:
        UserError: its training reviews were drawn in another way.
    """
    knows = "labels" if isinstance(other, Checkpoint) else "texts"
    drawn = [f"split.{field.name}" for field in fields(config.split)]
    if isinstance(other, Pretrained):
        drawn.remove("split.labelled")  # a label more or less is nothing to it
    if shares_reviews(config, other.config):
        drawn += ["data.group_column", "data.drop_empty", "data.validation", "data.test"]
    for name in drawn:
        now, was = (attrgetter(name)(settings) for settings in (config, other.config))
        if name == "split.labelled":
            # Fewer reviews are among more, and `None` is all.
            is_same = now is None or (was is not None and was <= now)
        elif name in ("data.validation", "data.test"):
            is_same = (now is None) == (was is None)
        else:
            is_same = now == was
        if not is_same:
            now, was = ("null" if v is None else getattr(v, "value", v) for v in (now, was))
            raise UserError(
                f"{name} is {now}, but {setting}={other.folder} was trained with {was} and "
                f"knows {knows} that are set aside here; give the same, or train another one"
            )


def require_same_reviews(
    config: TrainConfig, sha256: Mapping[str, str], other: Checkpoint, setting: str
) -> None:
    """See that a run whose settings draw the same reviews for validation and test has drawn them.

    A file may have changed since, or the labels by which it is drawn from. IMDB's whole films are
    the same ones whichever copy they come from, and in whichever order; so are its test reviews.

    Args:
        config: of this run.
        sha256: hash of each of its splits.
        other: what the other one has left.
        setting: that names it.

    Raises:
        UserError: other reviews; where it says so, for it may have been copied without its record.
    """
    of_files = config.data.source is DataSource.files
    by_row = config.split.kind is SplitKind.random or config.split.labelled is not None
    drawn = {"validation": of_files or by_row, "test": of_files}
    recorded = recorded_hashes(other.folder)
    for name, is_drawn in drawn.items():
        given = getattr(config.data, name) is not None
        if is_drawn and not given and recorded.get(name, sha256[name]) != sha256[name]:
            raise UserError(
                f"the {name} reviews are not those of {setting}={other.folder}: the reviews that "
                "they are drawn from, their order or their labels are not the same, so it may know "
                "some that are set aside here; give it the reviews of then, or train another one"
            )


def require_same_labels(config: TrainConfig, other: Checkpoint, setting: str) -> None:
    """See that what another run calls positive is not what this one calls negative.

    Numbers and the like have no meaning of their own: other files may have them the other way.

    Raises:
        UserError: it is.
    """
    names = [str(name).casefold() for name in (config.data.negative, config.data.positive)]
    are_words = all(name.isalpha() and len(name) > 1 for name in names) and not ANYTHING & {*names}
    if are_words and names == [name.casefold() for name in reversed(other.label_names)]:
        raise UserError(
            f"data.positive={config.data.positive} is the negative label of "
            f"{setting}={other.folder}, so what it knows would be turned round; give "
            f"data.positive={other.label_names[1]} data.negative={other.label_names[0]}"
        )


def require_no_frozen_noise(config: TrainConfig, source: Saved) -> None:
    """See that weights which no run has trained are not kept as they are.

    Raises:
        UserError: they would be.
    """
    keeps = Part.encoder in config.model.freeze
    if keeps and isinstance(source, Pretrained) and config.model.ngrams > 0:
        raise UserError(
            f"model.freeze keeps the encoder of init_from={source.folder}, a language model, "
            "which has no weights for n-grams yet; give model.ngrams=0"
        )


def adopt_settings(config: TrainConfig, source: TrainConfig | PretrainConfig) -> None:
    """Take over what the loaded parts prescribe: the kind of tokenizer, and cell and sizes."""
    for name in ("model", "vocabulary_size", "min_frequency"):
        setattr(config.tokenizer, name, getattr(source.tokenizer, name))
    config.embeddings.dimension = source.embeddings.dimension
    for name in ("cell", "bidirectional", "forget_bias", "layers", "hidden_size"):
        setattr(config.model, name, getattr(source.model, name))
    if isinstance(source, TrainConfig):
        config.model.ngrams = source.model.ngrams
        if not shares_reviews(config, source):
            # The source's and as many more as were asked for.
            config.model.ngrams_size += source.model.ngrams_size


def build_from(source: Saved, config: ModelConfig) -> Classifier:
    """A classifier with the embedding and the encoder of a checkpoint, and a new logit.

    A language model reads no n-grams; where the classifier is to read some, the weights of their
    features are new.

    Args:
        source: gives the weights.
        config: of the new model, with the sizes of the source (`adopt_settings`).

    Raises:
        UserError: weights that do not fit the checkpoint's own configuration.
    """
    loaded = source.build_model()
    model = Classifier(nn.Embedding(*loaded.embedding.weight.shape), config)
    model.embedding.load_state_dict(loaded.embedding.state_dict())
    weights, places = loaded.encoder.state_dict(), model.encoder.state_dict()
    for name in READS_INPUTS:
        if name in weights:
            # Word vectors come first.
            places[name][:, : weights[name].shape[1]] = weights[name]
            weights[name] = places[name]
    model.encoder.load_state_dict(weights)
    return model


def ngrams_of(source: Saved, config: TrainConfig) -> NGramFeatures | None:
    """What a checkpoint says of n-grams, for a classifier that starts from it to go on from.

    Nothing where both learn from the same reviews: their labels would stand in their own features.
    """
    if not isinstance(source, Checkpoint) or source.config.model.ngrams == 0:
        return None
    if shares_reviews(config, source.config):
        return None
    return source.build_model().ngrams


def prior_sha256(prior: NGramFeatures | None) -> str:
    """Hash of what another run says of n-grams; empty where it says nothing."""
    return "" if prior is None else tensors_sha256(prior.buffers())


def tensors_sha256(tensors: Iterable[Tensor]) -> str:
    """Hash of some numbers, in their order."""
    hashed = hashlib.sha256()
    for tensor in tensors:
        hashed.update(tensor.numpy().tobytes())
    return hashed.hexdigest()


def freeze(model: Classifier, parts: list[Part]) -> None:
    """Exclude parts of the model from training."""
    for part in parts:
        getattr(model, part.value).requires_grad_(False)
