"""`python -m sentiment.train`: learn from one split, choose on a second, test once on a third."""

from collections.abc import Callable

from sentiment.config import TrainConfig
from sentiment.launch import launch


def main() -> None:
    """Entry point of `sentiment-train`."""
    launch("train", TrainConfig, _load)


def _load() -> Callable[..., None]:
    from sentiment.pipeline import run

    return run


if __name__ == "__main__":
    main()
