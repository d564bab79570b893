"""One run of pretraining, front to back: texts, tokenizer, language model, training, perplexity."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import concatenate_datasets
from tokenizers import Tokenizer

from sentiment.config import PretrainConfig, flatten
from sentiment.data.encoded import EncodedTexts
from sentiment.data.encoding import encode, fingerprint, without_labels
from sentiment.data.reviews import load_splits, load_unlabelled
from sentiment.errors import UserError
from sentiment.lifecycle import is_finished, record_environment, saver, settle_places, take_up
from sentiment.model.embedding import build_embedding
from sentiment.model.language_model import LanguageModel
from sentiment.report.journal import Journal
from sentiment.report.progress import byte_progress
from sentiment.report.run import METRICS, write_metrics
from sentiment.text.tokenizer import build_tokenizer
from sentiment.text.vectors import find_vectors
from sentiment.training.checkpoint import Pretrained
from sentiment.training.language import Language
from sentiment.training.loop import fit
from sentiment.training.optimizer import build_optimizer
from sentiment.training.processes import Processes
from sentiment.training.runtime import Runtime, memory_advice, prepare, seed_everything
from sentiment.training.state import Progress, TrainingState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Texts:
    """What is read, as token ids, and what turned it into these."""

    tokenizer: Tokenizer
    train: EncodedTexts
    held_out: EncodedTexts
    sha256: dict[str, str]


def run(config: PretrainConfig, directory: Path, processes: Processes) -> None:
    """Train a language model, or do what is left of it, and leave the results in the directory.

    Args:
        config: as composed; what it leaves open is settled here.
        directory: the run directory.
        processes: that do this together; the first one writes.

    Raises:
        UserError: texts, vectors or settings that cannot be used, training that diverged, or a run
            that cannot be resumed.
        Interrupted: by SIGTERM or Ctrl-C during training, after saving.
    """
    config, resumed = take_up(config, directory)
    if is_finished(resumed, config, directory):
        return
    runtime = prepare(config.runtime, processes=processes)
    seed_everything(config.seed)
    settle_places(config, runtime)

    with memory_advice(config):
        with processes.first_goes_first():
            vectors = None
            if resumed is None:
                with byte_progress("downloading word vectors") as show:
                    vectors = find_vectors(config.embeddings, runtime.cache_dir, show)
            loaded = resumed.checkpoint.tokenizer if resumed is not None else None
            texts = load_texts(config, runtime, loaded)
        if resumed is None:
            progress = Progress(data_sha256=texts.sha256)
            embedding, progress.coverage = build_embedding(
                config.embeddings, vectors, texts.tokenizer.get_vocab(), texts.train.ids
            )
            config.embeddings.dimension = embedding.embedding_dim
            model = LanguageModel(embedding, config.model)
            model.start_from(texts.train.ids)
        else:
            assert isinstance(resumed.checkpoint, Pretrained)
            resumed.require_reviews(texts.sha256)
            progress = resumed.progress
            model = resumed.checkpoint.build_model()
        model.to(runtime.device)
        task = Language(model, texts.train, texts.held_out, config, runtime)
        optimizer = build_optimizer(model, config.optimizer)
        state = TrainingState(model, optimizer, progress, task.figures, processes)
        if resumed is not None:
            state.restore(resumed)
        elif not processes.is_first:
            # The same weights in all processes, but masks of its own in each.
            seed_everything(config.seed, processes.rank)
        record_environment(directory, runtime, texts.sha256, is_new=resumed is None)

        if processes.is_first:
            (directory / METRICS).unlink(missing_ok=True)
        silent = not processes.is_first
        with Journal(directory, progress.event_sizes, progress.update, silent) as journal:
            save = saver(directory, state, texts.tokenizer, config, journal, runtime)
            fit(state, task, config, runtime, journal, save)
            journal.hyperparameters(flatten(config))
    if processes.is_first:
        write_metrics(directory, progress.best | progress.coverage)
    for name in task.columns[1:]:
        log.info("%s %.1f", name.replace("_", " "), progress.best[f"validation/{name}"])
    log.info("the run is in %s; see its curves, start a classifier from it with", directory)
    log.info("  tensorboard --logdir %s", directory.parent.parent)
    log.info("  python -m sentiment.train init_from=%s", directory)


def load_texts(config: PretrainConfig, runtime: Runtime, tokenizer: Tokenizer | None) -> Texts:
    """Read and encode the texts: those to train on and the unlabelled ones, and those held out.

    The latter are the validation reviews of the classifier to be. Test reviews are read for one
    purpose, to drop the texts that also stand there.

    Args:
        config: which texts.
        runtime: where caches lie.
        tokenizer: to take in place of a new one.

    Raises:
        UserError: texts or a tokenizer that cannot be used.
    """
    splits = load_splits(config.data, config.split)
    unlabelled = load_unlabelled(config.data, splits)
    # No label gets any further.
    parts = [splits["train"].select_columns(["text"]), unlabelled]
    train = without_labels(concatenate_datasets(parts))
    held_out = without_labels(splits["validation"])
    sha256 = {"train": fingerprint(train), "validation": fingerprint(held_out)}
    if tokenizer is None:
        batches = (part["text"] for part in train.iter(10_000))
        tokenizer = build_tokenizer(batches, sha256["train"], config.tokenizer, runtime.cache_dir)
    limits = (config.tokenizer.max_length, config.tokenizer.truncation_side)
    encoded = []
    for name, texts in (("train", train), ("validation", held_out)):
        found = encode(texts, sha256[name], tokenizer, runtime.cache_dir).truncate(*limits)
        # In a single token there is nothing to predict.
        encoded.append(found.select(np.flatnonzero(found.lengths_N.numpy() > 1)))
        if len(encoded[-1]) == 0:
            raise UserError(f"no {name} text has more than one token, expected some")
    log.info(
        "%d texts to train on, %d of them without labels, and %d held out; vocabulary of %d",
        *(len(encoded[0]), len(unlabelled), len(encoded[1]), tokenizer.get_vocab_size()),
    )
    read: EncodedTexts = encoded[0]
    if config.language.span is not None:
        read = read.cut(config.language.span)
    return Texts(tokenizer, read, encoded[1], sha256)
