"""The report, as a browser shows it: `python -m pytest -m screenshots -n 0`.

With `SCREENSHOTS=docs/images` the pictures are kept; with `REPORT=report.html` they are of that
page, not of a small one on the sample.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from sentiment import evaluate
from sentiment.data.reviews import SAMPLE
from tests.cli.test_configuration import door_in
from tests.conftest import write_checkpoint

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.screenshots

SIZES = {"desktop": (1280, 960), "phone": (390, 844)}
TEXT_CONTRAST, LINE_CONTRAST = 4.5, 3.0  # WCAG 2.2, AA

CONTRASTS = """() => {
  const sight = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((value) => value / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [sight(one), sight(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
  };
  const found = {};
  for (const element of document.querySelectorAll("body *")) {
    const style = getComputedStyle(element);
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const kind = element.className.baseVal ?? element.className;
    const name = `${element.tagName.toLowerCase()}.${kind}`;
    const drawn = element.tagName === "text" ? style.fill : style.color;
    const silent = element.closest("script, title, desc, [hidden]");
    if (own && !silent) found[name] = ratio(drawn, behind(element));
    if (/^[pn]\\d$/.test(element.className)) {
      found[name + " line"] = ratio(style.borderBottomColor, behind(element.parentElement));
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    if "REPORT" in os.environ:
        return Path(os.environ["REPORT"]).resolve().as_uri()
    folder = tmp_path_factory.mktemp("report")
    texts = pq.read_table(SAMPLE / "test.parquet")["text"].to_pylist()[:40]
    write_checkpoint(folder / "run" / "checkpoints" / "best", texts)
    done = door_in(folder, evaluate.main, "checkpoint=run", "report=page.html")
    assert done.returncode == 0, done.stderr
    return (folder / "page.html").as_uri()


@pytest.fixture(params=[(s, c) for s in SIZES for c in ("light", "dark")], ids="-".join)
def page(request: pytest.FixtureRequest, browser: "Browser", address: str) -> "Iterator[Page]":
    size, scheme = request.param
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    opened = context.new_page()
    requests: list[str] = []
    opened.on("request", lambda sent: requests.append(sent.url))
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(address)
    yield opened
    # Whatever the test did, the page has asked for nothing but itself.
    assert requests == [address]
    assert complaints == []
    context.close()


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, text
    return int(found[1].replace(",", ""))


def shown(page: "Page") -> int:
    return page.locator(".error:not([hidden])").count()


def test_it_fits_and_can_be_read(page: "Page", request: pytest.FixtureRequest) -> None:
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") == width
    if "SCREENSHOTS" in os.environ:
        name = request.node.callspec.id
        page.screenshot(path=Path(os.environ["SCREENSHOTS"], f"report-{name}.png"))
        page.evaluate("document.querySelector('#errors').scrollIntoView()")
        page.screenshot(path=Path(os.environ["SCREENSHOTS"], f"report-errors-{name}.png"))
    for _ in range(5):
        if page.locator("#more").is_visible():
            page.click("#more")
    contrasts = page.evaluate(CONTRASTS)
    assert {"h1.", "p.note", "text.tick", "p.text", "span.p4", "span.n4", "span.p1 line"} <= set(
        contrasts
    )
    low = {
        name: ratio
        for name, ratio in contrasts.items()
        if ratio < (LINE_CONTRAST if name.endswith("line") else TEXT_CONTRAST)
    }
    assert low == {}
    for field in page.locator("input").all():
        assert field.evaluate("field => field.labels.length") == 1
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_errors_are_found_by_keyboard(page: "Page") -> None:
    status = page.locator("#found")
    total = number(r"^([\d,]+) errors", status.inner_text())
    assert shown(page) == min(20, total)
    # A word of the most confident error that is not in all of them.
    texts = page.locator(".error .text").all_text_contents()
    words = texts[0].lower().split()
    word = min(words, key=lambda word: sum(word in text.lower() for text in texts))
    page.keyboard.press("/")
    page.keyboard.type(word.upper())
    matching = number(r"^([\d,]+) of [\d,]+ errors match", status.inner_text())
    assert 0 < matching < total
    found = page.locator(".error:not([hidden]) .text").all_text_contents()
    assert len(found) == min(20, matching)
    assert all(word in text.lower() for text in found)
    page.keyboard.type(" qqq")
    assert status.inner_text().startswith("0 of")
    assert shown(page) == 0
    page.keyboard.press("Escape")
    assert shown(page) == min(20, total)
    # By the tabulator to the labels, and by the arrows among them.
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    heads = page.locator(".error:not([hidden]) h3").all_text_contents()
    assert heads
    assert all(head.startswith("Said negative") for head in heads)
    page.keyboard.press("ArrowDown")
    heads = page.locator(".error:not([hidden]) h3").all_text_contents()
    assert all(head.startswith("Said positive") for head in heads)
