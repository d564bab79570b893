"""The card of a model, as the Hugging Face hub lays it out: front matter for machines, then words.

It says no more than the settings and the figures do, and holds no path of the machine that wrote
it.
"""

from collections.abc import Iterator, Mapping

import yaml
from huggingface_hub import EvalResult, ModelCardData

from sentiment.config import (
    HUB_ID,
    LABEL_NAMES,
    REVISION,
    THRESHOLD,
    DataConfig,
    DataSource,
    EmbeddingSource,
    RunConfig,
    SplitKind,
    TrainConfig,
    TruncationSide,
    flatten,
)

CARD = "README.md"
SPLITS = ("validation", "test")
COLUMNS = ("accuracy", "accuracy_low", "accuracy_high", "loss", "f1", "auroc")
TEMPERATURE = "validation/temperature"
"""Figure of a calibrated checkpoint: what its logits were divided by."""
HUB_METRICS = {"accuracy": "accuracy", "f1": "f1", "auroc": "roc_auc"}
GROUPS = (
    *("seed", "split", "tokenizer", "embeddings", "model", "language", "objective"),
    *("optimizer", "trainer"),
)
"""Settings that the weights depend on."""
PLACES = ("tokenizer.path", "embeddings.path", "embeddings.url")

DATA = {
    DataSource.imdb: (
        f"[IMDB](https://huggingface.co/datasets/{HUB_ID}) (Maas et al., 2011): reviews of films, "
        "in English, rated 1 to 4 (negative) or 7 to 10 (positive) by those who wrote them"
    ),
    DataSource.sample: "the made-up English reviews that come with the code, for trying it out",
    DataSource.files: "texts of the user's own, which this card knows no more of",
}
LICENCES = {
    DataSource.imdb: (
        "The weights are derived from the training data, so its terms apply to them: the reviews "
        "are IMDb's users', and the authors of the data set ask to be cited (Maas et al., "
        "*Learning Word Vectors for Sentiment Analysis*, ACL 2011)."
    ),
    DataSource.sample: "So are the made-up reviews that the weights are derived from.",
    DataSource.files: (
        "The weights are derived from the training data, so the terms of that data apply to them."
    ),
}
CHECKPOINT_USE = """\
With the code of the project installed, and this folder as `DIR`:

```bash
python -m sentiment.predict --checkpoint DIR "I loved it." "What a bore."
```

```python
from sentiment import SentimentPredictor

predictor = SentimentPredictor.load("DIR")
for label, probability in predictor(["I loved it.", "What a bore."]):
    print(label, probability)
```"""


def model_card(
    config: TrainConfig,
    metrics: Mapping[str, float],
    data_sha256: Mapping[str, str],
    use: str = CHECKPOINT_USE,
) -> str:
    """Write the card of some weights.

    Args:
        config: settings of their run.
        metrics: their figures by TensorBoard tag; test figures where they are known.
        data_sha256: hash of each split, as far as it is known.
        use: how to load what the card lies beside.

    Returns:
        Markdown behind front matter in YAML.
    """
    sections = {
        "Labels": _labels(config.data),
        "Figures": _figures(config, metrics),
        "Data": data_section(config.data, data_sha256),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(config, metrics)),
        "Licence": licence(config.data),
        "Use": use,
        "Settings": settings_section(config),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    front = _front_matter(config, metrics).to_yaml()
    return f"---\n{front}\n---\n\n# {_name(config)}\n\n{_summary(config)}\n\n{body}\n"


def _source(config: TrainConfig) -> DataSource:
    assert config.data.source is not None
    return config.data.source


def _name(config: TrainConfig) -> str:
    cell, source = config.model.cell.value, _source(config)
    of = "" if source is DataSource.files else f"-{source.value}"
    return ("bi" if config.model.bidirectional else "") + cell + of


