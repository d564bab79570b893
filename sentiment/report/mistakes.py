"""The reviews that a classifier is most sure of and wrong about, as a table in Markdown.

TensorBoard renders text with Python-Markdown and its tables, and lets few HTML tags through.

Shapes: N reviews, M mistakes, T tokens.
"""

import re
import string
from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor

from sentiment.config import THRESHOLD
from sentiment.data.encoded import EncodedReviews

MOST = 20
BOLD_TOKENS = 10
LINE = 70  # characters
PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")
TO_MARK = re.compile(r"\S(?:.*\S)?")  # of a token, whose text may begin with a space


def confident_mistakes(logits_N: Tensor, labels_N: Tensor, most: int = MOST) -> Tensor:
    """Rows of the reviews whose predicted label is wrong, surest first, int64 `[M]`, M <= most.

    Args:
        logits_N: float32.
        labels_N: 0 or 1.
        most: how many, at most.
    """
    predicted_N = logits_N.double().sigmoid() > THRESHOLD
    rows_M = (predicted_N != labels_N.bool()).nonzero().squeeze(1)
    order_M = logits_N[rows_M].abs().argsort(descending=True, stable=True)
    return rows_M[order_M][:most]


def mistakes_table(
    reviews_M: EncodedReviews,
    logits_M: Tensor,
    weights_M: Sequence[Tensor],
    tokenizer: Tokenizer,
    names: tuple[str, str],
) -> str:
    """Describe reviews whose predicted label is wrong, each as the model reads it.

    Args:
        reviews_M: in the order of the table.
        logits_M: float32.
        weights_M: what each token adds to the logit, `[T]` for each review.
        tokenizer: that made the token ids.
        names: of the labels 0 and 1.

    Returns:
        Markdown in which nothing that stands in a review or a label is markup.
    """
    if len(reviews_M) == 0:
        return "Every prediction is right."
    lines = [
        f"Bold: the {BOLD_TOKENS} tokens of a review that speak most for the wrong label "
        "(gradient times input).",
        "",
        "| rank | label | predicted | review |",
        "| ---: | :--- | :--- | :--- |",
    ]
    starts, ends = reviews_M.starts_N.tolist(), (reviews_M.starts_N + reviews_M.lengths_N).tolist()
    probabilities_M = torch.sigmoid(logits_M.double()).tolist()
    for row, (label, probability) in enumerate(
        zip(reviews_M.labels_N.tolist(), probabilities_M, strict=True)
    ):
        predicted, sure = (1, probability) if probability > THRESHOLD else (0, 1 - probability)
        ids = reviews_M.ids[starts[row] : ends[row]].tolist()
        for_it_T = weights_M[row] if predicted else -weights_M[row]
        review = _in_bold(list(_decode(tokenizer, ids, for_it_T.tolist())))
        said = f"{plain(names[predicted])}, {sure:.2%}"
        cells = (str(row + 1), plain(names[label]), said, review)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plain(text: str) -> str:
    """The text on one line, with every sign escaped of which Markdown or HTML could make markup."""
    return PUNCTUATION.sub(lambda sign: f"&#{ord(sign[0])};", re.sub(r"\s", " ", text))


def _decode(
    tokenizer: Tokenizer, ids: Sequence[int], weights: Sequence[float]
) -> Iterator[tuple[str, float]]:
    """The text of each token and its weight; tokens that only together make characters are one."""
    stream, weight = DecodeStream(skip_special_tokens=False), 0.0
    for index, own in zip(ids, weights, strict=True):
        weight += own
        text = stream.step(tokenizer, index)
        if text is not None:
            yield text, weight
            weight = 0.0


def _in_bold(tokens: Sequence[tuple[str, float]]) -> str:
    """The text of the tokens; those of the largest weights, where above 0, are bold."""
    by_weight = sorted(range(len(tokens)), key=lambda place: -tokens[place][1])
    bold = {place for place in by_weight[:BOLD_TOKENS] if tokens[place][1] > 0}
    parts, width = [], 0
    for place, (text, _) in enumerate(tokens):
        # TensorBoard gives the other columns the less room the longer a line of this one is.
        if width > LINE and text[:1].isspace():
            parts.append("<br>")
            width = 0
        width += len(text)
        word = plain(text)
        parts.append(TO_MARK.sub(r"<strong>\g<0></strong>", word) if place in bold else word)
    return "".join(parts).strip()
