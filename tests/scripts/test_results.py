import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts import results
from sentiment.errors import UserError
from sentiment.report.result import read_results
from tests.report.test_result import make_result

ROOT = Path(__file__).parents[2]


def test_the_readme_says_what_the_raw_files_say() -> None:
    readme = (ROOT / "README.md").read_text()
    assert results.insert(readme, results.table(read_results(ROOT / "results"))) == readme


def test_raw_files_name_a_commit_and_no_place() -> None:
    for path in (ROOT / "results").glob("*/*.json"):
        values = json.loads(path.read_text())
        assert len(values["environment"]["git_commit"]) == 40  # not dirty
        assert "=/" not in values["command"]
        assert values["test_reviews"] == 25_000


def test_the_interval_of_a_mean_is_students() -> None:
    values = [0.890, 0.892, 0.893, 0.889, 0.896]
    found = results.summarize(values)
    half = 2.776 * found.deviation / math.sqrt(5)  # t of 4 degrees of freedom at 97.5 %
    assert found.mean == pytest.approx(0.892)
    assert found.deviation == pytest.approx(0.0027386, abs=1e-7)
    assert found.interval == pytest.approx((0.892 - half, 0.892 + half), abs=1e-6)
    assert results.summarize([0.9]) == (1, 0.9, None, None)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (5, 0), (13, 25), (9, 9)])
def test_mcnemar_is_a_binomial_test_of_the_discordant_reviews(
    only_first: int, only_second: int
) -> None:
    first = [True] * (30 + only_first) + [False] * (only_second + 7)
    second = [True] * 30 + [False] * only_first + [True] * only_second + [False] * 7
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(discordant, k) for k in range(fewer + 1)) / 2**discordant
    found = results.mcnemar(make_result(first), make_result(second))
    assert found == (only_first, only_second, pytest.approx(min(1, 2 * tail)))


def test_rows_are_compared_review_by_review() -> None:
    generator = np.random.default_rng(0)
    hard_N = generator.random(2000) < 0.2
    first, second = (
        [make_result((~hard_N | (generator.random(2000) < share)).tolist()) for _ in range(3)]
        for share in (0.5, 0.3)
    )
    difference, low, high = results.compare(first, second)
    paired_N = np.mean([r.right_N for r in first], 0) - np.mean([r.right_N for r in second], 0)
    standard_error = paired_N.std(ddof=1) / math.sqrt(2000)
    assert difference == pytest.approx(paired_N.mean())
    assert low == pytest.approx(difference - 1.96 * standard_error, abs=0.1 * standard_error)
    assert high == pytest.approx(difference + 1.96 * standard_error, abs=0.1 * standard_error)
    with pytest.raises(UserError, match=r"test reviews of \['a', 'b'\], expected the same"):
        results.compare(first, [make_result([True] * 2000, tests="b")])


def test_the_table_holds_every_row_and_the_gap_to_validation() -> None:
    rows = {
        "better": [make_result([True] * 9 + [False] * (n % 2), seed=n, gap=-0.01) for n in (1, 3)],
        "worse": [make_result([True, False], kind="random", gap=0.02)],
    }
    lines = results.table(rows).splitlines()
    command = "`python -m sentiment.train`"
    assert lines[2:] == [
        f"| [worse](results/worse) | {command} | 52.00 | 50.00 |  | 75.00 | 1 | 1.5 min, EPYC |",
        f"| [better](results/better) | {command} | 89.00 ± 0.00 | 90.00 ± 0.00 | 90.00 to 90.00 "
        "| 95.00 ± 0.00 | 2 | 1.5 min, EPYC |",
        "",
        "With a grouped split, validation accuracy is 1.00 points off test accuracy on average "
        "(-1.00 with its sign; runs: 2).",
        "With a random split, validation accuracy is 2.00 points off test accuracy on average "
        "(+2.00 with its sign; runs: 1).",
    ]
    document = results.insert(f"a\n{results.START}\nold\n{results.END}\nb\n", "new")
    assert document == f"a\n{results.START}\nnew\n{results.END}\nb\n"
    with pytest.raises(UserError, match="expected the table between them"):
        results.insert("no markers", "new")


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    """The one line that it says."""
    monkeypatch.setattr(sys, "argv", ["results.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        results.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def door(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/results.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_seeds_are_run_once_and_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("debug=smoke", "runtime.threads=1", "split.kind=random", "model.ngrams=0")
    run = ("run", "tiny", *settings, "--seeds", "2")
    done = door(*run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = read_results(tmp_path / "results")["tiny"]
    assert [result.seed for result in runs] == [0, 1]
    assert runs[1].command == f"python -m sentiment.train {' '.join(settings)} seed=1"
    assert runs[0].split["kind"] == "random"
    assert len(runs[0].history) == 1
    assert len(runs[0].right_N) == 1000
    assert runs[0].seconds is not None

    raws = [tmp_path / f"results/tiny/split-0-seed-{seed}.json" for seed in (0, 1)]
    before = raws[0].stat().st_mtime_ns
    raws[1].unlink()
    (tmp_path / "outputs/results/tiny/split-0-seed-1/metrics.json").unlink()
    done = door(*run, cwd=tmp_path)
    assert "split-0-seed-0.json is there" in done.stdout
    assert "tiny/split-0-seed-1 after update 4" in done.stdout
    again = read_results(tmp_path / "results")["tiny"][1]
    assert again.seconds is None
    assert again.metrics == runs[1].metrics
    assert np.array_equal(again.right_N, runs[1].right_N)
    assert raws[0].stat().st_mtime_ns == before

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["results.py", "compare", "tiny", "tiny"])
    results.main()
    assert "interval over the 1000 reviews +0.00 to +0.00" in capsys.readouterr().out
    for arguments, message in (
        (("run", "tiny", *settings, "model.layers=1", "--seeds=2"), "give these runs another name"),
        (("run", "tiny", "model.layrs=1"), "unknown setting model.layrs, expected perhaps"),
        (("compare", "tiny", "large"), "no runs of large in results, expected one of ['tiny']"),
        (("table",), "README.md: No such file or directory"),
    ):
        assert message in refused(monkeypatch, capsys, *arguments)


def test_no_raw_files_make_no_table() -> None:
    with pytest.raises(UserError, match="has no raw files"):
        results.table({})


def test_ctrl_c_lets_a_run_save(tmp_path: Path) -> None:
    run = (
        "import pathlib, signal, sys, time\n"
        "def save(*_): time.sleep(1); pathlib.Path('saved').touch(); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, save); print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", run]
    code = f"import sys; from scripts import results; sys.exit(results.finish({command!r}))"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert (tmp_path / "saved").exists()