def _front_matter(config: TrainConfig, metrics: Mapping[str, float]) -> ModelCardData:
    source = _source(config)
    own_terms = source is not DataSource.sample
    return ModelCardData(
        language="en" if source is not DataSource.files else None,
        license="other" if own_terms else "mit",
        license_name="terms-of-the-training-data" if own_terms else None,
        library_name="sentiment",
        pipeline_tag="text-classification",
        tags=["sentiment-analysis", config.model.cell.value, "pytorch"],
        datasets=[HUB_ID] if source is DataSource.imdb else None,
        metrics=list(HUB_METRICS.values()),
        model_name=_name(config),
        eval_results=list(_results(config, metrics)) or None,
    )


def _results(config: TrainConfig, metrics: Mapping[str, float]) -> Iterator[EvalResult]:
    source = _source(config)
    from_hub = source is DataSource.imdb and config.data.path is None
    for split in _scored(metrics):
        # Validation reviews are part of the hub's training split.
        within = source is not DataSource.files and split == "validation"
        for name, metric in HUB_METRICS.items():
            yield EvalResult(
                task_type="text-classification",
                dataset_type=HUB_ID if source is DataSource.imdb else source.value,
                dataset_name=f"{source.value}, {split} reviews",
                dataset_split="train" if within else split,
                dataset_revision=REVISION if from_hub else None,
                metric_type=metric,
                metric_name=f"{split} {name}",
                metric_value=metrics[f"{split}/{name}"],
            )


def _scored(metrics: Mapping[str, float]) -> list[str]:
    return [split for split in SPLITS if f"{split}/reviews" in metrics]


def _summary(config: TrainConfig) -> str:
    model, tokenizing = config.model, config.tokenizer
    tokens = {"word": "words"}.get(tokenizing.model.value, "pieces of words")
    if tokenizing.path is not None:
        tokens = "the tokens of a tokenizer that was given"
    reads = f"{tokens} as vectors of {config.embeddings.dimension}"
    if model.ngrams > 0:
        reads += f", and what the training labels say of n-grams of up to {model.ngrams} tokens"
    began = ""
    if config.embeddings.source is EmbeddingSource.glove:
        began += " The vectors began as pretrained ones, whose terms apply as well."
    if config.init_from is not None:
        began += " Training began from the weights of another run, whose data is not named here."
    if config.teacher is not None:
        began += " Most of its training texts had no label but what another model said of them."
    return (
        "Tells positive from negative texts. A recurrent network reads "
        f"{reads}, in {model.layers} {'bidirectional ' * model.bidirectional}"
        f"{model.cell.value.upper()} layer{'s' * (model.layers > 1)} of {model.hidden_size} units "
        "per direction, reduced by "
        f"{' and '.join(pooling.value for pooling in model.pooling)} pooling to one logit.{began}"
    )


def _labels(data: DataConfig) -> str:
    names = (data.negative or LABEL_NAMES[0], data.positive or LABEL_NAMES[1])
    rows = "\n".join(f"| {label} | {_code(name)} |" for label, name in enumerate(names))
    return (
        f"| id | name |\n| --- | --- |\n{rows}\n\n"
        f"The label is {_code(names[1])} where its probability is above {THRESHOLD}."
    )


def _figures(config: TrainConfig, metrics: Mapping[str, float]) -> str:
    rows = [
        f"| {split} | {metrics[f'{split}/reviews']:.0f} "
        + "".join(f"| {metrics[f'{split}/{name}']:.4f} " for name in COLUMNS)
        + "|"
        for split in _scored(metrics)
    ]
    header = "| reviews | number | accuracy | 95 % from | to | loss | F1 | AUROC |\n"
    table = header + "| --- " * 8 + "|\n" + "\n".join(rows) if rows else "None yet."
    return "\n\n".join([table, _protocol(config, metrics)])


