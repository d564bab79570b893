"""One run, front to back: reviews, tokenizer, model, training, and one test score at the end."""

import copy
import logging
import os
from pathlib import Path

from torch import Tensor

from sentiment.config import TrainConfig, flatten
from sentiment.lifecycle import (
    BEST,
    is_finished,
    record_environment,
    saver,
    settle_places,
    take_up,
)
from sentiment.loading import Data, learn_from, learn_ngrams, load_data
from sentiment.model.classifier import Classifier
from sentiment.model.embedding import build_embedding
from sentiment.model.ngrams import NGramFeatures
from sentiment.observer import Observer
from sentiment.report.journal import Journal
from sentiment.report.metrics import binary_metrics
from sentiment.report.progress import byte_progress
from sentiment.report.projector import remove_projector, write_projector
from sentiment.report.run import (
    METRICS,
    PREDICTIONS,
    recorded_hashes,
    write_metrics,
    write_predictions,
)
from sentiment.text.tokenizer import unknown_id
from sentiment.text.vectors import find_vectors
from sentiment.training.checkpoint import (
    Checkpoint,
    Saved,
    load_any,
    load_checkpoint,
    save_checkpoint,
)
from sentiment.training.classification import Classification, figures_of
from sentiment.training.inference import predict_logits, word_logits
from sentiment.training.loop import fit
from sentiment.training.optimizer import build_optimizer
from sentiment.training.processes import Processes
from sentiment.training.runtime import Runtime, memory_advice, prepare, seed_everything
from sentiment.training.state import PRIOR, Progress, Resumable, TrainingState
from sentiment.training.transfer import (
    adopt_settings,
    build_from,
    freeze,
    knows_what_is_drawn,
    ngrams_of,
    prior_sha256,
    require_no_frozen_noise,
    require_same_labels,
    require_same_reviews,
    require_same_split,
    shares_reviews,
)

log = logging.getLogger(__name__)


def run(config: TrainConfig, directory: Path, processes: Processes) -> None:
    """Train, choose and test, or do what is left of it, and leave the results in the directory.

    Args:
        config: as composed; what it leaves open is settled here.
        directory: the run directory.
        processes: that do this together; the first one writes.

    Raises:
        UserError: reviews, vectors or settings that cannot be used, training that diverged, or a
            run that cannot be resumed.
        Interrupted: by SIGTERM or Ctrl-C during training, after saving.
    """
    config, resumed = take_up(config, directory)
    if is_finished(resumed, config, directory):
        return
    runtime = prepare(config.runtime, processes=processes)
    seed_everything(config.seed)
    settle_places(config, runtime)
    source, prior = None, None
    if config.init_from is not None and (resumed is None or PRIOR in resumed.progress.data_sha256):
        config.init_from = os.path.abspath(os.path.expanduser(config.init_from))
        source = load_any(Path(config.init_from))
        prior = ngrams_of(source, config)
        if resumed is None:
            if knows_what_is_drawn(config, source):
                require_same_split(config, source, "init_from")
            require_no_frozen_noise(config, source)
            adopt_settings(config, source.config)
        else:
            resumed.require_reviews({PRIOR: prior_sha256(prior)})
    teacher = None
    if config.teacher is not None:
        config.teacher = os.path.abspath(os.path.expanduser(config.teacher))
        teacher = load_checkpoint(Path(config.teacher))
        if resumed is None and config.data.source is teacher.config.data.source:
            require_same_split(config, teacher, "teacher")

    with memory_advice(config):
        with processes.first_goes_first():
            vectors = None
            if resumed is None:
                with byte_progress("downloading word vectors") as show:
                    vectors = find_vectors(config.embeddings, runtime.cache_dir, show)
            loaded = source if resumed is None else resumed.checkpoint
            data = load_data(config, runtime, loaded)
        if resumed is None:
            prior = _require_fair(config, data.sha256, source, teacher, prior)
        if teacher is not None:
            data = learn_from(teacher, config, runtime, data)
        data = learn_ngrams(config.model, data, prior)
        if resumed is None:
            state = begin(config, runtime, data, source, vectors)
        else:
            state = go_on(config, runtime, data, resumed)
        record_environment(directory, runtime, data.sha256, is_new=resumed is None)
        metrics = _train_and_test(config, runtime, data, state, directory)

    log.info(
        "test accuracy %.4f (95 %% interval %.4f to %.4f), chosen by validation accuracy %.4f",
        *(metrics["test/accuracy"], metrics["test/accuracy_low"], metrics["test/accuracy_high"]),
        metrics["validation/accuracy"],
    )
    log.info("the run is in %s; see its curves, score it again, use it with", directory)
    log.info("  tensorboard --logdir %s", directory.parent.parent)
    log.info("  python -m sentiment.evaluate checkpoint=%s", directory)
    log.info("  python -m sentiment.predict --checkpoint %s", directory)


