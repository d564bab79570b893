import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.config import DataConfig, DataSource, SplitConfig
from sentiment.data.reviews import (
    groups_of,
    label_names,
    labels_of,
    load_splits,
    load_test,
    load_unlabelled,
    ratings_of,
)
from sentiment.data.splitting import draw_groups, draw_rows
from sentiment.errors import UserError

SPLIT = SplitConfig(validation_fraction=0.1, seed=0)


def mine(path: Path, **settings: Any) -> DataConfig:
    return DataConfig(DataSource.files, None, train=str(path), **settings)


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def reviews(rows: int, positive_every: int = 2, prefix: str = "review") -> dict[str, list[Any]]:
    labels = ["pos" if row % positive_every == 0 else "neg" for row in range(rows)]
    return {"text": [f"{prefix} {row}" for row in range(rows)], "label": labels}


def test_what_has_no_file_is_taken_from_train_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.csv", reviews(1000, positive_every=4))
    with caplog.at_level(logging.INFO):
        splits = load_splits(mine(path), SPLIT)
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 810,
        "validation": 90,
        "test": 100,
    }
    for part in splits.values():
        assert labels_of(part).mean() == pytest.approx(0.25, abs=0.01)
        rows = [int(text.split()[1]) for text in part["text"]]
        assert labels_of(part).tolist() == [int(row % 4 == 0) for row in rows]
    texts = {text for part in splits.values() for text in part["text"]}
    assert len(texts) == 1000
    assert caplog.messages == [
        "no data.test: 100 of 1000 reviews of data.train taken for it, stratified by label",
        "no data.validation: 90 of 900 reviews of data.train taken for it, stratified by label",
    ]
    assert load_test(mine(path), SPLIT)[:] == splits["test"][:]
    other = load_splits(mine(path), SplitConfig(0.1, 1))
    assert set(other["test"]["text"]) != set(splits["test"]["text"])


def test_files_of_their_own_are_taken_whole(tmp_path: Path) -> None:
    paths = {
        name: write(tmp_path / f"{name}.csv", reviews(20 + size, prefix=name))
        for size, name in enumerate(("train", "validation", "test"))
    }
    given = {name: str(path) for name, path in paths.items() if name != "train"}
    splits = load_splits(mine(paths["train"], **given), SPLIT)
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 20,
        "validation": 21,
        "test": 22,
    }
    for name, part in splits.items():
        assert all(text.startswith(name) for text in part["text"])
    only_validation = {"validation": given["validation"]}
    splits = load_splits(mine(paths["train"], **only_validation), SPLIT)
    assert [len(part) for part in splits.values()] == [18, 21, 2]


def test_labels_of_all_files_mean_what_they_mean_in_train(tmp_path: Path) -> None:
    test = write(tmp_path / "b.csv", {"text": list("efgh"), "label": ["5.0", "1.0", "1.0", "5.0"]})
    train = write(tmp_path / "d.csv", {"text": LONG, "label": ["1", "5"] * 10})
    splits = load_splits(mine(train, test=str(test)), SPLIT)
    assert label_names(splits["train"]) == ("1", "5")
    assert labels_of(splits["test"]).tolist() == [1, 0, 0, 1]
    stars = write(tmp_path / "c.csv", {"text": list("efgh"), "label": ["0", "1", "1", "0"]})
    with pytest.raises(UserError, match=r"data\.test=.*c\.csv.*'0' \(2 rows.*only '1' and '5'"):
        load_splits(mine(train, test=str(stars)), SPLIT)


def test_a_column_of_ratings_comes_along_unless_it_is_the_label(tmp_path: Path) -> None:
    stars = [str(row % 5) if row % 7 else "" for row in range(100)]
    path = write(tmp_path / "a.csv", reviews(100) | {"rating": stars})
    test = load_test(mine(path, label_column="label"), SPLIT)
    for text, rating in zip(test["text"], ratings_of(test), strict=True):
        row = int(text.split()[1])
        np.testing.assert_equal(rating, row % 5 if row % 7 else np.nan)
    path = write(tmp_path / "b.csv", {"text": LONG, "rating": ["1", "5"] * 10})
    assert np.isnan(ratings_of(load_test(mine(path), SPLIT))).all()


