"""The linear yardstick: bags of n-grams on the same splits, python scripts/baselines.py MODEL.

    python scripts/baselines.py nb-lr data.path=DIR [split.seed=S] [seed=S]

`tfidf-lr-unigrams` and `tfidf-lr` are logistic regression on TF-IDF; `nb-lr` has naive Bayes
log-count ratios in place of TF-IDF (Wang & Manning, 2012). Validation chooses how long n-grams may
be and the regularisation, then the test reviews are scored once, and a raw file goes to
`results/NAME/`. The seed orders the solver's steps, which hardly matters; `split.seed` takes other
reviews for validation.
"""

import argparse
import re
import shlex
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from datasets import Dataset
from scipy.sparse import csr_matrix, diags_array
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from torch import Tensor

from sentiment import cli
from sentiment.config import TrainConfig
from sentiment.data.encoding import fingerprint
from sentiment.data.reviews import labels_of, load_splits, take_labelled
from sentiment.errors import UserError
from sentiment.report.metrics import binary_metrics
from sentiment.report.result import (
    Result,
    describe_split,
    require_same_command,
    result_path,
    without_places,
    write_result,
)
from sentiment.training.runtime import describe_environment, prepare

RESULTS = Path("results")
WORD = r"\w+|[^\w\s]"
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # C in scikit-learn: the inverse
SHOWN = ("longest_ngram", "C", "validation/loss", "validation/accuracy")


class LogCountRatio:
    """Which of V n-grams a review has, each by how much more often positive reviews have it.

    Attributes:
        ratio_V: log((p / |p|) / (q / |q|)), where p and q are 1 more than the number of positive
            and of negative reviews that have the n-gram.
    """

    def fit(self, counts_NV: csr_matrix, labels_N: Any) -> Self:
        """Learn the ratios from training reviews and their labels 0 or 1."""
        logs_2V = MultinomialNB(alpha=1).fit(counts_NV > 0, labels_N).feature_log_prob_
        self.ratio_V = logs_2V[1] - logs_2V[0]
        return self

    def transform(self, counts_NV: csr_matrix) -> csr_matrix:
        """Weigh the n-grams of reviews."""
        return ((counts_NV > 0) @ diags_array(self.ratio_V)).tocsr()


MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "tfidf-lr-unigrams": (partial(TfidfTransformer, sublinear_tf=True), (1,)),
    "tfidf-lr": (partial(TfidfTransformer, sublinear_tf=True), (1, 2, 3)),
    "nb-lr": (LogCountRatio, (1, 2, 3)),
}
"""What becomes of the counts, and how long the longest n-grams may be."""


class Choice(NamedTuple):
    """All settings that were tried, and the best: fitted, and with its validation figures."""

    history: list[dict[str, float]]
    vectorizer: CountVectorizer
    weighting: Any
    classifier: LogisticRegression
    metrics: dict[str, float]

    def logits(self, texts: list[str]) -> Tensor:
        """Logit of every text, float64."""
        features_NV = self.weighting.transform(self.vectorizer.transform(texts))
        return torch.from_numpy(self.classifier.decision_function(features_NV))


def choose(model: str, train: Dataset, validation: Dataset, seed: int) -> Choice:
    """Fit all settings on the training reviews; the best has the highest validation accuracy.

    Of several it is the one with the lowest loss, as of the epochs of a run.
    """
    make_weighting, lengths = MODELS[model]
    labels_N, validation_labels_N = labels_of(train), torch.tensor(labels_of(validation))
    best: Any = None
    history: list[dict[str, float]] = []
    for longest in lengths:
        vectorizer = CountVectorizer(ngram_range=(1, longest), token_pattern=WORD)
        weighting = make_weighting()
        counts_NV = vectorizer.fit_transform(train["text"][:])
        train_NV = weighting.fit(counts_NV, labels_N).transform(counts_NV)
        validation_NV = weighting.transform(vectorizer.transform(validation["text"][:]))
        for strength in STRENGTHS:
            classifier = LogisticRegression(
                C=strength, solver="liblinear", dual=True, max_iter=1000, random_state=seed
            ).fit(train_NV, labels_N)
            logits_N = torch.from_numpy(classifier.decision_function(validation_NV))
            found = binary_metrics(logits_N, validation_labels_N)
            metrics = {"longest_ngram": longest, "C": strength}
            metrics |= {f"validation/{name}": value for name, value in found.items()}
            history.append({name: metrics[name] for name in SHOWN})
            print(*(f"{name} {value:.4g}" for name, value in history[-1].items()), flush=True)
            rank = (found["accuracy"], -found["loss"])
            if best is None or rank > best[0]:
                best = rank, (vectorizer, weighting, classifier, metrics)
    return Choice(history, *best[1])


def measure(model: str, config: TrainConfig, command: str) -> Result:
    """Choose on validation, then score the test reviews once."""
    environment = describe_environment(prepare(config.runtime)) | {"precision": "float64"}
    environment["packages"] |= {name: version(name) for name in ("scikit-learn", "scipy")}
    splits = load_splits(config.data, config.split)
    splits["train"], _ = take_labelled(splits["train"], config.split)
    environment["data_sha256"] = {name: fingerprint(part) for name, part in splits.items()}
    started = time.monotonic()
    choice = choose(model, splits["train"], splits["validation"], config.seed)
    # From here on nothing is chosen any more.
    test = splits["test"]
    logits_N, labels_N = choice.logits(test["text"][:]), torch.tensor(labels_of(test))
    found = binary_metrics(logits_N, labels_N)
    return Result(
        command=command,
        seed=config.seed,
        split=describe_split(config.split),
        environment=environment,
        history=choice.history,
        metrics=choice.metrics | {f"test/{name}": value for name, value in found.items()},
        seconds=round(time.monotonic() - started),
        right_N=((logits_N > 0) == labels_N).numpy(),
    )


def main() -> None:
    """Parse the command line, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("--name", help="of the row in results/ (that of the model)")
    parser.add_argument("overrides", nargs="*", help="data.path=DIR split.seed=S split.kind=random")
    arguments = parser.parse_intermixed_args()
    with cli.one_line_errors():
        for override in arguments.overrides:
            if not re.match(r"(data|split)[.=]|seed=", override):
                raise UserError(f"{override}: expected settings of data and split, or the seed")
        config = cli.compose_train([*arguments.overrides, "runtime.threads=1"])
        name = arguments.name or arguments.model
        raw = result_path(RESULTS, name, config.seed, config.split.seed)
        shown = without_places(arguments.overrides)
        command = shlex.join(["python", "scripts/baselines.py", arguments.model, *shown])
        require_same_command(RESULTS, name, command)
        if raw.exists():
            print(f"{raw} is there")
            return
        result = measure(arguments.model, config, command)
        write_result(RESULTS, name, result)
    metrics = result.metrics
    print(f"test accuracy {metrics['test/accuracy']:.4f}, chosen by validation accuracy ", end="")
    print(f"{metrics['validation/accuracy']:.4f}; {raw} is written")


if __name__ == "__main__":
    main()
