"""Starting from another run's tokenizer, embedding and encoder instead of from random weights."""

import hashlib
from collections.abc import Iterable

from torch import Tensor, nn

from sentiment.config import ModelConfig, Part, PretrainConfig, TrainConfig
from sentiment.model.classifier import Classifier
from sentiment.model.ngrams import NGramFeatures
from sentiment.training.checkpoint import Checkpoint, Saved

READS_INPUTS = ("left_to_right.0.weight_ih_l0", "right_to_left.0.weight_ih_l0")
"""Weights of an encoder that multiply what it reads."""


def adopt_settings(config: TrainConfig, source: TrainConfig | PretrainConfig) -> None:
    """Take over what the loaded parts prescribe: the kind of tokenizer, and cell and sizes."""
    for name in ("model", "vocabulary_size", "min_frequency"):
        setattr(config.tokenizer, name, getattr(source.tokenizer, name))
    config.embeddings.dimension = source.embeddings.dimension
    for name in ("cell", "bidirectional", "forget_bias", "layers", "hidden_size"):
        setattr(config.model, name, getattr(source.model, name))
    if isinstance(source, TrainConfig):
        config.model.ngrams = source.model.ngrams
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


def ngrams_of(source: Saved) -> NGramFeatures | None:
    """What a checkpoint says of n-grams, for a classifier that starts from it to go on from."""
    if not isinstance(source, Checkpoint) or source.config.model.ngrams == 0:
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