def test_groups_stay_together(tmp_path: Path) -> None:
    columns = reviews(600, positive_every=3) | {"film": [row // 7 for row in range(600)]}
    path = write(tmp_path / "a.csv", columns)
    data = mine(path, group_column="film")
    splits = load_splits(data, SPLIT)
    films = [{int(text.split()[1]) // 7 for text in part["text"]} for part in splits.values()]
    assert sum(map(len, films)) == len(set.union(*films)) == 86
    assert len(splits["test"]) == pytest.approx(60, abs=7)
    assert len(splits["validation"]) == pytest.approx(54, abs=7)
    assert load_test(data, SPLIT)[:] == splits["test"][:]


@given(
    sizes=st.lists(st.integers(1, 20), min_size=40, max_size=200),
    share=st.floats(0.2, 0.8),
    fraction=st.floats(0.1, 0.5),
    seed=st.integers(0, 1000),
)
def test_drawn_shares_are_near_what_is_asked_for(
    sizes: list[int], share: float, fraction: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    groups_N = np.repeat(np.arange(len(sizes)), sizes)
    labels_N = (generator.random(len(groups_N)) < share).astype(np.int64)
    rows_N = draw_rows(labels_N, fraction, generator)
    whole_N = draw_groups(labels_N, groups_N, fraction, generator)
    for label in (0, 1):
        wanted = fraction * (labels_N == label).sum()
        assert abs((labels_N[rows_N] == label).sum() - wanted) <= 0.5
        assert abs((labels_N[whole_N] == label).sum() - wanted) <= 20
    for group in range(len(sizes)):
        assert len(set(whole_N[groups_N == group])) == 1


@pytest.mark.parametrize(
    ("text", "label"), [("Review", "Sentiment"), (" text", "class"), ("sentence", "POLARITY")]
)
def test_usual_columns_are_found(tmp_path: Path, text: str, label: str) -> None:
    columns = reviews(40)
    path = write(
        tmp_path / "a.csv", {"id": [1] * 40, text: columns["text"], label: columns["label"]}
    )
    splits = load_splits(mine(path), SPLIT)
    assert splits["train"].column_names == ["text", "id", "label"]
    assert splits["train"]["text"][0].startswith("review ")


def test_unlabelled_texts_need_no_label_and_leave_out_what_is_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = write(tmp_path / "a.csv", reviews(40))
    texts = ["new", "review 3", " ", "newer", "new"]
    more = write(tmp_path / "more.csv", {"number": [1, 2, 3, 4, 5], "comment": texts})
    data = mine(train, unlabelled=str(more))
    splits = load_splits(data, SPLIT)
    with caplog.at_level(logging.INFO):
        found = load_unlabelled(data, splits)
    assert found["text"][:] == ["new", "newer", "new"]
    assert f"data.unlabelled={more}: dropped 1 rows without a text" in caplog.messages
    assert len(load_unlabelled(mine(train), splits)) == 0

    empty = write(tmp_path / "empty.csv", {"number": [1], "comment": [" "]})
    with pytest.raises(UserError, match=r"data\.unlabelled=.*'comment' has no texts"):
        load_unlabelled(mine(train, unlabelled=str(empty)), splits)
    other = write(tmp_path / "other.csv", {"x": ["a b"], "y": ["c d"]})
    with pytest.raises(UserError, match=r"data\.unlabelled=.*data\.text_column="):
        load_unlabelled(mine(train, unlabelled=str(other)), splits)


def test_columns_and_labels_as_told(tmp_path: Path) -> None:
    columns = {"text": ["no"] * 40, "was": [f"t {row}" for row in range(40)], "ok": [2, 3] * 20}
    path = write(tmp_path / "a.csv", columns)
    data = mine(path, text_column="was", label_column="ok", positive="2", negative="3")
    train = load_splits(data, SPLIT)["train"]
    assert [int(text.split()[1]) % 2 for text in train["text"]] == [
        1 - label for label in labels_of(train)
    ]


def test_categories_of_parquet(tmp_path: Path) -> None:
    columns = pd.DataFrame(reviews(40)).astype({"label": "category"})
    columns.to_parquet(tmp_path / "a.parquet")
    assert label_names(load_splits(mine(tmp_path / "a.parquet"), SPLIT)["test"]) == ("neg", "pos")


def test_large_strings_of_parquet(tmp_path: Path) -> None:
    columns = reviews(40)
    table = {
        "text": pa.array(columns["text"], pa.large_string()),
        "label": pa.array(columns["label"], pa.large_string()),
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert len(load_splits(mine(tmp_path / "a.parquet"), SPLIT)["train"]) == 32


def test_rows_without_text_or_label_are_dropped_only_when_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = reviews(100)
    columns["text"][3], columns["text"][8], columns["label"][10] = "", " \t", ""
    path = write(tmp_path / "a.csv", columns)
    with pytest.raises(UserError, match=r"3 of 100 rows have no text or no label.*data row 4;"):
        load_splits(mine(path), SPLIT)
    with caplog.at_level(logging.INFO):
        splits = load_splits(mine(path, drop_empty=True), SPLIT)
    assert "dropped 3 rows without a text or a label" in caplog.text
    assert sum(map(len, splits.values())) == 97
    assert all(text.strip() for part in splits.values() for text in part["text"])


LONG = [f"text {row}" for row in range(20)]
MIXED = ["pos", "neg"] * 10


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            {"a": LONG, "label": MIXED},
            {},
            r"has only 'a', 'label': name the column with data\.text_column=NAME",
        ),
        (
            {"text": LONG, "review": LONG, "label": MIXED},
            {},
            "both 'text', 'review': name the column",
        ),
        (
            {"text": LONG, "label": MIXED},
            {"text_column": "txt"},
            r"no column 'txt' \(data\.text_column=txt\), only 'text', 'label'",
        ),
        (
            {"text": LONG, "label": MIXED},
            {"label_column": "text"},
            "data.text_column and data.label_column are both 'text'",
        ),
        (
            {"text": LONG, "label": MIXED},
            {"text_column": "label", "label_column": "text"},
            r"column 'label' has only the texts 'pos' and 'neg': are they labels\?",
        ),
        ({"text": LONG, "label": ["pos"] * 20}, {}, "only the label 'pos'"),
        (
            {"text": LONG, "label": ["pos"] * 20},
            {"positive": "pos", "negative": "neg"},
            "has only the label 'pos', expected neg and pos",
        ),
        ({"text": [""] * 20, "label": MIXED}, {"drop_empty": True}, "has no rows"),
        ({"text": LONG, "label": MIXED, "g": [""] * 20}, {"group_column": "g"}, "20 rows without"),
        ({"text": LONG, "label": MIXED}, {"group_column": "g"}, r"\(data\.group_column=g\), only"),
        (
            {"text": LONG, "label": MIXED, "g": ["same"] * 20},
            {"group_column": "g"},
            r"data\.test is not given.*in whole groups of g leaves a side without.*data\.test=FILE",
        ),
        (
            {"text": LONG[:4], "label": MIXED[:4]},
            {},
            r"data\.test is not given, .*0\.1 of 4 reviews .*leaves a side without one of the cla",
        ),
    ],
)
def test_unusable_columns_are_refused(
    tmp_path: Path, columns: dict[str, list[Any]], settings: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "a.csv", columns)
    with pytest.raises(UserError, match=message):
        load_splits(mine(path, **settings), SPLIT)


def test_groups_are_known_where_nothing_is_split(tmp_path: Path) -> None:
    # N-grams are learned in folds of them.
    given = {}
    for name in ("validation", "test"):
        columns = {"text": [f"{text} {name}" for text in LONG], "label": MIXED}
        given[name] = str(write(tmp_path / f"{name}.csv", columns))
    path = write(tmp_path / "a.csv", {"text": LONG, "label": MIXED, "g": MIXED})
    splits = load_splits(mine(path, group_column="g", **given), SPLIT)
    assert len(np.unique(groups_of(splits["train"]))) == 2


def test_groups_of_parquet_can_be_numbers_and_dates_but_not_anything(tmp_path: Path) -> None:
    groups = {
        "date": [pd.Timestamp("2020-01-01") + pd.Timedelta(days=row // 4) for row in range(40)],
        "number": [row // 4 for row in range(40)],
        "list": [[row] for row in range(40)],
        "bytes": [b"\xff"] * 40,
    }
    pd.DataFrame(reviews(40) | groups).to_parquet(tmp_path / "a.parquet")
    for name in ("date", "number"):
        splits = load_splits(mine(tmp_path / "a.parquet", group_column=name), SPLIT)
        assert [len(part) for part in splits.values()] == [32, 4, 4]
    for name in ("list", "bytes"):
        with pytest.raises(UserError, match=f"column '{name}' is of the type .*expected strings"):
            load_splits(mine(tmp_path / "a.parquet", group_column=name), SPLIT)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (pa.array([1] * 20), "column 'text' is of the type int64, expected strings"),
        (
            pa.array([b"fine"] * 18 + [b"caf\xe9", b"fine"]).cast(pa.string(), safe=False),
            "column 'text' is not UTF-8 in data row 19 at byte 3 of the text",
        ),
    ],
)
def test_texts_of_parquet_that_are_none_are_refused(
    tmp_path: Path, texts: pa.Array, message: str
) -> None:
    if pa.types.is_string(texts.type):
        texts = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())
    pq.write_table(pa.table({"text": texts, "label": MIXED}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=message):
        load_splits(mine(tmp_path / "a.parquet"), SPLIT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "x", "train": "a.csv"}, "data.path is x, expected null with data=files"),
        ({"path": None}, r"data\.train is None, expected a file \(data\.train=reviews\.csv\)"),
        ({"path": None, "train": "a", "positive": "1", "negative": "1"}, "data.positive is 1, exp"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DataConfig(DataSource.files, **arguments)


@pytest.mark.parametrize("source", [DataSource.imdb, DataSource.sample])
@pytest.mark.parametrize("name", ["train", "test", "text_column", "positive", "drop_empty"])
def test_settings_of_files_are_refused_elsewhere(source: DataSource, name: str) -> None:
    value = True if name == "drop_empty" else "x"
    with pytest.raises(UserError, match=f"data.{name} is {value}, .*data=files reads your own"):
        DataConfig(source, None, **{name: value})
