import warnings
from html import unescape

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from torch import Tensor

from sentiment.data.encoded import EncodedReviews
from sentiment.report.mistakes import confident_mistakes, mistakes_table, plain

with warnings.catch_warnings():  # of a library that TensorBoard brings along
    warnings.simplefilter("ignore", DeprecationWarning)
    from tensorboard.plugin_util import markdown_to_safe_html


def words(*vocabulary: str) -> Tokenizer:
    return Tokenizer(WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="a"))


def review(ids: list[int], label: int) -> EncodedReviews:
    zero_1 = torch.tensor([0])
    return EncodedReviews(torch.tensor(ids).int(), zero_1, zero_1 + len(ids), zero_1 + label)


def row(tokenizer: Tokenizer, ids: list[int], weights: list[float], logit: float = -2.0) -> str:
    """The line of one positive review; its cells end in " | "."""
    table = mistakes_table(
        *(review(ids, label=int(logit < 0)), torch.tensor([logit]), [torch.tensor(weights)]),
        *(tokenizer, ("bad", "good")),
    )
    return table.splitlines()[-1]


def test_the_surest_mistakes_come_first() -> None:
    logits_N = torch.tensor([2.0, -1.0, 0.5, -9.0, 8.0, -9.0, 0.0])
    labels_N = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    assert confident_mistakes(logits_N, labels_N).tolist() == [5, 0, 1, 2]
    assert confident_mistakes(logits_N, labels_N, most=2).tolist() == [5, 0]
    assert confident_mistakes(logits_N[3:5], labels_N[3:5]).tolist() == []


def test_what_speaks_for_the_wrong_label_is_bold() -> None:
    tokenizer, ids, weights = words("a", "dull", "fine", "film"), [0, 2, 3, 1], [0.0, 3.0, 0.1, -2]
    called_bad = row(tokenizer, ids, weights)
    assert called_bad == "| 1 | good | bad, 88.08% | a fine film <strong>dull</strong> |"
    called_good = row(tokenizer, ids, weights, logit=2.0)
    strong = "<strong>fine</strong> <strong>film</strong>"
    assert called_good == f"| 1 | bad | good, 88.08% | a {strong} dull |"
    twelve = row(tokenizer, [2] * 12, [-float(i) for i in range(1, 13)])
    assert twelve.count("<strong>") == 10
    assert "| fine fine <strong>fine</strong>" in twelve
    lines = row(tokenizer, [2] * 200, [0.0] * 200).partition("88.08% |")[2].split("<br>")
    assert {len(line) for line in lines[:-1]} == {len("fine ") * 15}


def test_without_mistakes_there_is_no_table() -> None:
    none: list[Tensor] = []
    empty = review([0], 0).select(torch.tensor([], dtype=torch.int64).numpy())
    tokenizer = words("a")
    assert "|" not in mistakes_table(empty, torch.tensor([]), none, tokenizer, ("bad", "good"))


def test_tokens_of_single_bytes_are_put_together() -> None:
    tokenizer = Tokenizer(
        BPE({sign: i for i, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    ids = tokenizer.encode("naïve é").ids
    weights = [0.0, 0.0, -1.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert row(tokenizer, ids, weights).endswith("| na<strong>ï</strong>ve é |")


@pytest.mark.parametrize(
    "text",
    [
        "a | b || c",
        "**not bold** _nor this_ __or this__ `code` ``| x``",
        "<b>tag</b> <script>alert(1)</script> <!-- --> &lt; &amp; &#42;",
        "![image](http://x.invalid/y.png) [link](javascript:x) [a]: b <http://x.invalid>",
        r"\| \* \\ \` # ~~~ ``` - + 1. > $x$ \x02klzzwxh:0000\x03".replace("x02", "\x02"),
        "two\nlines\r\n\n| and | cells |\u2028\x85\x0b\x0c\x1c",
    ],
)
def test_text_is_no_markup_in_the_page_that_tensorboard_makes(text: str) -> None:
    page = markdown_to_safe_html(row(words("a", text), [0, 1], [0.0, 0.0])).replace("\n", "")
    table = f"| x | y | z | w |\n| - | - | - | - |\n| 1 | 2 | 3 | {plain(text)} |"
    html = markdown_to_safe_html(table)
    assert html.count("<td>") == 4
    for markup in (
        "<strong",
        "<em",
        "<code",
        "<a ",
        "<img",
        "<b>",
        "<script",
        "<li",
        "<blockquote",
    ):
        assert markup not in html + page
    cell = unescape(html.partition("<td>3</td>")[2].partition("<td>")[2].partition("</td>")[0])
    expected = " ".join(text.replace("\x02", "").replace("\x03", "").split())
    assert " ".join(cell.split()) == expected
