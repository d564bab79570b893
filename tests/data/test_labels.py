import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Value

from sentiment.data.labels import MISSING, read_labels
from sentiment.errors import UserError


def read(
    values: list[object], negative: str | None = None, positive: str | None = None
) -> tuple[list[str], list[int]]:
    names, labels_N = read_labels(
        pa.chunked_array([pa.array(values)]), Value("string"), negative, positive, "a.csv"
    )
    return names, labels_N.tolist()


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("neg", "pos"),
        ("negative", "positive"),
        ("Negative", "Positive"),
        ("0", "1"),
        (0, 1),
        (0.0, 1.0),
        ("0.0", "1.0"),
        (-1, 1),
        (False, True),
        ("FALSE", "TRUE"),
        ("no", "yes"),
        (1, 5),
        ("1", "5"),
    ],
)
def test_the_usual_pairs_are_recognised_in_any_order(negative: object, positive: object) -> None:
    for order in ([negative, positive, positive], [positive, positive, negative]):
        _, labels = read(order)
        assert labels == [int(value == positive) for value in order]


def test_names_are_the_spellings_that_occur_most() -> None:
    assert read(["pos", "Neg ", "Pos", "Pos", "neg", "NEG", "neg"]) == (
        ["neg", "Pos"],
        [1, 0, 1, 1, 0, 0, 0],
    )
    assert read([0.0, 1.0])[0] == ["0", "1"]
    assert read([True, False])[0] == ["false", "true"]


def test_any_two_values_can_be_named() -> None:
    assert read(["bad", "good", "bad"], "bad", "good") == (["bad", "good"], [0, 1, 0])
    assert read(["1", "0"], positive="0", negative="1") == (["1", "0"], [0, 1])
    assert read([True, False], positive="False", negative="True")[1] == [0, 1]
    assert read([2, 1, 2], negative="2.0", positive="1") == (["2", "1"], [0, 1, 0])


def test_where_one_value_is_named_the_other_is_the_other() -> None:
    assert read(["meh", "wow"], positive="wow") == (["meh", "wow"], [0, 1])
    assert read(["meh", "wow"], negative="wow") == (["wow", "meh"], [1, 0])


def test_missing_labels_are_marked() -> None:
    assert read(["pos", "", None, " ", "neg"])[1] == [1, MISSING, MISSING, MISSING, 0]
    assert read([1.0, float("nan"), None, 0.0])[1] == [1, MISSING, MISSING, 0]


def test_the_names_of_a_class_label_count_not_its_numbers() -> None:
    column = pa.chunked_array([[0, 1], [None, -1, 1]])
    feature = ClassLabel(names=["pos", "neg"])
    names, labels_N = read_labels(column, feature, None, None, "a.parquet")
    assert names == ["neg", "pos"]
    assert np.array_equal(labels_N, [1, 0, MISSING, MISSING, 0])


@pytest.mark.parametrize(
    ("values", "given", "message"),
    [
        (["pos", "pos"], {}, r"has only the label 'pos' \(2 rows, .*expected two classes"),
        (["", None], {}, "has no labels, expected two classes"),
        (
            ["a", "b", "a"],
            {},
            r"'a' \(2 rows, the first is data row 1\), 'b' \(1 rows, the first is data row 2\): "
            "say which is which, with data.positive=a data.negative=b or the other way round",
        ),
        (
            ["pos", "neg", "neutral", "pos", "neutral"],
            {},
            r"the labels 'neutral' \(2 rows, the first is data row 3\), expected only 'neg' and "
            "'pos'; remove these rows",
        ),
        ([1, 2, 3, 4, 5], {}, "labels '1' .*'5' .*, expected only two"),
        ([-1, 0, 1], {}, "expected only two"),
        ([1, 5, 3], {"positive": "5", "negative": "1"}, r"'3' \(1 rows.*expected only '1' and '5'"),
        (["a", "b", "c"], {"positive": "a"}, "expected only two"),
        (["a", "b"], {"positive": "x"}, "say which is which"),
        (list(range(2000)), {}, r"2000 different values, such as 0, 1, 2, .*data\.label_column="),
        ([[1], [0]], {}, r"of the type list.*expected strings, numbers or booleans"),
    ],
)
def test_other_labels_are_refused(
    values: list[object], given: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=f"a.csv .*{message}"):
        read(values, **given)