def _require_fair(
    config: TrainConfig,
    sha256: dict[str, str],
    source: Saved | None,
    teacher: Checkpoint | None,
    prior: NGramFeatures | None,
) -> NGramFeatures | None:
    """Compare this run's reviews, now that they are read, with what others have learned from.

    Returns:
        The prior, unless it was learned from these very reviews, under another path.

    Raises:
        UserError: labels that are set aside are known by now, or positive and negative are turned
            round.
    """
    for other, setting in ((source, "init_from"), (teacher, "teacher")):
        if isinstance(other, Checkpoint):
            if other is teacher or prior is not None:
                require_same_labels(config, other, setting)
            if shares_reviews(config, other.config):
                require_same_reviews(config, sha256, other, setting)
    if prior is None or source is None:
        return None
    if recorded_hashes(source.folder).get("train") != sha256["train"]:
        return prior
    log.info("%s has learned from the same reviews: n-grams are learned anew", source.folder)
    assert isinstance(source, Checkpoint)
    config.model.ngrams_size -= source.config.model.ngrams_size  # those of a prior
    return None


def begin(
    config: TrainConfig,
    runtime: Runtime,
    data: Data,
    source: Saved | None,
    vectors: Path | None,
) -> TrainingState[Classifier]:
    """The state of a run that has not trained yet.

    Args:
        config: gets the width of the word vectors.
        runtime: device and processes.
        data: vocabulary and training reviews.
        source: a checkpoint whose embedding and encoder to start from.
        vectors: a file of word vectors to start from.

    Raises:
        UserError: vectors or weights that cannot be used.
    """
    progress = Progress(data_sha256=data.sha256)
    if source is None:
        embedding, progress.coverage = build_embedding(
            config.embeddings, vectors, data.tokenizer.get_vocab(), data.train.ids
        )
        config.embeddings.dimension = embedding.embedding_dim
        model = Classifier(embedding, config.model)
    else:
        model = build_from(source, config.model)
        unknown = (data.train.ids == unknown_id(data.tokenizer)).float().mean().item()
        log.info(
            "starting from %s, %d layers of %d; %.1f %% of the tokens are unknown to it",
            *(source.folder, config.model.layers, config.model.hidden_size, 100 * unknown),
        )
    if data.ngrams is not None:
        model.ngrams = data.ngrams
    state = _state(config, runtime, model, progress)
    # The same weights in all processes, but masks of its own in each.
    if not runtime.processes.is_first:
        seed_everything(config.seed, runtime.processes.rank)
    return state


def go_on(
    config: TrainConfig, runtime: Runtime, data: Data, resumed: Resumable
) -> TrainingState[Classifier]:
    """The state in which a run stopped.

    Raises:
        UserError: other reviews, or a state that does not fit.
    """
    # What the run had and this one has not is other, too.
    resumed.require_reviews(dict.fromkeys(resumed.progress.data_sha256, "") | data.sha256)
    assert isinstance(resumed.checkpoint, Checkpoint)
    # Copied, for memory laid out as in a run that never stopped.
    model = copy.deepcopy(resumed.checkpoint.build_model())
    state = _state(config, runtime, model, resumed.progress)
    state.restore(resumed)
    return state


def _state(
    config: TrainConfig, runtime: Runtime, model: Classifier, progress: Progress
) -> TrainingState[Classifier]:
    freeze(model, config.model.freeze)
    model.to(runtime.device)
    optimizer = build_optimizer(model, config.optimizer)
    figures = figures_of(config.objective)
    return TrainingState(model, optimizer, progress, figures, runtime.processes)


def _train_and_test(
    config: TrainConfig,
    runtime: Runtime,
    data: Data,
    state: TrainingState[Classifier],
    directory: Path,
) -> dict[str, float]:
    """Train, score the test reviews once, and write the figures, which are returned."""
    progress, silent = state.progress, not runtime.processes.is_first
    if progress.best:
        load_checkpoint(directory)  # better refused now than after the last epoch
    if not silent:
        for name in (METRICS, PREDICTIONS):
            (directory / name).unlink(missing_ok=True)
        remove_projector(directory)
    with Journal(directory, progress.event_sizes, progress.update, silent) as journal:
        save = saver(directory, state, data.tokenizer, config, journal, runtime)
        observer = Observer(state.model, data.validation, data.tokenizer, data.label_names, journal)

        def observe(update: int, logits_N: Tensor | None) -> None:
            if not silent:
                observer(update, logits_N)

        reviews = (data.train, data.validation)
        task = Classification(state.model, *reviews, config, runtime, observe, data.unlabelled)
        fit(state, task, config, runtime, journal, save)
        # From here on nothing is chosen any more: the test reviews are scored once.
        best = load_checkpoint(directory)
        model = best.build_model().to(runtime.device)
        logits_N = predict_logits(model, data.test, runtime)
        tested = binary_metrics(logits_N, data.test.labels_N)
        update = int(best.metrics["update"])
        journal.scalars("test", tested, update)
        journal.evaluation("test", logits_N, data.test.labels_N, data.label_names, update)
        figures = {f"test/{name}": value for name, value in tested.items()}
        metrics = best.metrics | figures | progress.coverage
        journal.hyperparameters(flatten(config))
        logits_V = word_logits(model, runtime)
    if not silent:
        vectors_VE = model.embedding.weight.detach().cpu()
        write_projector(directory, data.tokenizer, vectors_VE, logits_V, data.train.ids)
        # Once more, with the test figures, in metrics and card.
        folder, saved = directory / BEST, (best.tokenizer, best.config, metrics)
        save_checkpoint(folder, model, *saved, data_sha256=data.sha256)
        write_predictions(directory, logits_N, data.test.labels_N, best.label_names)
        write_metrics(directory, metrics)
    return metrics
