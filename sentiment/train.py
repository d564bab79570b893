"""`python -m sentiment.train`: learn from one split, choose on a second, test once on a third."""

from pathlib import Path

from sentiment import cli
from sentiment.config import TrainConfig
from sentiment.resume import JOB, extend, resolve_resume


def train(config: TrainConfig, directory: Path) -> None:
    """Run the whole pipeline and leave its results in the run directory.

    Raises:
        UserError: reviews, vectors or settings that cannot be used, or training that diverged.
    """
    # torch and datasets take seconds to import: `--help` and a mistyped setting do not wait.
    import copy
    import logging
    import os
    from contextlib import closing

    from sentiment.config import flatten
    from sentiment.data.encoded import EncodedReviews
    from sentiment.data.encoding import encode, fingerprint
    from sentiment.data.reviews import label_names, load_splits
    from sentiment.model.classifier import Classifier
    from sentiment.model.embedding import build_embedding
    from sentiment.report.metrics import binary_metrics
    from sentiment.report.progress import byte_progress
    from sentiment.report.run import METRICS, changes, write_environment, write_metrics
    from sentiment.report.tensorboard import Dashboard
    from sentiment.text.tokenizer import build_tokenizer, unknown_id
    from sentiment.text.vectors import find_vectors
    from sentiment.training.checkpoint import load_checkpoint, save_checkpoint
    from sentiment.training.inference import predict_logits
    from sentiment.training.loop import fit
    from sentiment.training.objectives import resolve_pos_weight
    from sentiment.training.optimizer import build_optimizer
    from sentiment.training.runtime import (
        describe_environment,
        memory_advice,
        prepare,
        seed_everything,
    )
    from sentiment.training.state import Progress, TrainingState, load_resumable
    from sentiment.training.transfer import adopt_settings, build_from, freeze

    log = logging.getLogger(__name__)
    checkpoints = directory / "checkpoints"
    resumed = load_resumable(checkpoints / "last") if config.resume is not None else None
    if resumed is not None:
        saved = resumed.checkpoint.config
        config = extend(config, saved, directory)
        if (directory / METRICS).exists() and config.trainer.epochs == saved.trainer.epochs:
            log.info("%s is finished; a higher trainer.epochs would go on with it", directory)
            return
        (directory / METRICS).unlink(missing_ok=True)
        log.info("going on with %s after update %d", directory, resumed.progress.update)
        if config.trainer.epochs > saved.trainer.epochs:
            log.info(
                "trainer.epochs goes from %d to %d: from here on the learning rate is that of the "
                "longer schedule",
                *(saved.trainer.epochs, config.trainer.epochs),
            )
    config.resume = None

    runtime = prepare(config.runtime)
    seed_everything(config.seed)
    # What the checkpoint says of the run: as it was, not as it was asked for.
    config.runtime.precision = runtime.precision
    for name in ("path", "train", "validation", "test"):
        if (path := getattr(config.data, name)) is not None:
            setattr(config.data, name, os.path.abspath(os.path.expanduser(path)))

    source = vectors_file = None
    if resumed is None:
        if config.init_from is not None:
            config.init_from = os.path.abspath(os.path.expanduser(config.init_from))
            source = load_checkpoint(Path(config.init_from))
            adopt_settings(config, source.config)
        with byte_progress("downloading word vectors") as show:
            vectors_file = find_vectors(config.embeddings, runtime.cache_dir, show)

    splits = load_splits(config.data, config.split)
    config.data.negative, config.data.positive = label_names(splits["train"])
    hashes = {name: fingerprint(reviews) for name, reviews in splits.items()}
    environment = describe_environment(runtime) | {"data_sha256": hashes}
    if resumed is not None:
        resumed.require_reviews(hashes)
        if resumed.progress.best:
            load_checkpoint(directory)  # better refused now than after the last epoch
        tokenizer = resumed.checkpoint.tokenizer
    elif source is not None:
        tokenizer = source.tokenizer
    else:
        texts = (part["text"] for part in splits["train"].iter(1000))
        tokenizer = build_tokenizer(texts, hashes["train"], config.tokenizer, runtime.cache_dir)
    log.info(
        "%d reviews to train on, %d to validate, %d to test; vocabulary of %d",
        *map(len, splits.values()),
        tokenizer.get_vocab_size(),
    )

    def encoded(name: str) -> EncodedReviews:
        reviews = encode(splits[name], hashes[name], tokenizer, runtime.cache_dir)
        return reviews.truncate(config.tokenizer.max_length, config.tokenizer.truncation_side)

    train_reviews = encoded("train")
    pos_weight = resolve_pos_weight(config.objective, train_reviews.labels_N)
    config.objective.pos_weight = str(pos_weight)
    log.info(
        "%.1f %% of the training reviews are positive; objective.pos_weight is %.4g",
        *(100 * train_reviews.labels_N.double().mean(), pos_weight),
    )
    with memory_advice(config):
        progress = Progress(data_sha256=hashes)
        if resumed is not None:
            # Copied, for memory laid out as in a run that never stopped.
            model = copy.deepcopy(resumed.checkpoint.build_model())
            progress = resumed.progress
        elif source is not None:
            model = build_from(source, config.model)
            unknown = (train_reviews.ids == unknown_id(tokenizer)).float().mean().item()
            log.info(
                "starting from %s, %d layers of %d; %.1f %% of the tokens are unknown to it",
                *(source.folder, config.model.layers, config.model.hidden_size, 100 * unknown),
            )
        else:
            embedding, progress.coverage = build_embedding(
                config.embeddings, vectors_file, tokenizer.get_vocab(), train_reviews.ids
            )
            config.embeddings.dimension = embedding.embedding_dim
            model = Classifier(embedding, config.model)
        freeze(model, config.model.freeze)
        model.to(runtime.device)
        state = TrainingState(model, build_optimizer(model, config.optimizer), progress)
    if resumed is not None:
        state.restore(resumed)
        for name, before, now in changes(directory, environment):
            log.warning(
                "%s was %s when the run began and is %s now: the last digits may come out "
                "different from those of a run that never stopped",
                *(name, before, now),
            )
    else:
        write_environment(directory, environment)

    with (
        memory_advice(config),
        closing(Dashboard(directory, progress.event_sizes, progress.update)) as dashboard,
    ):

        def save(name: str, metrics: dict[str, float]) -> None:
            if name == "best":
                save_checkpoint(checkpoints / name, model, tokenizer, config, metrics)
                return
            progress.event_sizes = dashboard.sizes()
            folder, keep = checkpoints / name, config.checkpoint.keep
            save_checkpoint(folder, model, tokenizer, config, metrics, state.files(), keep)

        fit(
            state, train_reviews, encoded("validation"), config, runtime, directory, dashboard, save
        )
        # From here on nothing is chosen any more: the test reviews are scored once.
        best = load_checkpoint(directory)
        test_reviews = encoded("test")
        chosen = best.build_model().to(runtime.device)
        tested = binary_metrics(
            predict_logits(chosen, test_reviews, runtime), test_reviews.labels_N
        )
        dashboard.scalars("test", tested, int(best.metrics["update"]))
        figures = {f"test/{name}": value for name, value in tested.items()}
        metrics = best.metrics | figures | progress.coverage
        shown = ("validation/accuracy", "validation/loss", "test/accuracy", "test/loss")
        dashboard.hyperparameters(flatten(config), {tag: metrics[tag] for tag in shown})
    write_metrics(directory, metrics)

    log.info(
        "test accuracy %.4f (95 %% interval %.4f to %.4f), chosen by validation accuracy %.4f",
        *(tested["accuracy"], tested["accuracy_low"], tested["accuracy_high"]),
        metrics["validation/accuracy"],
    )
    log.info("the run is in %s; see its curves, score it again, use it with", directory)
    log.info("  tensorboard --logdir %s", directory.parent.parent)
    log.info("  python -m sentiment.evaluate checkpoint=%s", directory)
    log.info("  python -m sentiment.predict --checkpoint %s", directory)


def main() -> None:
    """Entry point of `sentiment-train`."""
    cli.run(train, JOB, TrainConfig, resolve_resume)


if __name__ == "__main__":
    main()
