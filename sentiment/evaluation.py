"""An evaluation, front to back: what is read, scored, calibrated, written and said."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sentiment.config import THRESHOLD, DataConfig, DataSource, EvaluateConfig
from sentiment.data.encoding import encode, fingerprint
from sentiment.data.reviews import column_of, label_names, load_splits, load_test, ratings_of
from sentiment.errors import UserError
from sentiment.report.breakdown import Share, by_length, by_value
from sentiment.report.card import TEMPERATURE
from sentiment.report.html import Scored, refuse_unwritable, write_report
from sentiment.report.metrics import binary_metrics
from sentiment.report.run import (
    SLICES,
    recorded_hashes,
    write_environment,
    write_metrics,
    write_predictions,
    write_slices,
)
from sentiment.training.attribution import load_captum
from sentiment.training.calibration import best_threshold, divide_logits, fit_temperature
from sentiment.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sentiment.training.inference import predict_logits
from sentiment.training.predictor import SentimentPredictor
from sentiment.training.runtime import Runtime, describe_environment, prepare

log = logging.getLogger(__name__)

QUARTERS = 4
OTHERS = "tested on"
"""Name of the hash of test reviews that are not those of the checkpoint's run."""
MOST_SLICES = 20
"""Values of a column that the log lists."""


def run(config: EvaluateConfig, directory: Path) -> None:
    """Print a checkpoint's figures, and write them to a directory.

    Args:
        config: every setting.
        directory: of this evaluation.

    Raises:
        UserError: a checkpoint or reviews that cannot be read.
    """
    page = None if config.report is None else Path(os.path.expanduser(config.report))
    if page is not None:
        refuse_unwritable(page)
        load_captum()
    checkpoint = load_checkpoint(Path(os.path.expanduser(config.checkpoint)))
    runtime = prepare(config.runtime, trained_in=checkpoint.config.runtime.precision)
    data = _data(config.data, checkpoint.config.data)
    reviews = load_test(data, checkpoint.config.split)
    column = [] if config.slice_by is None else column_of(reviews, config.slice_by)
    names, data_sha256 = label_names(reviews), fingerprint(reviews)
    recorded = recorded_hashes(checkpoint.folder)
    recorded.pop(OTHERS, None)
    is_its_own = _is_its_own(checkpoint, data, data_sha256, recorded.get("test"))
    fitted: dict[str, float] = {}
    if config.calibrate:
        places = _places(checkpoint.config.data, data, is_its_own)
        checkpoint, fitted = _calibrate(checkpoint, places, runtime, recorded.get("validation"))

    tokenizing = checkpoint.config.tokenizer
    whole = encode(reviews, data_sha256, checkpoint.tokenizer, runtime.cache_dir)
    encoded = whole.truncate(tokenizing.max_length, tokenizing.truncation_side)
    hashes = recorded | {"test" if is_its_own else OTHERS: data_sha256}
    environment = describe_environment(runtime) | {"data_sha256": hashes}
    write_environment(directory, environment)
    predictor = SentimentPredictor(checkpoint, runtime)
    logits_N = predict_logits(predictor.model, encoded, runtime)
    metrics = binary_metrics(logits_N, encoded.labels_N)
    tagged = {f"test/{name}": value for name, value in metrics.items()}
    write_predictions(directory, logits_N, encoded.labels_N, names)
    write_metrics(directory, tagged)
    log.info("%s on %d test reviews:", checkpoint.folder, metrics["reviews"])
    _say(metrics, names)
    is_right_N = ((torch.sigmoid(logits_N) > THRESHOLD) == (encoded.labels_N == 1)).numpy()
    slices = {"tokens": by_length(whole.lengths_N.numpy(), is_right_N, QUARTERS)}
    if config.slice_by is not None:
        slices[config.slice_by] = by_value(column, is_right_N)
    write_slices(directory, slices)
    _say_slices(slices, directory / SLICES)
    if fitted:
        save_checkpoint(
            directory / "checkpoints" / "best",
            *(predictor.model, checkpoint.tokenizer, checkpoint.config),
            checkpoint.metrics | fitted | (tagged if is_its_own else {}),
            data_sha256=hashes,
        )
        log.info("with the calibrated checkpoint:")
        log.info("  python -m sentiment.predict --checkpoint %s", directory)
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


def _data(asked: DataConfig, trained_on: DataConfig) -> DataConfig:
    """The reviews that are asked for; by default those of the checkpoint's run."""
    if asked.source is None:
        return replace(trained_on, **_given(asked))
    if asked.source is trained_on.source is DataSource.files:
        inherited = ("negative", "positive", "group_column", "drop_empty")
        return replace(
            asked, **{name: getattr(asked, name) or getattr(trained_on, name) for name in inherited}
        )
    return asked


def _given(data: DataConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(data).items() if value}


