"""TensorBoard, as a browser shows it: `python -m pytest -m screenshots -n 0`.

With `SCREENSHOTS=docs/images` the pictures are kept; with `RUNS=outputs` they are of the runs in
there, not of two small ones on the sample.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from sentiment import train
from tests.cli.test_configuration import door_in
from tests.screenshots.conftest import serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.screenshots

TABS = {
    "timeseries": ("card-view", [r"norm_by_distance|reach_layer"]),
    "scalars&tagFilter=loss": ("vz-line-chart2", [r"train/loss", r"validation/loss"]),
    "custom_scalars": ("vz-line-chart2", [r"^training and validation", r"95 % interval"]),
    "images&tagFilter=validation": ("img", [r"validation/confusion_matrix", r"/calibration"]),
    "images&tagFilter=gradient": ("img", [r"gradient/norm_by_distance", r"gates/layer_"]),
    "histograms": ("vz-histogram-timeseries", [r"logits_negative", r"logits_positive"]),
    "pr_curves": ("vz-line-chart2", [r"/precision_recall"]),
    "text": ("td strong", [r"gradient times input", r"^predicted$"]),
    "projector": ("canvas", [r"Points: \d+", r"Dimension: \d+"]),
    "hparams": ("vaadin-grid", [r"optimizer\.learning_rate", r"Trial ID"]),
}
"""Of each tab something that has to be drawn, and texts that have to be there to read."""


@pytest.fixture(scope="module")
def tensorboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of finished runs."""
    runs = os.environ.get("RUNS")
    if runs is None:
        folder = tmp_path_factory.mktemp("runs")
        sweep = ("-m", "data=sample", "debug=smoke", "trainer.epochs=2", "runtime.threads=1")
        swept = ("optimizer.learning_rate=0.003,0.01", "trainer.max_train_batches=40")
        done = door_in(folder, train.main, *sweep, *swept, "hydra.sweep.dir=outputs")
        assert done.returncode == 0, done.stderr
        runs = str(folder / "outputs")
    with serving("tensorboard.main", "--logdir", runs, "--load_fast=false") as url:
        yield url


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_shows_the_runs(
    tab: str, tensorboard: str, page: "Page", save: Callable[[str], None]
) -> None:
    drawn, texts = TABS[tab]
    page.goto(f"{tensorboard}/#{tab}")
    # The projector is a page within a page within the page.
    pages_within = page.frame_locator("iframe").frame_locator("iframe")
    shown = pages_within if tab == "projector" else page
    for place in (shown.locator(drawn), *(shown.get_by_text(re.compile(text)) for text in texts)):
        place.locator("visible=true").first.wait_for()
    if drawn == "img":
        assert shown.locator("img").first.evaluate("image => image.naturalWidth") >= 400
    page.wait_for_timeout(3000)  # until curves and points have stopped moving
    save(f"tensorboard-{tab.replace('&tagFilter=', '-')}")
