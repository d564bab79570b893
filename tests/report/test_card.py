import re

import pytest
from huggingface_hub import ModelCard

from sentiment.config import EmbeddingSource
from sentiment.report.card import model_card
from tests.conftest import compose_train

FIGURES = {
    "accuracy": 0.8125,
    "accuracy_low": 0.75,
    "accuracy_high": 0.875,
    "loss": 0.25,
    "f1": 0.8,
    "auroc": 0.9,
    "reviews": 400,
}
VALIDATED = {f"validation/{name}": value for name, value in FIGURES.items()}
TESTED = {f"test/{name}": value / 2 for name, value in FIGURES.items()}
AT = {"epoch": 3, "update": 120}
SHA256 = {"train": "1" * 64, "validation": "2" * 64, "test": "3" * 64}


def test_the_front_matter_gives_the_figures_to_the_hub() -> None:
    metrics = VALIDATED | AT | TESTED
    card = ModelCard(model_card(compose_train("data=imdb"), metrics, SHA256))
    assert card.data.datasets == ["stanfordnlp/imdb"]
    assert card.data.license == "other"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.eval_results is not None
    found = {
        (result.dataset_name, result.metric_type): (result.dataset_split, result.metric_value)
        for result in card.data.eval_results
    }
    names = {"accuracy": "accuracy", "f1": "f1", "roc_auc": "auroc"}
    # The hub's data set has no validation split: those reviews are of its training split.
    assert found == {
        (f"imdb, {split} reviews", metric): (
            "train" if split == "validation" else split,
            metrics[f"{split}/{name}"],
        )
        for split in ("validation", "test")
        for metric, name in names.items()
    }
    assert "| validation | 400 | 0.8125 | 0.7500 | 0.8750 | 0.2500 | 0.8000 | 0.9000 |" in card.text
    assert "| test | 200 | 0.4062 | 0.3750 | 0.4375 | 0.1250 | 0.4000 | 0.4500 |" in card.text
    assert "weights after epoch 3" in card.text
    assert all(digest in card.text for digest in SHA256.values())


@pytest.mark.parametrize(
    ("metrics", "rows"), [({"update": 7}, []), (VALIDATED | AT, ["validation"])]
)
def test_what_has_not_been_scored_has_no_figures(
    metrics: dict[str, float], rows: list[str]
) -> None:
    card = ModelCard(model_card(compose_train("data=sample"), metrics, {}))
    assert re.findall(r"^\| (validation|test) ", card.text, re.MULTILINE) == rows
    assert "have not been scored" in card.text
    assert (card.data.eval_results is None) == (rows == [])


def test_no_path_of_the_machine_is_in_it() -> None:
    private = "/home/someone/private"
    config = compose_train(
        *("data=files", f"data.train={private}/a.csv", f"data.validation={private}/b.csv"),
        *(f"data.test={private}/c.csv", f"tokenizer.path={private}/tokenizer.json"),
        *(f"runtime.cache_dir={private}/cache",),
    )
    config.init_from = config.data.path = config.embeddings.path = f"{private}/run"
    config.embeddings.url = f"https://{private}"
    config.embeddings.source = EmbeddingSource.glove
    card = model_card(config, VALIDATED | AT, SHA256)
    assert "someone" not in card
    assert "Training began from the weights of another run" in card
    assert ModelCard(card).data.language is None


def test_names_of_labels_cannot_break_out_of_their_place() -> None:
    config = compose_train("data=files", "data.train=a.csv")
    config.data.negative, config.data.positive = "bad`|\n---\n# x", "<b>gut\u2028ä"
    card = ModelCard(model_card(config, VALIDATED, {}))
    assert "| 0 | `bad   --- # x` |\n| 1 | `<b>gut ä` |\n" in card.text


def test_it_says_what_the_settings_mean() -> None:
    limit = r"reads the last 20 tokens"
    card = model_card(compose_train("tokenizer.max_length=20", "model.ngrams=0"), {}, {})
    assert re.search(limit, card)
    assert "n-grams" not in card.partition("## Settings")[0]
    right = compose_train(
        *("tokenizer.max_length=null", "model.ngrams=2", "tokenizer.truncation_side=right"),
    )
    right.objective.pos_weight = "1.5"
    card = model_card(right, {}, {})
    assert re.search("reads the (last|first)", card) is None
    assert "n-grams of up to 2 tokens" in card
    assert "weighed 1.5 in the loss" in card
    assert "model.ngrams: 2" in card


def test_it_says_how_validation_reviews_were_drawn() -> None:
    own = ("data=files", "data.train=reviews.csv")
    for overrides, drawn in (
        (("data=imdb",), "in groups that belong together"),
        ((*own, "data.group_column=shop"), "in groups that belong together"),
        (own, "one by one"),
    ):
        assert f"training reviews, drawn {drawn}" in model_card(compose_train(*overrides), {}, {})
