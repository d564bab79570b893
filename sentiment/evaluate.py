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
    import json
    import logging
    import os
    import time
    from dataclasses import asdict, replace

    from sentiment.config import DataSource
    from sentiment.data.encoding import encode, fingerprint
    from sentiment.data.reviews import label_names, load_test, ratings_of
    from sentiment.errors import UserError
    from sentiment.report.html import Scored, refuse_unwritable, write_report
    from sentiment.report.metrics import binary_metrics
    from sentiment.report.run import (
        ENVIRONMENT,
        write_environment,
        write_metrics,
        write_predictions,
    )
    from sentiment.training.attribution import load_captum
    from sentiment.training.checkpoint import load_checkpoint
    from sentiment.training.inference import predict_logits
    from sentiment.training.predictor import SentimentPredictor
    from sentiment.training.runtime import describe_environment, prepare

    log = logging.getLogger(__name__)
    page = None if config.report is None else Path(os.path.expanduser(config.report))
    if page is not None:
        refuse_unwritable(page)
        load_captum()
    checkpoint = load_checkpoint(Path(os.path.expanduser(config.checkpoint)))
    runtime = prepare(config.runtime, trained_in=checkpoint.config.runtime.precision)
    data, trained_on = config.data, checkpoint.config.data
    if data.source is None:
        given = {name: value for name, value in asdict(data).items() if value}
        data = replace(trained_on, **given)
    elif data.source is trained_on.source is DataSource.files:
        data = replace(
            data,
            negative=data.negative or trained_on.negative,
            positive=data.positive or trained_on.positive,
        )

    reviews = load_test(data, checkpoint.config.split)
    names = label_names(reviews)
    data_sha256 = fingerprint(reviews)
    if config.data.source is None and data.source is DataSource.files and data.test is None:
        record = checkpoint.folder.resolve().parents[1] / ENVIRONMENT
        if record.exists() and data_sha256 != json.loads(record.read_text())["data_sha256"]["test"]:
            raise UserError(
                f"{data.train} has changed since {checkpoint.folder} was trained: which of its "
                "reviews were set aside for the test is lost; give others with data.test=FILE"
            )
    tokenizing = checkpoint.config.tokenizer
    whole = encode(reviews, data_sha256, checkpoint.tokenizer, runtime.cache_dir)
    encoded = whole.truncate(tokenizing.max_length, tokenizing.truncation_side)
    environment = describe_environment(runtime) | {"data_sha256": data_sha256}
    write_environment(directory, environment)

    predictor = SentimentPredictor(checkpoint, runtime)
    logits_N = predict_logits(predictor.model, encoded, runtime)
    metrics = binary_metrics(logits_N, encoded.labels_N)
    write_predictions(directory, logits_N, encoded.labels_N, names)
    write_metrics(directory, {f"test/{name}": value for name, value in metrics.items()})
    log.info("%s on %d test reviews:", checkpoint.folder, metrics["reviews"])
    log.info(
        "  accuracy %.4f (95 %% interval %.4f to %.4f), loss %.4f, F1 %.4f, AUROC %.4f",
        *(metrics["accuracy"], metrics["accuracy_low"], metrics["accuracy_high"]),
        *(metrics["loss"], metrics["f1"], metrics["auroc"]),
    )
    log.info("  %-18s %12s %12s", "", *(f"said {name}" for name in names))
    for name, counts in zip(
        names,
        (("true_negatives", "false_positives"), ("false_negatives", "true_positives")),
        strict=True,
    ):
        log.info("  %-18s %12d %12d", f"is {name}", *(metrics[count] for count in counts))
    if page is not None:
        scored = Scored(
            texts=reviews["text"],
            names=names,
            labels_N=encoded.labels_N.numpy(),
            logits_N=logits_N.double().numpy(),
            lengths_N=whole.lengths_N.numpy(),
            ratings_N=ratings_of(reviews),
            metrics=metrics,
        )
        commit = environment["git_commit"] or "unknown"
        source = data.path or data.test or data.train or (data.source and data.source.value)
        about = {
            "Checkpoint": config.checkpoint,
            "Test reviews": f"{len(reviews):,} of {source}",
            "Made on": time.strftime("%Y-%m-%d"),
            "Commit": f"{commit[:12]}{commit[40:]}",  # and whether files differ from it
        }
        write_report(page, scored, about, tokenizing, predictor.explain)
        log.info("the report is in %s", page)


def main() -> None:
    """Entry point of `sentiment-evaluate`."""
    cli.run(evaluate, "evaluate", EvaluateConfig)


if __name__ == "__main__":
    main()
