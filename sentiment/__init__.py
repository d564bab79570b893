"""Train, evaluate and use a bidirectional LSTM for sentiment classification."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentiment.training.predictor import SentimentPredictor as SentimentPredictor

__all__ = ["SentimentPredictor"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: `--help` does not wait for it.
    if name == "SentimentPredictor":
        from sentiment.training.predictor import SentimentPredictor

        return SentimentPredictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
