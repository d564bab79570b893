"""What the bundled sample promises: it is what its generator writes, and counting words fails."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import make_sample
from sentiment.data.reviews import SAMPLE
from sentiment.text.tokenizer import train_tokenizer
from tests.conftest import compose_train

SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def texts() -> dict[str, list[str]]:
    return {name: pq.read_table(SAMPLE / f"{name}.parquet")["text"].to_pylist() for name in SPLITS}


def test_the_generator_writes_these_very_rows(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "make_sample.py"
    subprocess.run([sys.executable, str(script), "--output", str(tmp_path)], check=True)
    for name in SPLITS:
        made, bundled = (pq.read_table(f / f"{name}.parquet") for f in (tmp_path, SAMPLE))
        assert made.equals(bundled)


def test_a_file_in_the_place_of_its_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sample").write_text("")
    monkeypatch.setattr(sys, "argv", ["make_sample.py", "--output", str(tmp_path / "sample")])
    with pytest.raises(SystemExit) as stop:
        make_sample.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'sample'}: File exists\n"


def test_reviews_are_distinct_and_have_20_to_300_tokens(texts: dict[str, list[str]]) -> None:
    tokenizer = train_tokenizer([texts["train"]], compose_train().tokenizer)
    lengths = [len(e.ids) for name in SPLITS for e in tokenizer.encode_batch_fast(texts[name])]
    assert min(lengths) >= 20
    assert max(lengths) <= 300
    assert len({*texts["train"], *texts["test"]}) == 5000


@pytest.mark.parametrize("vectorizer", [CountVectorizer, TfidfVectorizer])
def test_a_bag_of_words_stays_under_75_percent(
    vectorizer: type[CountVectorizer], texts: dict[str, list[str]]
) -> None:
    labels = {
        name: pq.read_table(SAMPLE / f"{name}.parquet")["label"].to_numpy() for name in SPLITS
    }
    classifier = make_pipeline(vectorizer(), LogisticRegression(max_iter=2000))
    classifier.fit(texts["train"], labels["train"])
    assert 0.5 < classifier.score(texts["test"], labels["test"]) < 0.75
