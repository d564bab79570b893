"""The page to try a model on, as a browser shows it: `python -m pytest -m screenshots -n 0`.

With `SCREENSHOTS=docs/images` the pictures are kept; with `RUN=DIR` they are of that model, not of
one that has learned nothing.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import write_checkpoint
from tests.screenshots.conftest import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.screenshots

TEXT = """\
I had been told it was dreadful, and for ten minutes I believed it. But what a wonderful,
moving film this is: the best I have seen in years."""
CLAPPER = "\U0001f3ac"  # one character of Python's, two of JavaScript's
VERDICT = r"\d+(\.\d)? % (positive|negative)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of a model."""
    run = os.environ.get("RUN")
    if run is None:
        folder = tmp_path_factory.mktemp("run")
        write_checkpoint(folder / "checkpoints" / "best", [TEXT])
        run = str(folder)
    with serving("sentiment.serve", "--checkpoint", run) as url:
        yield url


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("try", 1000, "light"), ("try-dark", 1000, "dark"), ("try-phone", 390, "light")],
)
def test_what_is_typed_is_shown_in_colours(
    server: str, browser: "Browser", name: str, width: int, scheme: str
) -> None:
    from playwright.sync_api import expect

    asked: list[str] = []
    complaints: list[str] = []
    page = browser.new_page(
        viewport={"width": width, "height": 760}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.set_default_timeout(60_000)
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(server)
    page.keyboard.press("Tab")  # the examples come first
    page.keyboard.press("Enter")
    page.wait_for_selector("#words li")
    assert re.fullmatch(VERDICT, page.inner_text("#verdict"))

    for text in (f"{CLAPPER} {TEXT}", TEXT):
        page.focus("#review")
        page.keyboard.press("Control+A")
        page.keyboard.press("Backspace")
        expect(page.locator("#verdict")).to_have_text("")
        with page.expect_response(lambda answer: "in years." in (answer.request.post_data or "")):
            page.keyboard.insert_text(text)
        page.wait_for_selector("#verdict[aria-busy=false]")
        page.wait_for_selector("mark")
        words = page.locator("mark").all_inner_texts()
        assert re.fullmatch(VERDICT, page.inner_text("#verdict"))
        assert len(words) >= 3
        assert {word.lower() for word in words} <= set(re.findall(r"\w+|[^\w\s]", text.lower()))
    # A mark lies where its word stands: both layers are as large, and nothing sticks out.
    boxes = [page.locator(layer).bounding_box() for layer in ("#marks", "#review")]
    assert boxes[0] == boxes[1]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    if "SCREENSHOTS" in os.environ:
        page.screenshot(path=Path(os.environ["SCREENSHOTS"], f"{name}.png"), full_page=True)
    page.close()
    assert complaints == []
    assert asked
    assert [url for url in asked if not url.startswith((server, "data:"))] == []
