from pathlib import Path

import pyarrow.parquet as pq
import pytest

import make_films
from sentiment.data.films import text_keys
from sentiment.errors import UserError


def test_reviews_of_one_address_are_of_one_film(tmp_path: Path) -> None:
    texts = {"neg": ["Bad.", "Worse."], "pos": ["Good.", "Better."]}
    addresses = {"neg": "title/a\ntitle/b\n", "pos": "title/b\ntitle/c\n"}
    for label in texts:
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / f"urls_{label}.txt").write_text(addresses[label])
        for number, text in enumerate(texts[label]):
            (tmp_path / "train" / label / f"{number}_7.txt").write_text(text)
    make_films.write_films(tmp_path, tmp_path / "films.parquet")
    table = pq.read_table(tmp_path / "films.parquet").to_pydict()
    film_of = dict(zip(table["text"], table["film"], strict=True))
    bad, worse, good, better = (
        film_of[key] for key in text_keys(["Bad.", "Worse.", "Good.", "Better."]).tolist()
    )
    assert worse == good
    assert len({bad, worse, better}) == 3
    assert table["text"] == sorted(table["text"])


def test_a_folder_without_reviews_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["make_films.py", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        make_films.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["7_1.txt", "readme.txt"])
def test_a_review_without_an_address_is_refused(name: str, tmp_path: Path) -> None:
    for label in ("neg", "pos"):
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / f"urls_{label}.txt").write_text("title/a\n")
    (tmp_path / "train" / "neg" / name).write_text("Bad.")
    with pytest.raises(UserError, match=rf"{name} has no line among the 1 of urls_neg\.txt"):
        make_films.write_films(tmp_path, tmp_path / "films.parquet")
