import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_score, recall_score
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, Layout
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.summary.writer import event_file_writer
from tensorboard.util import tensor_util

from sentiment.report.tensorboard import Dashboard


def curve(directory: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(directory))
    events.Reload()
    return [(point.step, point.value) for point in events.Scalars("train/loss")]


def test_what_a_stopped_process_wrote_too_much_is_dropped(tmp_path: Path) -> None:
    first = Dashboard(tmp_path)
    for update in (1, 2):
        first.scalars("train", {"loss": update}, update)
    sizes = first.sizes()
    for update in (3, 4):
        first.scalars("train", {"loss": update}, update)
    first.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])  # the last point is torn

    second = Dashboard(tmp_path, sizes, update=2)
    for update in (3, 4, 5):
        second.scalars("train", {"loss": 10 * update}, update)
    second.close()
    assert curve(tmp_path) == [(1, 1), (2, 2), (3, 30), (4, 40), (5, 50)]


def test_a_run_that_begins_anew_starts_with_an_empty_curve(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        dashboard = Dashboard(tmp_path)
        dashboard.scalars("train", {"loss": value}, 7)
        dashboard.close()
    assert curve(tmp_path) == [(7, 2.0)]
    (tmp_path / "train.log").touch()
    Dashboard(tmp_path).close()
    assert (tmp_path / "train.log").exists()


def test_a_server_that_has_read_the_dropped_points_forgets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Files of the same second are read in the order of their names, where 10 stands before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    first = Dashboard(tmp_path)
    first.scalars("train", {"loss": 1.0}, 1)
    sizes = first.sizes()
    first.scalars("train", {"loss": 2.0}, 2)
    first.close()
    server = EventAccumulator(str(tmp_path))
    server.Reload()
    second = Dashboard(tmp_path, sizes, update=1)
    second.scalars("train", {"loss": 3.0}, 2)
    second.close()
    server.Reload()
    assert [(p.step, p.value) for p in server.Scalars("train/loss")] == [(1, 1.0), (2, 3.0)]


def test_an_evaluation_shows_curve_histograms_and_pictures(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.randint(0, 2, (300,), generator=generator)
    logits_N = 2 * labels_N - 1 + 2 * torch.randn(300, generator=generator)
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        dashboard = Dashboard(tmp_path / run)
        dashboard.evaluation("validation", logits_N, labels_N, ("bad", "n/a $"), 7)
        dashboard.close()
    events, again = (EventAccumulator(str(tmp_path / run)).Reload() for run in ("first", "second"))

    (point,) = events.Tensors("validation/precision_recall")
    *_, precision_K, recall_K = tensor_util.make_ndarray(point.tensor_proto)
    probability_N = torch.sigmoid(logits_N).numpy()
    thresholds_K = np.linspace(0, 1, len(precision_K))
    assert point.step == 7
    for k in range(0, len(precision_K), 14):
        called_N = probability_N >= thresholds_K[k]
        if called_N.any():
            expected = precision_score(labels_N, called_N), recall_score(labels_N, called_N)
            np.testing.assert_allclose((precision_K[k], recall_K[k]), expected, rtol=1e-6)

    for label, tag in enumerate(("validation/logits_bad", "validation/logits_n/a $")):
        (histogram,) = events.Histograms(tag)
        assert histogram.histogram_value.num == (labels_N == label).sum()
        assert histogram.histogram_value.max == pytest.approx(logits_N[labels_N == label].max())
    for tag in ("validation/confusion_matrix", "validation/calibration"):
        (image,), (same,) = events.Images(tag), again.Images(tag)
        assert image.encoded_image_string == same.encoded_image_string
        assert image.encoded_image_string.startswith(b"\x89PNG")
        assert len(image.encoded_image_string) < 40_000


def test_train_and_validation_are_in_one_chart_and_the_layout_is_written_once(
    tmp_path: Path,
) -> None:
    first = Dashboard(tmp_path)
    first.scalars("train", {"loss": 1.0}, 1)
    sizes = first.sizes()
    first.close()
    Dashboard(tmp_path, sizes, update=1).close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (point,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(point.tensor_proto.string_val[0])
    charts = {chart.title: chart for category in layout.category for chart in category.chart}
    for name in ("loss", "accuracy"):
        assert shown(charts[name]) == {f"train/{name}", f"validation/{name}"}
    assert shown(charts["gradient norm"]) == {"train/gradient_norm"}
    (interval,) = charts["validation accuracy and its 95 % interval"].margin.series
    assert {interval.value, interval.lower, interval.upper} <= TAGS


TAGS = {
    f"{split}/{name}"
    for split in ("train", "validation", "test")
    for name in ("loss", "accuracy", "accuracy_low", "accuracy_high", "gradient_norm", "f1")
}


def shown(chart: Chart) -> set[str]:
    """Of these tags those that a chart of lines has, as the server finds them."""
    return {tag for tag in TAGS for pattern in chart.multiline.tag if re.match(pattern, tag)}


def test_settings_of_several_runs_are_compared(tmp_path: Path) -> None:
    for run, rate, length in (("a", 0.1, None), ("b", 0.2, 400), ("c", 0.2, 200)):
        (tmp_path / run).mkdir()
        dashboard = Dashboard(tmp_path / run)
        dashboard.scalars("test", {"accuracy": 0.9}, 1)
        dashboard.hyperparameters({"seed": 0, "length": length, "rate": rate, "kind": "word"})
        dashboard.close()
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    server = Context(TBContext(data_provider=provider))
    runs = server.hparams_metadata(RequestContext(), "")
    found = server.experiment_from_metadata(RequestContext(), "", True, runs, None)
    shown = [(info.name, info.differs) for info in found.hparam_infos]
    assert shown == [("length", True), ("rate", True), ("kind", False), ("seed", False)]
    length, rate, *_ = found.hparam_infos  # numbers, although one run has none
    assert (length.domain_interval.min_value, length.domain_interval.max_value) == (200, 400)
    assert (rate.domain_interval.min_value, rate.domain_interval.max_value) == (0.1, 0.2)
    assert [info.name.tag for info in found.metric_infos] == ["test/accuracy"]
