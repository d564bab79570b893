import pytest
from tqdm import tqdm

from sentiment.report import progress


def test_bytes_are_lines_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with caplog.at_level("INFO"), progress.byte_progress("downloading") as show:
        show(1_000_000, 862_000_000)
        assert caplog.messages == []  # not yet
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
        show(431_000_000, 862_000_000)
        show(432_000_000, None)
    assert caplog.messages == ["downloading: 431 of 862 MB", "downloading: 432 MB"]


def test_bytes_are_a_bar_on_a_terminal_that_follows_a_restart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bars: list[tqdm[None]] = []

    def remember(**options: object) -> "tqdm[None]":
        bars.append(tqdm(**options | {"delay": 1e-9, "mininterval": 0}))
        return bars[-1]

    monkeypatch.setattr(progress, "tqdm", remember)
    with progress.byte_progress("downloading") as show:
        show(600, 1000)
        show(0, 1000)
        show(1000, 1000)
    (bar,) = bars
    assert (bar.n, bar.total) == (1000, 1000)
    shown = capsys.readouterr().err
    assert "downloading" in shown
    assert "600/1.00k" in shown
    assert "1.00k/1.00k" in shown


def test_nothing_is_shown_without_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.byte_progress("downloading"):
        pass
    assert capsys.readouterr().err == ""
