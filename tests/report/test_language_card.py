import pytest

from sentiment import cli
from sentiment.config import PretrainConfig
from sentiment.report.language_card import language_card


def compose(overrides: list[str]) -> PretrainConfig:
    return cli.compose_config("pretrain", PretrainConfig, overrides)


TEXTS = ("the next token of a review, and the one before", "do not see each other")


@pytest.mark.parametrize("bidirectional", [True, False])
def test_it_tells_which_way_the_model_reads(bidirectional: bool) -> None:
    config = compose(["data=sample", f"model.bidirectional={bidirectional}"])
    card = language_card(config, {"validation/perplexity_left_to_right": 99.2}, {})
    assert [text in card for text in TEXTS] == [bidirectional] * 2
    assert "| left to right | 99.2 |" in card


def test_the_sample_s_licence_is_the_same_in_front_matter_and_text() -> None:
    cards = {data: language_card(compose([f"data={data}"]), {}, {}) for data in ("sample", "imdb")}
    assert "license: mit" in cards["sample"]
    assert "terms-of-the-training-data" not in cards["sample"]
    assert "license_name: terms-of-the-training-data" in cards["imdb"]
