"""`python -m sentiment.evaluate`: score a saved checkpoint on the test reviews of a data set."""

from pathlib import Path

from sentiment import cli
from sentiment.config import EvaluateConfig


def evaluate(config: EvaluateConfig, directory: Path) -> None:
    """Print the checkpoint's figures and write them to the run directory.

    Raises:
        UserError: a checkpoint or reviews that cannot be read.
    """
    # torch and datasets take seconds to import: `--help` and a mistyped setting do not wait.
    import logging
    import os
    from dataclasses import replace

    from sentiment.data.encoding import encode, fingerprint
    from sentiment.data.reviews import load_split
    from sentiment.report.metrics import binary_metrics
    from sentiment.report.run import write_environment, write_metrics
    from sentiment.training.checkpoint import load_checkpoint
    from sentiment.training.inference import predict_logits
    from sentiment.training.runtime import describe_environment, prepare

    log = logging.getLogger(__name__)
    checkpoint = load_checkpoint(Path(os.path.expanduser(config.checkpoint)))
    runtime = prepare(config.runtime, trained_in=checkpoint.config.runtime.precision)
    data = config.data
    if data.source is None:
        trained_on = checkpoint.config.data
        data = replace(trained_on, path=data.path or trained_on.path)

    reviews = load_split(data, "test")
    data_sha256 = fingerprint(reviews)
    tokenizing = checkpoint.config.tokenizer
    encoded = encode(reviews, data_sha256, checkpoint.tokenizer, runtime.cache_dir).truncate(
        tokenizing.max_length, tokenizing.truncation_side
    )
    write_environment(directory, describe_environment(runtime) | {"data_sha256": data_sha256})

    model = checkpoint.build_model().to(runtime.device)
    metrics = binary_metrics(predict_logits(model, encoded, runtime), encoded.labels_N)
    write_metrics(directory, {f"test/{name}": value for name, value in metrics.items()})
    log.info("%s on %d test reviews:", checkpoint.folder, metrics["reviews"])
    log.info(
        "  accuracy %.4f (95 %% interval %.4f to %.4f), loss %.4f, F1 %.4f, AUROC %.4f",
        *(metrics["accuracy"], metrics["accuracy_low"], metrics["accuracy_high"]),
        *(metrics["loss"], metrics["f1"], metrics["auroc"]),
    )
    log.info("  %-18s %12s %12s", "", *(f"said {name}" for name in checkpoint.label_names))
    for name, counts in zip(
        checkpoint.label_names,
        (("true_negatives", "false_positives"), ("false_negatives", "true_positives")),
        strict=True,
    ):
        log.info("  %-18s %12d %12d", f"is {name}", *(metrics[count] for count in counts))


def main() -> None:
    """Entry point of `sentiment-evaluate`."""
    cli.run(evaluate, "evaluate", EvaluateConfig)


if __name__ == "__main__":
    main()
