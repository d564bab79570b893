from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

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
