"""Starting from another run's tokenizer, embedding and encoder instead of from random weights."""

from torch import nn

from sentiment.config import ModelConfig, Part, TrainConfig
from sentiment.model.classifier import Classifier
from sentiment.training.checkpoint import Checkpoint


def adopt_settings(config: TrainConfig, source: TrainConfig) -> None:
    """Take over what the loaded parts prescribe: the kind of tokenizer, and cell and sizes."""
    for name in ("model", "vocabulary_size", "min_frequency"):
        setattr(config.tokenizer, name, getattr(source.tokenizer, name))
    config.embeddings.dimension = source.embeddings.dimension
    cell = ("cell", "bidirectional", "forget_bias")
    for name in (*cell, "layers", "hidden_size", "ngrams", "ngrams_size"):
        setattr(config.model, name, getattr(source.model, name))


def build_from(source: Checkpoint, config: ModelConfig) -> Classifier:
    """A classifier with the embedding, n-grams and encoder of a checkpoint, and a new logit.

    Args:
        source: gives the weights.
        config: of the new model, with the sizes of the source (`adopt_settings`).

    Raises:
        UserError: weights that do not fit the checkpoint's own configuration.
    """
    loaded = source.build_model()
    model = Classifier(nn.Embedding(*loaded.embedding.weight.shape), config)
    for part in Part:
        state = getattr(loaded, part.value).state_dict()
        getattr(model, part.value).load_state_dict(state)
    if config.ngrams > 0:
        model.ngrams = loaded.ngrams
    return model


def freeze(model: Classifier, parts: list[Part]) -> None:
    """Exclude parts of the model from training."""
    for part in parts:
        getattr(model, part.value).requires_grad_(False)
