"""`python -m sentiment.evaluate`: score a saved checkpoint on the test reviews of a data set."""

from pathlib import Path

from sentiment import cli
from sentiment.config import EvaluateConfig


def main() -> None:
    """Entry point of `sentiment-evaluate`."""
    cli.run(_run, "evaluate", EvaluateConfig)


def _run(config: EvaluateConfig, directory: Path) -> None:
    # torch and datasets take seconds to import: `--help` and a mistyped setting do not wait.
    from sentiment.evaluation import run

    run(config, directory)


if __name__ == "__main__":
    main()
