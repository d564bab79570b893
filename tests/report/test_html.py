import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sentiment.config import TokenizerConfig, TokenizerModel, TruncationSide
from sentiment.errors import UserError
from sentiment.report import html
from sentiment.report.html import Scored, refuse_unwritable, write_report
from sentiment.report.metrics import binary_metrics
from sentiment.training.predictor import Explanation, TokenWeight

TEXTS = [
    "fine <script>alert(1)</script> film",
    "right",
    "dull film<br /><br />after all &amp; so on",
    "so-so",
]
TOKENIZING = TokenizerConfig(TokenizerModel.word, 9, 1, None, 400, TruncationSide.left)
ABOUT = {"Checkpoint": "runs/<best>"}


def explain(texts: Sequence[str]) -> list[Explanation]:
    """The first word speaks for the label 1, the last one against it."""
    found = []
    for text in texts:
        first, last = len(text.split()[0]), len(text) - len(text.split()[-1])
        tokens = (TokenWeight(0, first, 0.5), TokenWeight(last, len(text), -0.25))
        found.append(Explanation("x", 0.5, 0.25, 0.0, tokens))
    return found


def scored(rated: bool = True) -> Scored:
    labels_N, logits_N = np.array([0, 1, 1, 0]), np.array([3.0, 2.0, -4.0, 0.5])
    metrics = binary_metrics(torch.tensor(logits_N), torch.tensor(labels_N))
    ratings_N = np.array([1, 10, 9, np.nan]) if rated else np.full(4, np.nan)
    lengths_N = np.array([3, 1, 7, 1])
    return Scored(TEXTS, ("bad", "good>"), labels_N, logits_N, lengths_N, ratings_N, metrics)


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and texts by the tag around them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.content: dict[str, list[str]] = {}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.content.setdefault(tag, []).append("")

    def handle_data(self, data: str) -> None:
        if self.tags:
            self.content[self.tags[-1][0]][-1] += data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def test_errors_come_by_confidence_with_their_words_and_nothing_else_runs(path: Path) -> None:
    write_report(path, scored(), ABOUT, TOKENIZING, explain)
    page, text = Page(path), path.read_text("utf-8")
    order = ["dull</span>", "fine</span>", "so-so"]
    assert [text.index(word) for word in order] == sorted(text.index(word) for word in order)
    assert ">right<" not in re.sub(r"<(td|span)[^>]*>[^<]*<b>", "", text).split('id="list"')[1]
    assert "Said bad" in text
    assert "98.20" in text  # the sigmoid of 4
    assert '<span class="p4" title="+0.50">dull</span> film\nafter all &amp;amp; so ' in text
    assert '<span class="n2" title="-0.25">on</span>' in text
    assert "Strongest for good&gt;: dull +0.50" in text
    assert "runs/&lt;best&gt;" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert len(page.content["script"]) == 1
    assert "rated 9" in text
    assert "Accuracy by rating" in text


def test_names_of_labels_keep_their_capitals(path: Path) -> None:
    write_report(path, replace(scored(), names=("NEG", "POS")), ABOUT, TOKENIZING, explain)
    shown = Page(path).content["p"]
    assert any("POS" in text for text in shown)
    assert not any(re.search(r"\b(pos|neg)\b", text) for text in shown)


def test_the_page_needs_nothing_and_may_load_nothing(path: Path) -> None:
    write_report(path, scored(), ABOUT, TOKENIZING, explain)
    page = Page(path)
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "style", "onclick", "onload"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), (tag, name, value)
    text = path.read_text("utf-8")
    assert not re.search(r"url\(|@import|https?://|//[a-z]+\.", text)
    (policy,) = (
        a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules["default-src"] == "'none'"
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"


def test_the_page_can_be_used_without_seeing_it(path: Path) -> None:
    write_report(path, scored(), ABOUT, TOKENIZING, explain)
    page = Page(path)
    tags = [tag for tag, _ in page.tags]
    assert page.tags[0] == ("html", {"lang": "en"})
    assert [tags.count(tag) for tag in ("header", "main", "footer", "h1", "title")][:4] == [1] * 4
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set((attributes.get(name) or "").split()) <= set(ids), (tag, attributes)
        if tag in ("svg", "section"):
            assert attributes["aria-labelledby"]
    described = " ".join(page.content["desc"])
    assert "mean probability" in described
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_only_the_most_confident_errors_are_explained_and_it_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "EXPLAINED", 1)
    asked: list[str] = []

    def remember(texts: Sequence[str]) -> list[Explanation]:
        asked.extend(texts)
        return explain(texts)

    write_report(path, scored(rated=False), ABOUT, TOKENIZING, remember)
    text = path.read_text("utf-8")
    assert asked == [TEXTS[2]]
    assert "Of the first 1 the words are marked" in text
    assert "The others are shown as they are" in text
    assert "Accuracy by rating" not in text
    assert "tokens, rated" not in text


def test_a_classifier_without_errors_has_a_page(path: Path) -> None:
    logits_N = np.array([-3.0, 2.0, 4.0, -1.0])
    metrics = binary_metrics(torch.tensor(logits_N), torch.tensor([0, 1, 1, 0]))
    perfect = replace(scored(), logits_N=logits_N, metrics=metrics)
    write_report(path, perfect, ABOUT, TOKENIZING, explain)
    text = path.read_text("utf-8")
    assert "100.00" in text
    assert "All 0 reviews" in text


def test_a_page_is_whole_or_not_there(path: Path) -> None:
    def fail(texts: Sequence[str]) -> list[Explanation]:
        raise UserError("no")

    with pytest.raises(UserError):
        write_report(path, scored(), ABOUT, TOKENIZING, fail)
    assert list(path.parent.iterdir()) == []
    write_report(path, scored(), ABOUT, TOKENIZING, explain)
    assert list(path.parent.iterdir()) == [path]


def test_a_place_where_no_page_can_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder, expected a file"):
        refuse_unwritable(tmp_path)
    with pytest.raises(UserError, match=r"there is no folder .*missing; make it first"):
        refuse_unwritable(tmp_path / "missing" / "report.html")
