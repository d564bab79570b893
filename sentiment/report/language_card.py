"""The card of a language model that a classifier is to start from."""

from collections.abc import Mapping

from huggingface_hub import ModelCardData

from sentiment.config import HUB_ID, DataSource, PretrainConfig
from sentiment.report.card import data_section, licence, settings_section

USE = """\
With the code of the project installed, and this folder as `DIR`:

```bash
python -m sentiment.train init_from=DIR
```"""


def language_card(
    config: PretrainConfig, metrics: Mapping[str, float], data_sha256: Mapping[str, str]
) -> str:
    """Write the card of a language model's weights.

    Args:
        config: settings of their run.
        metrics: their figures by TensorBoard tag.
        data_sha256: hash of each split.

    Returns:
        Markdown behind front matter in YAML.
    """
    assert config.data.source is not None
    model, on_hub = config.model, config.data.source is DataSource.imdb
    cell = model.cell.value.upper()
    perplexities = [
        f"| {name.removeprefix('validation/perplexity_').replace('_', ' ')} | {value:.1f} |"
        for name, value in metrics.items()
        if name.startswith("validation/perplexity_")
    ]
    table = "\n".join(["| direction | perplexity |", "| --- | --- |", *perplexities])
    of = "" if config.data.source is DataSource.files else f"-{config.data.source.value}"
    summary = (
        f"Predicts the next token of a review{', and the one before' * model.bidirectional}: "
        f"{model.layers} {cell} "
        f"layer{'s' * (model.layers > 1)} of {model.hidden_size} units, from left to right"
        f"{' and from right to left, which do not see each other' * model.bidirectional}, on "
        f"vectors of {config.embeddings.dimension}. It is made for a classifier to start from."
    )
    sections = {
        "Figures": f"On texts that it has not read:\n\n{table}" if perplexities else "None yet.",
        "Data": data_section(config.data, data_sha256) + "\n\nIt has seen no label.",
        "Limits": "It repeats what its texts say of people and things, and how; its vocabulary "
        "tells words of them.",
        "Licence": licence(config.data),
        "Use": USE,
        "Settings": settings_section(config),
    }
    own_terms = config.data.source is not DataSource.sample
    front = ModelCardData(
        license="other" if own_terms else "mit",
        license_name="terms-of-the-training-data" if own_terms else None,
        library_name="sentiment",
        tags=["language-model", model.cell.value, "pytorch"],
        datasets=[HUB_ID] if on_hub else None,
    )
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    title = f"{model.cell.value}-language-model{of}"
    return f"---\n{front.to_yaml()}\n---\n\n# {title}\n\n{summary}\n\n{body}\n"