def _protocol(config: TrainConfig, metrics: Mapping[str, float]) -> str:
    split = config.split
    validation = "a file of their own"
    if config.data.validation is None:
        grouped = split.kind is SplitKind.grouped
        if config.data.source is DataSource.files:
            grouped = config.data.group_column is not None
        drawn = "in groups that belong together" if grouped else "one by one"
        validation = (
            f"a share of {split.validation_fraction} of the training reviews, drawn {drawn} "
            f"(`split.seed={split.seed}`)"
        )
    labelled = split.labelled
    sentences = [] if labelled is None else [f"Of the training reviews {labelled} had a label."]
    sentences += [
        f"Validation reviews are {validation}; a text of several splits is kept in one only.",
        f"Of at most {config.trainer.epochs} epochs a run keeps the one with the highest "
        "validation accuracy, and of equals the one with the lowest loss; its validation figures "
        "flatter it a little.",
    ]
    if "epoch" in metrics:
        sentences.append(f"These are the weights after epoch {metrics['epoch']:.0f}.")
    sentences.append(
        "The test reviews were scored after that choice, with the chosen weights."
        if "test/reviews" in metrics
        else "The test reviews have not been scored with these weights."
    )
    sentences.append(
        "Nothing is learned or chosen by test labels. Intervals (Wilson, 1927) are for which "
        "reviews were drawn; other seeds move the figures, too."
    )
    return " ".join(sentences)


def data_section(data: DataConfig, data_sha256: Mapping[str, str]) -> str:
    """What was learned from, and the hash of each split as far as it is known."""
    assert data.source is not None
    lines = [f"Trained on {DATA[data.source]}."]
    if data_sha256:
        lines += ["", "| split | SHA-256 of its texts and labels |", "| --- | --- |"]
        lines += [f"| {name} | `{digest}` |" for name, digest in data_sha256.items()]
    return "\n".join(lines)


def _limits(config: TrainConfig, metrics: Mapping[str, float]) -> Iterator[str]:
    source, tokenizing, model = _source(config), config.tokenizer, config.model
    if source is DataSource.imdb:
        yield "It has read reviews of films, in English. On anything else it has not been measured."
        yield "There is no neutral label: reviews rated 5 or 6 are not in the data."
    elif source is DataSource.sample:
        yield "It has read a few made-up sentences, and is of no use for real texts."
    else:
        yield "On texts of another kind than those it was trained on it has not been measured."
    if tokenizing.max_length is not None:
        left = tokenizing.truncation_side is TruncationSide.left
        end = "last" if left else "first"
        yield f"It reads the {end} {tokenizing.max_length} tokens of a text, and no others."
    yield "Words that its vocabulary lacks are all the same to it; that holds for other languages."
    if model.ngrams > 0:
        yield (
            "N-grams, names of people included, count for what the training reviews that hold them "
            "were labelled."
        )
        yield (
            "Its vocabulary and its tables of n-grams tell words, and sequences of up to "
            f"{model.ngrams} tokens, of the training reviews: do not publish it where those are "
            "private."
        )
    else:
        yield "Its vocabulary tells words of the training reviews."
    weight = config.objective.pos_weight
    if weight not in ("1", "1.0"):
        yield f"Positive reviews weighed {weight} in the loss, which moves its probabilities."
    if TEMPERATURE in metrics:
        yield (
            f"Its logits were divided by {metrics[TEMPERATURE]:.3f} after training, which gives "
            "the validation reviews their lowest loss (temperature scaling, Guo et al., 2017)."
        )
    else:
        yield "Its probabilities are as training left them; nothing was done to calibrate them."


def licence(data: DataConfig) -> str:
    """Terms of code and weights."""
    assert data.source is not None
    return f"The code is under the MIT licence. {LICENCES[data.source]}"


def settings_section(config: RunConfig) -> str:
    """The settings that the weights depend on, as YAML."""
    values = {
        name: value
        for name, value in flatten(config).items()
        if name.partition(".")[0] in GROUPS and name not in PLACES and value is not None
    }
    return f"```yaml\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}```"


def _code(name: str) -> str:
    """A user's word in Markdown, as it is, whatever signs it has."""
    plain = "".join(sign if sign.isprintable() and sign not in "`|" else " " for sign in name)
    return f"`{plain}`"
