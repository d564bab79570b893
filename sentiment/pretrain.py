"""`python -m sentiment.pretrain`: learn to predict words, from texts without labels."""

from collections.abc import Callable

from sentiment.config import PretrainConfig
from sentiment.launch import launch


def main() -> None:
    """Entry point of `sentiment-pretrain`."""
    launch("pretrain", PretrainConfig, _load)


def _load() -> Callable[..., None]:
    from sentiment.pretraining import run

    return run


if __name__ == "__main__":
    main()
