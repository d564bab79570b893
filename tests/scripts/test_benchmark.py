import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import benchmark as door
from benchmarks import report, roof
from benchmarks.inference import tutorial_model
from benchmarks.memory import peak_of, peak_so_far
from benchmarks.reviews import spread
from benchmarks.sides import Benchmark, Group, Side
from benchmarks.tutorial import predict_one_at_a_time, predict_packed
from sentiment.config import Kernel, Precision
from sentiment.data.encoded import encode_texts
from sentiment.training.checkpoint import load_checkpoint
from sentiment.training.inference import predict_logits
from sentiment.training.runtime import Runtime
from tests.conftest import compose_train, write_checkpoint

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def no_run(count: int, overrides: list[str]) -> dict[str, float]:
    raise AssertionError("figures are given")


@pytest.mark.slow
def test_operations_counted_are_those_that_torch_counts_in_an_lstm_on_packed_reviews() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = compose_train(
        "model.layers=3", "model.hidden_size=6", "model.ngrams=0", "embeddings.dimension=10"
    )
    lstm = nn.LSTM(10, 6, num_layers=3, bidirectional=True)
    lengths_B = torch.tensor([7, 5, 3])
    x_TBE = torch.randn(7, 3, 10, requires_grad=True)
    initial = torch.zeros(6, 3, 6, requires_grad=True), torch.zeros(6, 3, 6, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        _, (hidden, _) = lstm(pack_padded_sequence(x_TBE, lengths_B), initial)
    with FlopCounterMode(display=False) as backward:
        hidden.sum().backward()
    predicting = roof.rates(config, lengths_B, seconds=1e-9, training=False)
    training = roof.rates(config, lengths_B, seconds=1e-9, training=True)
    assert predicting["GFLOP/s"] == pytest.approx(forward.get_total_flops())
    both = forward.get_total_flops() + backward.get_total_flops()
    assert training["GFLOP/s"] == pytest.approx(both)


def test_rates_count_what_is_read_and_multiplied() -> None:
    config = compose_train(
        "model.layers=2", "model.hidden_size=6", "model.ngrams=0", "embeddings.dimension=10"
    )
    # Directions x gates x hidden x (input + hidden), a multiplication and an addition each.
    of_a_token = 2 * (2 * 4 * 6 * (10 + 6)) + 2 * (2 * 4 * 6 * (12 + 6))
    predicting = roof.rates(config, torch.tensor([3, 1]), seconds=4.0, training=False)
    assert predicting == {"reviews/s": 0.5, "tokens/s": 1.0, "GFLOP/s": of_a_token / 1e9}
    training = roof.rates(config, torch.tensor([3, 1]), seconds=4.0, training=True)
    assert training["GFLOP/s"] == pytest.approx(3 * of_a_token / 1e9)


def test_rows_have_medians_a_ratio_to_the_first_of_their_group_and_their_share_of_the_roof() -> (
    None
):
    in_bfloat16 = Side(no_run, ("runtime.precision=bfloat16", "model.dropout=0"))
    benchmark = Benchmark(
        "reviews/s",
        {
            "one": Group((), {"usual": Side(no_run), "ours": in_bfloat16}),
            "two": Group(("seed=1",), {"missing": Side(no_run), "ours": Side(no_run)}),
            "roof": roof.ROOF,
        },
        reviews=10,
    )
    runs = {
        ("one", "usual"): [{"reviews/s": v, "GFLOP/s": v} for v in (9.0, 2.0, 4.0)],
        ("one", "ours"): [{"reviews/s": v, "GFLOP/s": v} for v in (10.0, 90.0, 12.0)],
        ("two", "ours"): [{"reviews/s": 8.0, "GFLOP/s": 50.0}] * 3,
        ("roof", "float32"): [{"GFLOP/s": v} for v in (90.0, 100.0, 200.0)],
        ("roof", "bfloat16"): [{"GFLOP/s": v} for v in (800.0, 800.0, 1.0)],
    }
    groups = report.summarize(benchmark, runs)
    usual, ours = groups["one"]["rows"].values()
    assert usual["values"]["reviews/s"] == [9.0, 2.0, 4.0]
    assert usual["median"]["reviews/s"] == 4.0
    assert (usual["ratio"], ours["ratio"]) == (1.0, 3.0)
    assert (usual["share of roof"], ours["share of roof"]) == (0.04, 0.015)
    assert groups["two"] == {
        "settings": ["seed=1"],
        "rows": {
            "ours": {
                "settings": [],
                "values": {"reviews/s": [8.0] * 3, "GFLOP/s": [50.0] * 3},
                "median": {"reviews/s": 8.0, "GFLOP/s": 50.0},
                "share of roof": 0.5,
                "ratio": 1.0,
            }
        },
    }
    result = {"groups": groups, "rounds": 3, "skipped": {"two: missing": "no such thing"}}
    lines = list(report.table(result))
    assert " ".join(lines[0].split()) == "medians of 3 reviews/s GFLOP/s share of roof ratio"
    assert " ".join(lines[3].split()) == "ours 12 12 1.5 % 3"
    assert lines[4] == "two seed=1"
    assert lines[-1] == "skipped: two: missing: no such thing"


def test_few_reviews_are_as_long_as_all_and_hardly_padded() -> None:
    lengths_N = np.random.default_rng(0).gamma(2.0, 130.0, 25_000).astype(np.int64) + 1
    rows = spread(lengths_N, batch_size=64, count=384)
    assert len(set(rows.tolist())) == 384
    assert lengths_N[rows].mean() == pytest.approx(lengths_N.mean(), rel=0.1)
    padded = sum(64 * lengths_N[rows[i : i + 64]].max() for i in range(0, 384, 64))
    assert padded < 1.05 * lengths_N[rows].sum()
    everything = spread(lengths_N, batch_size=64, count=10**6)
    assert sorted(everything.tolist()) == list(range(25_000))


def test_all_ways_to_predict_give_the_same(tmp_path: Path) -> None:
    texts = ["good", "bad but good , good and long", "long", "", "unheard of", "so so bad"] * 3
    checkpoint = load_checkpoint(write_checkpoint(tmp_path / "checkpoint", texts))
    ids = encode_texts(checkpoint.tokenizer, texts)
    runtime = Runtime(torch.device("cpu"), Precision.float32, Kernel.plain, tmp_path)
    expected_N = predict_logits(checkpoint.build_model(), ids, runtime)
    assert expected_N.unique().numel() > 3
    packed_N = predict_packed(tutorial_model(checkpoint, packed=True), ids)
    torch.testing.assert_close(packed_N, expected_N)
    one_by_one = predict_one_at_a_time(
        tutorial_model(checkpoint, packed=False), checkpoint.tokenizer, None, texts
    )
    torch.testing.assert_close(torch.tensor(one_by_one), torch.sigmoid(expected_N))


def test_peak_memory_is_the_command_s_own_not_that_of_this_process() -> None:
    peak = peak_of([sys.executable, "-c", "text = b'.' * 100_000_000"])["peak MB"]
    assert 100 < peak < 160 < peak_so_far()["peak MB"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["training", "--rounds", "0"], "--rounds is 0, expected 1 or more"),
        (["startup", "--reviews", "5"], "startup takes no --reviews"),
        (["speed"], "argument benchmark: invalid choice: 'speed'"),
        (["training", "--output", "nowhere/x.json"], "there is no folder nowhere"),
        (["training", "--output", "."], "--output: . is a folder, expected a file"),
        (["training", "model.droput=0"], "unknown setting model.droput, expected perhaps"),
        (["training", "dada=sample"], "dada"),
        (["training", "runtime.device=auto"], "training measures cpu or cuda"),
        (["inference", "runtime.device=cuda"], "inference measures cpu"),
        pytest.param(
            *(["training", "runtime.device=cuda"], "torch finds no GPU here"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_a_mistake_costs_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        door.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.slow
def test_every_side_runs_and_its_figures_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    command = ["tokenize", "--rounds", "1", "--output", str(output), "--reviews", "50"]
    processes: list[list[str]] = []
    run = subprocess.run

    def here(
        command: list[str], **options: object
    ) -> subprocess.CompletedProcess[str]:  # spares each side the imports of a process of its own
        if command[0] != sys.executable:
            return run(command, **options)  # type: ignore[call-overload,no-any-return]
        processes.append(command)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", command[1:])
            door.main()
        return subprocess.CompletedProcess(command, 0, capsys.readouterr().out)

    monkeypatch.setattr(door.subprocess, "run", here)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *command, "data=sample", "runtime.threads=1"])
    door.main()
    assert [command[1:3] for command in processes] == [[str(SCRIPT), "tokenize"]] * 5
    result = json.loads(output.read_text())
    ((name, group),) = result["groups"].items()
    assert list(group["rows"]) == list(door.BENCHMARKS["tokenize"].groups[name].sides)
    for row in group["rows"].values():
        assert {"reviews/s", "seconds"} == row["values"].keys()
        for unit, values in row["values"].items():
            assert values == [row["median"][unit]]
            assert values[0] > 0
    assert result["skipped"] == {}
    assert result["settings"] == ["data=sample", "runtime.threads=1"]
    assert result["environment"]["threads"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "group", "count"),
    [("training", "sizes of the tutorials", 256), ("inference", "whole reviews", 4)],
)
def test_every_way_to_train_and_to_predict_gives_its_rate(
    name: str, group: str, count: int
) -> None:
    given = ["data=sample", "runtime.threads=1", "model.hidden_size=16"]
    benchmark = door.BENCHMARKS[name]
    for title, side in benchmark.groups[group].sides.items():
        if side.precision == "float32":
            figures = door.measure(benchmark, group, title, count, given)
            assert min(figures["reviews/s"], figures["GFLOP/s"]) > 0


@pytest.mark.slow
def test_a_plot_shows_the_rows(tmp_path: Path) -> None:
    row = {"median": {"seconds": 2.0}, "values": {"seconds": [1.0, 2.0, 4.0]}}
    result = {
        "benchmark": "startup",
        "unit": "seconds",
        "rounds": 3,
        "environment": {"device": "a processor", "threads": 2, "packages": {"torch": "2.13"}},
        "groups": {"a group": {"rows": {"usual": row, "pipeline": row}}},
    }
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.svg"
    figures.write_text(json.dumps(result))
    script = SCRIPT.parent / "benchmarks" / "plot.py"
    subprocess.run([sys.executable, str(script), str(figures), str(plot)], check=True)
    drawn = plot.read_text()
    for text in ("a group", "usual", "pipeline", "seconds (median of 3", "startup: a processor"):
        assert f"<!-- {text}" in drawn
