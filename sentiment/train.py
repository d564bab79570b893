"""`python -m sentiment.train`: learn from one split, choose on a second, test once on a third."""

from pathlib import Path

from sentiment import cli
from sentiment.config import TrainConfig


def train(config: TrainConfig, directory: Path) -> None:
    """Run the whole pipeline and leave its results in the run directory.

    Raises:
        UserError: reviews, vectors or settings that cannot be used, or training that diverged.
    """
    # torch and datasets take seconds to import: `--help` and a mistyped setting do not wait.
    import logging

    from sentiment.config import EmbeddingSource, flatten
    from sentiment.data.encoding import encode, fingerprint
    from sentiment.data.reviews import load_splits
    from sentiment.model.classifier import Classifier
    from sentiment.model.embedding import pretrained_embedding, random_embedding
    from sentiment.report.metrics import binary_metrics
    from sentiment.report.run import write_environment, write_metrics
    from sentiment.report.tensorboard import Dashboard
    from sentiment.text.glove import read_glove
    from sentiment.text.tokenizer import cached_tokenizer
    from sentiment.training.checkpoint import load_checkpoint, save_checkpoint
    from sentiment.training.inference import predict_logits
    from sentiment.training.loop import fit
    from sentiment.training.runtime import (
        describe_environment,
        prepare,
        seed_everything,
    )

    log = logging.getLogger(__name__)
    runtime = prepare(config.runtime)
    seed_everything(config.seed)
    cache_dir = Path(config.runtime.cache_dir).expanduser()
    window = config.tokenizer.max_length, config.tokenizer.truncation_side

    splits = load_splits(config.data, config.split)
    data = {name: fingerprint(getattr(splits, name)) for name in ("train", "validation", "test")}
    batches_of_texts = (part["text"] for part in splits.train.iter(1000))
    tokenizer = cached_tokenizer(batches_of_texts, data["train"], config.tokenizer, cache_dir)
    train_reviews = encode(splits.train, data["train"], tokenizer, cache_dir).truncate(*window)
    validation_reviews = encode(
        splits.validation, data["validation"], tokenizer, cache_dir
    ).truncate(*window)
    log.info(
        "%d reviews to train on, %d to validate, %d to test; vocabulary of %d",
        *map(len, (splits.train, splits.validation, splits.test)),
        tokenizer.get_vocab_size(),
    )

    coverage: dict[str, float] = {}
    if config.embeddings.source is EmbeddingSource.glove:
        assert config.embeddings.path is not None
        path = Path(config.embeddings.path).expanduser()
        vectors = read_glove(path, tokenizer.get_vocab(), config.embeddings.dimension)
        coverage = vectors.coverage(train_reviews.ids.numpy())
        log.info(
            "%s has %.2f %% of the vocabulary, %.2f %% of the tokens",
            path.name,
            *(100 * share for share in coverage.values()),
        )
        embedding = pretrained_embedding(vectors, config.embeddings.freeze)
    else:
        assert config.embeddings.dimension is not None
        embedding = random_embedding(tokenizer.get_vocab_size(), config.embeddings.dimension)
    config.embeddings.dimension = embedding.embedding_dim
    model = Classifier(embedding, config.model).to(runtime.device)

    write_environment(directory, describe_environment(runtime) | {"data_sha256": data})
    checkpoints = directory / "checkpoints"
    dashboard = Dashboard(directory)
    best = fit(
        model,
        train_reviews,
        validation_reviews,
        config,
        runtime,
        directory,
        dashboard,
        save=lambda name, metrics: save_checkpoint(
            checkpoints / name, model, tokenizer, config, metrics
        ),
    )

    model = load_checkpoint(checkpoints / "best").build_model().to(runtime.device)
    test_reviews = encode(splits.test, data["test"], tokenizer, cache_dir).truncate(*window)
    logits_N = predict_logits(model, test_reviews, runtime)
    tested = binary_metrics(logits_N, test_reviews.labels_N)
    dashboard.scalars("test", tested, int(best["update"]))
    metrics = best | {f"test/{name}": value for name, value in tested.items()} | coverage
    shown = ("validation/accuracy", "validation/loss", "test/accuracy", "test/loss")
    dashboard.hyperparameters(flatten(config), {tag: metrics[tag] for tag in shown})
    dashboard.close()
    write_metrics(directory, metrics)
    log.info(
        "test accuracy %.4f (95 %% interval %.4f to %.4f), chosen by validation accuracy %.4f",
        *(tested["accuracy"], tested["accuracy_low"], tested["accuracy_high"]),
        best["validation/accuracy"],
    )
    log.info("the run is in %s; look at it and score it again with", directory)
    log.info("  tensorboard --logdir %s", directory.parents[1])
    log.info("  python -m sentiment.evaluate checkpoint=%s", directory)


def main() -> None:
    """Entry point of `sentiment-train`."""
    cli.run(train, "train", TrainConfig)


if __name__ == "__main__":
    main()
