"""`sentiment.predict` as a user runs it, on a checkpoint of random weights."""

import io
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment import SentimentPredictor
from sentiment.data.encoding import encode, fingerprint
from sentiment.data.lines import line_portions
from sentiment.data.reviews import SAMPLE, load_split
from sentiment.errors import UserError
from sentiment.predict import main, to_json, write_records
from sentiment.training import predictor as predictor_module
from sentiment.training.checkpoint import load_checkpoint, save_checkpoint
from sentiment.training.inference import predict_logits
from tests.conftest import FUZZ_EXAMPLES, compose_train, write_checkpoint

ROOT = Path(__file__).parents[2]
TEXTS = pq.read_table(SAMPLE / "test.parquet")["text"].to_pylist()[:40]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "checkpoints" / "best", TEXTS)


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> SentimentPredictor:
    return SentimentPredictor.load(checkpoint, threads=1)


class Door:
    """The command line, called in this process."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[bytes]
    ) -> None:
        self.monkeypatch, self.captured = monkeypatch, captured

    def __call__(
        self, *arguments: object, stdin: bytes = b""
    ) -> tuple[int, list[dict[str, Any]], str]:
        """Exit code, records and standard error."""
        stream = io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin)))
        self.monkeypatch.setattr(sys, "stdin", stream)
        self.monkeypatch.setattr(sys, "argv", ["sentiment-predict", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        out, err = self.captured.readouterr()
        return code, [json.loads(line) for line in out.split(b"\n")[:-1]], err.decode()


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Door:
    return Door(monkeypatch, capfdbinary)


def probabilities(records: list[dict[str, Any]]) -> list[float]:
    return [record["probability"] for record in records]


def test_arguments_and_lines_and_evaluation_agree(
    checkpoint: Path, tmp_path: Path, door: Door
) -> None:
    lines = "".join(f"{text}\n" for text in TEXTS).encode()
    code, records, printed = door("--checkpoint", checkpoint, stdin=lines)
    assert (code, [record["text"] for record in records]) == (0, TEXTS)
    assert re.fullmatch(r"40 texts \(0 empty\), \d+ per second\n", printed)
    run = checkpoint.parent.parent
    assert door("--checkpoint", run, "--", *TEXTS) == (0, records, "")

    # The way of the evaluation: from the data set, by the encoded reviews, to logits.
    loaded = SentimentPredictor.load(checkpoint)
    reviews = load_split(compose_train("data=sample").data, "test").select(range(40))
    encoded = encode(reviews, fingerprint(reviews), loaded.checkpoint.tokenizer, tmp_path)
    limit = loaded.checkpoint.config.tokenizer
    encoded = encoded.truncate(limit.max_length, limit.truncation_side)
    expected = predict_logits(loaded.model, encoded, loaded.runtime).sigmoid()
    torch.testing.assert_close(torch.tensor(probabilities(records)), expected, atol=1e-6, rtol=0)
    for record in records:
        assert record["label"] == ("positive" if record["probability"] > 0.5 else "negative")


def test_a_text_is_judged_alike_in_any_company(predictor: SentimentPredictor) -> None:
    alone = [predictor([text])[0].probability for text in TEXTS]
    shuffled = random.Random(0).sample(TEXTS * 8, 320)
    together = dict(zip(shuffled, predictor(shuffled), strict=True))
    for text, expected in zip(TEXTS, alone, strict=True):
        assert together[text].probability == pytest.approx(expected, abs=2e-6)


def test_the_threshold_moves_the_label_alone(checkpoint: Path, door: Door) -> None:
    found = {}
    for threshold in (0, 0.5, 1):
        options = ("--checkpoint", checkpoint, "--threshold", threshold)
        _, found[threshold], _ = door(*options, *TEXTS[:3])
    assert [record["label"] for record in found[0]] == ["positive"] * 3
    assert [record["label"] for record in found[1]] == ["negative"] * 3
    assert probabilities(found[0]) == probabilities(found[0.5]) == probabilities(found[1])


def test_empty_lines_keep_the_output_aligned(checkpoint: Path, door: Door) -> None:
    stdin = "\ufeffgood\r\n\n \t\nmïxed \u2028 text, no end".encode()
    _, records, printed = door("--checkpoint", checkpoint, stdin=stdin)
    assert [r["text"] for r in records] == ["good", "", " \t", "mïxed \u2028 text, no end"]
    nothing = {"label": None, "probability": None, "error": "empty text"}
    assert records[1:3] == [{"text": "", **nothing}, {"text": " \t", **nothing}]
    assert all(0 < record["probability"] < 1 for record in (records[0], records[3]))
    assert "4 texts (2 empty)" in printed


def test_a_copied_checkpoint_predicts_the_same_without_conf_and_data(
    checkpoint: Path, tmp_path: Path, door: Door
) -> None:
    shutil.copytree(ROOT / "sentiment", tmp_path / "code" / "sentiment")
    shutil.rmtree(tmp_path / "code" / "sentiment" / "data" / "sample")
    shutil.copytree(checkpoint, tmp_path / "copied")
    # Hydra, `datasets` and a writable home are for training.
    code = (
        "import sys; sys.modules.update(hydra=None, datasets=None, torchmetrics=None)\n"
        "import sentiment.predict; print(sentiment.predict.__file__, file=sys.stderr)\n"
        "sentiment.predict.main()"
    )
    environment = os.environ | {"HOME": os.devnull}
    environment.pop("SENTIMENT_CACHE")
    command = [sys.executable, "-c", code, "--checkpoint", "../copied", *TEXTS[:5]]
    options: dict[str, Any] = {"cwd": tmp_path / "code", "env": environment}
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.stderr.decode() == f"{tmp_path / 'code' / 'sentiment' / 'predict.py'}\n"
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert door("--checkpoint", checkpoint, *TEXTS[:5]) == (0, records, "")


def test_nothing_is_loaded_from_where_a_checkpoint_says_that_caches_are(
    checkpoint: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(checkpoint)
    loaded.config.runtime.cache_dir = str(tmp_path / "theirs")
    model, tokenizer = loaded.build_model(), loaded.tokenizer
    save_checkpoint(tmp_path / "given", model, tokenizer, loaded.config, {})
    SentimentPredictor.load(tmp_path / "given", threads=1)(["good"])
    assert not (tmp_path / "theirs").exists()


def test_a_typed_line_is_answered_before_the_next_and_a_closed_pipe_ends_it(
    checkpoint: Path,
) -> None:
    command = [sys.executable, "-m", "sentiment.predict", "--checkpoint", str(checkpoint)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for text in TEXTS[:2]:
            process.stdin.write(text.encode() + b"\n")
            assert json.loads(process.stdout.readline())["text"] == text
        process.stdout.close()
        process.stdin.write(b"nobody reads the answer\n")
        assert process.wait() == 0
        assert process.stderr.read() == b""


def test_a_table_comes_back_with_the_same_predictions(
    checkpoint: Path, tmp_path: Path, door: Door
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,said\n1,good\n2,\n3,bad film\n")
    options = ("--checkpoint", checkpoint, "--input", source, "--output", target)
    code, records, printed = door(*options)
    assert (code, records) == (2, [])
    assert "has only 'id', 'said': name the column with --text-column NAME" in printed
    assert not target.exists()

    code, records, printed = door(*options, "--text-column", "said")
    assert (code, records) == (0, [])
    assert printed.startswith("3 texts (1 empty), ")
    _, expected, _ = door("--checkpoint", checkpoint, "good", "", "bad film")
    good, empty, bad = (f"{r['label'] or ''},{r['probability'] or ''}" for r in expected)
    assert target.read_text() == (
        f"id,said,prediction,probability\n1,good,{good}\n2,,{empty}\n3,bad film,{bad}\n"
    )


def test_explained_records_have_weights_of_tokens_beside_what_is_predicted(
    checkpoint: Path, predictor: SentimentPredictor, door: Door
) -> None:
    texts = ["It isn&#39;t <br />good, 😀 no.", " ", "Bad\u0301 \u201cfilm\u201d\u2026"]
    lines = "".join(f"{text}\n" for text in texts).encode()
    code, records, printed = door("--checkpoint", checkpoint, "--explain", stdin=lines)
    assert (code, printed.partition(",")[0]) == (0, "3 texts (1 empty)")
    assert door("--checkpoint", checkpoint, "--explain", *texts) == (0, records, "")
    tokens = [record.pop("tokens") for record in records]
    _, plain, _ = door("--checkpoint", checkpoint, *texts)
    assert [record.pop("probability") for record in records] == pytest.approx(
        [record.pop("probability") for record in plain], abs=1e-6
    )
    assert records == plain
    words = [[text[s:e] for s, e, _ in ts] for text, ts in zip(texts, tokens, strict=True)]
    assert words[0] == ["It", "is", "n&#39;t", "good", ",", "😀", "no", "."]
    assert words[1:] == [[], ["Bad\u0301", "\u201c", "film", "\u201d", "\u2026"]]
    for found, weights in zip(predictor.explain(texts), tokens, strict=True):
        if found.logit is not None and found.baseline is not None:
            total = sum(weight for _, _, weight in weights)
            expected = found.logit - found.baseline
            assert total == pytest.approx(expected, rel=0.0101, abs=0.00101)


@pytest.mark.slow
@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_shows_words_in_colour(checkpoint: Path, no_color: str) -> None:
    script = (
        "import os, pty, sys\n"
        "sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, *sys.argv[1:]])))"
    )
    arguments = ("--checkpoint", str(checkpoint), "--explain", "--", "good \x1b[31m film", " ")
    command = [sys.executable, "-c", script, "-m", "sentiment.predict", *arguments]
    environment = os.environ | {"NO_COLOR": no_color}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    head, shown, _, empty, _, _ = done.stdout.decode().split("\r\n")
    assert re.fullmatch(r"(positive|negative) 0\.\d+", re.sub(r"\x1b\[\d*m", "", head))
    assert empty == "empty text"
    if no_color:
        assert "\x1b" not in done.stdout.decode()
        assert re.search(r"(good|film)\[[+-]\d\.\d\d\]", shown)
    else:
        assert re.search(r"\x1b\[38;5;16;48;5;\d+m(good|film)\x1b\[0m", shown)
        # What a text says is never what the terminal does.
        assert re.sub(r"\x1b\[[\d;]*m", "", shown) == "good \ufffd[31m film"


def test_ctrl_c_costs_one_word(
    checkpoint: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(predictor_module, "predict_logits", interrupt)
    assert door("--checkpoint", checkpoint, "good") == (130, [], "interrupted\n")


def test_help_and_mistakes_do_not_wait_for_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import sentiment.predict as p; p.main()"
    for arguments, status in ((["--help"], 0), (["--threads", "0"], 2)):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: --checkpoint"),
        (("--checkpoint", "nowhere", "a"), "nowhere is no checkpoint: it does not exist"),
        (("--checkpoint", "c", "--threads", "many"), "--threads: many is no whole number"),
        (("--checkpoint", "c", "--threshold", "1.5"), "--threshold: 1.5 is no number from 0 to 1"),
        (("--checkpoint", "c", "--device", "tpu"), "--device: invalid choice: 'tpu'"),
        (("--checkpoint", "c", "--input", "a.csv"), "--input and --output go together"),
        (
            ("--checkpoint", "c", "--input", "a.csv", "--output", "b.csv", "--explain"),
            "--explain goes with texts",
        ),
        (("--checkpoint", "c", "--text-column", "a"), "--text-column goes with --input"),
        (("--checkpoint", "c", "--model", "a"), "unrecognized arguments: --model"),
        (("--checkpoint", "c", "\udcff"), "text 1 is not UTF-8"),
    ],
)
def test_a_mistake_costs_one_line(arguments: tuple[str, ...], message: str, door: Door) -> None:
    code, records, printed = door(*arguments)
    assert (code, records) == (2, [])
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1


def test_bytes_that_are_no_text_are_located(checkpoint: Path, door: Door) -> None:
    stdin = b"good\nb\xc3\xa4d \xff\nnever read\n"
    code, records, printed = door("--checkpoint", checkpoint, stdin=stdin)
    assert (code, [record["text"] for record in records]) == (2, ["good"])
    assert printed.startswith("error: standard input, line 2: 0xff at byte 10 is not UTF-8")
    assert printed.count("\n") == 1


@given(st.binary() | st.text().map(str.encode))
@settings(max_examples=FUZZ_EXAMPLES, deadline=None)
def test_any_bytes_give_a_line_for_each_line_or_an_error(
    predictor: SentimentPredictor, content: bytes
) -> None:
    output = io.BytesIO()
    expected = content.split(b"\n")[: None if content[-1:] not in (b"", b"\n") else -1]
    try:
        portions = line_portions(io.BufferedReader(io.BytesIO(content)), "x")
        write_records(portions, predictor, output, to_json)
    except UserError as error:
        with pytest.raises(UnicodeDecodeError):
            content.decode()
        bad = int(str(error).removeprefix("x, line ").partition(":")[0])
        expected = expected[: bad - 1]
    records = [json.loads(line) for line in output.getvalue().split(b"\n")[:-1]]
    assert len(records) == len(expected)
    if expected:
        expected[0] = expected[0].removeprefix(b"\xef\xbb\xbf")
    for record, line in zip(records, expected, strict=True):
        assert record["text"].encode() == line.removesuffix(b"\r")
        assert (record["probability"] is None) == (not record["text"].strip())
        assert record["probability"] is None or math.isfinite(record["probability"])


def test_memory_of_long_input_is_that_of_a_portion() -> None:
    lines = 300_000
    portions = line_portions(io.BufferedReader(io.BytesIO(b"a fine film\n" * lines)), "x")
    sizes = [len(portion) for portion in portions]
    assert sum(sizes) == lines
    assert max(sizes) < 10_000
    with pytest.raises(UserError, match="x, line 2: longer than 1048576 bytes"):
        list(line_portions(io.BufferedReader(io.BytesIO(b"a\n" + b"b" * 2_000_000)), "x"))