def _is_its_own(
    checkpoint: Checkpoint, data: DataConfig, sha256: str, recorded: str | None
) -> bool:
    """Whether test reviews are those of the checkpoint's run.

    Args:
        checkpoint: knows what it was trained on.
        data: where the reviews come from.
        sha256: their hash.
        recorded: that of the run's, where it is known.

    Raises:
        UserError: they were set aside from a file that has changed, or is another one.
    """
    trained = checkpoint.config.data
    if not data.source is trained.source is DataSource.files:
        # IMDB is the same wherever it lies, though a copy may have another order.
        return data.source is trained.source
    is_its_own = data.test == trained.test if recorded is None else sha256 == recorded
    if data.test is None and not is_its_own:
        raise UserError(
            f"{data.train} has changed since {checkpoint.folder} was trained, or is another file: "
            "which of its reviews were set aside for the test is lost; give others with "
            "data.test=FILE"
        )
    return is_its_own


def _places(trained: DataConfig, data: DataConfig, is_its_own: bool) -> DataConfig:
    """What a run was trained with, where it is now, as far as other reviews' settings say so."""
    if data.source is not trained.source:
        return trained
    given = _given(data)
    names = ("path", "train", "validation", *(["test"] if is_its_own else []))
    return replace(trained, **{name: given[name] for name in names if name in given})


def _calibrate(
    checkpoint: Checkpoint, data: DataConfig, runtime: Runtime, recorded: str | None
) -> tuple[Checkpoint, dict[str, float]]:
    """Fit the temperature on the validation reviews of the checkpoint's run.

    Args:
        checkpoint: whose logits to divide.
        data: that it was trained with, where it is now.
        runtime: where to compute.
        recorded: hash of these reviews in training, where it is known.

    Returns:
        The calibrated checkpoint, and its figures on these reviews with the temperature.

    Raises:
        UserError: reviews that cannot be read, were not set aside in training, or that no
            temperature fits.
    """
    config = checkpoint.config
    texts = load_splits(data, config.split)["validation"]
    sha256 = fingerprint(texts)
    if data.source is DataSource.files and recorded not in (None, sha256):
        raise UserError(
            f"calibrate needs the validation reviews of the run of {checkpoint.folder}, and finds "
            "others: its data has changed or is not what was given; give the same, or "
            "calibrate=false"
        )
    validation = encode(texts, sha256, checkpoint.tokenizer, runtime.cache_dir)
    validation = validation.truncate(config.tokenizer.max_length, config.tokenizer.truncation_side)
    labels_N = validation.labels_N
    logits_N = predict_logits(checkpoint.build_model().to(runtime.device), validation, runtime)
    temperature = fit_temperature(logits_N, labels_N)
    calibrated_N = logits_N / temperature
    before, after = (binary_metrics(logits, labels_N) for logits in (logits_N, calibrated_N))
    threshold, accuracy = best_threshold(calibrated_N, labels_N)
    log.info("on %d validation reviews, with logits divided by %.3f:", len(texts), temperature)
    for name in ("loss", "calibration_error"):
        log.info("  %s %.4f, before %.4f", name.replace("_", " "), after[name], before[name])
    log.info(
        "  accuracy %.4f; with the threshold %.3f in the place of %.1f it would be highest, %.4f",
        *(after["accuracy"], threshold, THRESHOLD, accuracy),
    )
    figures = {f"validation/{name}": value for name, value in after.items()}
    figures[TEMPERATURE] = temperature * checkpoint.metrics.get(TEMPERATURE, 1.0)
    calibrated = divide_logits(checkpoint, temperature)
    # The old figures on the test reviews are of other probabilities.
    kept = {name: v for name, v in checkpoint.metrics.items() if not name.startswith("test/")}
    return replace(calibrated, metrics=kept), figures


def _say(metrics: Mapping[str, float], names: tuple[str, str]) -> None:
    log.info(
        "  accuracy %.4f (95 %% interval %.4f to %.4f), loss %.4f, F1 %.4f, AUROC %.4f, "
        "calibration error %.4f",
        *(metrics["accuracy"], metrics["accuracy_low"], metrics["accuracy_high"]),
        *(metrics["loss"], metrics["f1"], metrics["auroc"], metrics["calibration_error"]),
    )
    log.info("  %-18s %12s %12s", "", *(f"said {name}" for name in names))
    for name, counts in zip(
        names,
        (("true_negatives", "false_positives"), ("false_negatives", "true_positives")),
        strict=True,
    ):
        log.info("  %-18s %12d %12d", f"is {name}", *(metrics[count] for count in counts))


def _say_slices(slices: Mapping[str, Sequence[Share]], file: Path) -> None:
    for by, shares in slices.items():
        log.info("  accuracy by %s:", by)
        for part in shares[:MOST_SLICES]:
            log.info("    %-16.16s %.4f of %d", part.name, part.value, part.total)
        if len(shares) > MOST_SLICES:
            log.info("    and %d more in %s", len(shares) - MOST_SLICES, file)
