import gzip
import json
import os
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment.config import DataConfig, DataSource, SplitConfig
from sentiment.data.files import read_splits
from sentiment.data.tables import read_table
from sentiment.errors import UserError
from tests.conftest import FUZZ_EXAMPLES

# What readers like to make something else of.
TEXTS = ["NA", "null", "nan", "12", "1.50", "2020-01-01", "", " x ", 'a "b", c', "two\nlines", "é"]


def read(path: Path) -> Dataset:
    return read_table(path, "data.train")


def write(path: Path, content: bytes | str) -> Path:
    encoded = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(encoded) if path.suffix == ".gz" else encoded)
    return path


def cached_files() -> set[Path]:
    return {path for path in Path(datasets.config.HF_DATASETS_CACHE).rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".json"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_texts_come_out_as_they_stand_in_the_file(
    tmp_path: Path, suffix: str, packed: str, mark: str
) -> None:
    frame = pd.DataFrame({"text": TEXTS, "label": [0, 1] * 5 + [0]})
    if suffix in (".csv", ".tsv"):
        content = frame.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",")
    else:
        content = frame.to_json(orient="records", lines=suffix != ".json")
    table = read(write(tmp_path / f"mine{suffix}{packed}", mark + content))
    assert table.column_names == ["text", "label"]
    assert list(table["text"]) == TEXTS


def test_parquet_comes_with_its_types(tmp_path: Path) -> None:
    pd.DataFrame({"text": TEXTS, "label": [1.0] * 11}).to_parquet(tmp_path / "a.parquet")
    table = read(tmp_path / "a.parquet")
    assert table[:] == {"text": TEXTS, "label": [1.0] * 11}


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_the_header_tells_the_separator(tmp_path: Path, separator: str) -> None:
    rows = [("id", "text, long", "label"), ("1", "a; b, c\td", "x"), ("2", "e", "y")]
    lines = (separator.join(f'"{field}"' for field in row) for row in rows)
    table = read(write(tmp_path / "a.csv", "\n".join(lines)))
    assert list(table["text, long"]) == ["a; b, c\td", "e"]


def test_a_column_without_a_name_and_a_short_row_are_kept(tmp_path: Path) -> None:
    table = read(write(tmp_path / "a.csv", ",text,label\n0,a,x\n\n1,b\n"))
    assert table[:] == {"Unnamed: 0": ["0", "1"], "text": ["a", "b"], "label": ["x", ""]}


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nold,1\n")
    before = path.stat()
    assert list(read(path)["text"]) == ["old"]
    write(path, "text,label\nnew,1\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(read(path)["text"]) == ["new"]


def test_a_file_name_is_no_pattern(tmp_path: Path) -> None:
    write(tmp_path / "a1.csv", "text,label\nother,1\n")
    assert list(read(write(tmp_path / "a[1].csv", "text,label\nmine,1\n"))["text"]) == ["mine"]


LONG = b"text,label\n" + b"".join(b"review %d,%d\n" % (i, i % 2) for i in range(200_000))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "there is no such file"),
        (".", None, "is a folder, expected a file"),
        ("a.txt", "text,label\n", r"no file of a known kind, expected one that ends in \.csv,"),
        ("a.parquet.gz", "text", "no file of a known kind"),
        ("a.csv", "", "is empty"),
        ("a.jsonl", "\n \n", "is empty"),
        ("a.csv.gz", "", "is empty"),
        ("a.csv", "text,label\n", "has a header and no rows"),
        ("a.csv", "text,text\na,1\n", "several columns named 'text'"),
        ("a.jsonl", '{"text":"a","text":"b"}', "Column.*text.* was specified twice in row 0"),
        ("a.csv", "text,label\na,b,1\nc,1\n", "data row 1 has 3 fields, the header 2; a text with"),
        ("a.csv", "text,label\nc,1\na,b,1\n", "data row 2 has 3 fields, the header 2; a text with"),
        ("a.csv", 'text,label\n"two\nlines",1\na,b,1\n', "data row 2 has 3 fields"),
        ("a.csv", 'text,label\na,1\n"b,1\nc,0\n', "EOF inside string starting at row 2"),
        ("a.csv", b"text,label\na,1\ncaf\xe9,1\n", r"not UTF-8 in line 3 \(byte 18 of the file\)"),
        ("a.csv", LONG + b"\xc3", r"not UTF-8 in line 200002 \(byte 3088901 of the file\)"),
        ("a.csv.gz", b"text,label\n\xff,1\n", r"not UTF-8 in line 2 \(byte 11 of the file\)"),
        ("a.csv", "text,label\na,1\n".encode("utf-16"), "not UTF-8 in line 1"),
        ("a.csv", "text,label\na,1\n".encode("utf-16-le"), "NUL byte in line 1"),
        ("a.jsonl", '{"text": "a"}\n{"text": 1}\n', "Column.*text.* changed from string to number"),
        ("a.jsonl", '{"text": "a"', "cannot read data.train=.*Missing a comma"),
        ("a.jsonl", '{"text": "\\ud800"}', "surrogate"),
        ("a.json", "[1, 2", "is no JSON list"),
        ("a.json", "[1, 2]", "is a list with something other than objects"),
        ("a.json", '[null, {"text": "a"}]', "is a list with something other than objects"),
        ("a.jsonl", 'null\n{"text": "a"}', "line 1 is no JSON object, expected one object a line"),
        ("a.jsonl", '{"text": "a"}\n\r\n "b"', "line 3 is no JSON object"),
        ("a.parquet", b"text", "cannot read data.train=.*[Pp]arquet"),
        ("a.parquet", b"", "is empty"),
    ],
)
def test_unreadable_files_are_refused_and_leave_no_cache(
    tmp_path: Path, name: str, content: bytes | str | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        write(path, content)
    before = cached_files()
    with pytest.raises(UserError, match=message) as refusal:
        read(path)
    assert f"data.train={path}" in str(refusal.value)
    assert cached_files() == before


@pytest.mark.parametrize("damage", ["cut off", "one byte", "not gzip"])
def test_a_damaged_gzip_is_refused(tmp_path: Path, damage: str) -> None:
    packed = bytearray(gzip.compress(LONG))
    if damage == "cut off":
        packed = packed[: len(packed) // 2]
    elif damage == "one byte":
        packed[len(packed) // 2] ^= 255
    else:
        packed = bytearray(LONG)
    (tmp_path / "a.csv.gz").write_bytes(packed)
    with pytest.raises(UserError, match=r"a\.csv\.gz"):
        read(tmp_path / "a.csv.gz")


def test_parquet_without_rows_or_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has columns and no rows"):
        read(tmp_path / "a.parquet")
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(UserError, match="several columns named 'text'"):
        read(tmp_path / "b.parquet")


ROWS = [{"text": f"a review, number {i}", "label": i % 2} for i in range(30)]
SEEDS = {
    ".csv": pd.DataFrame(ROWS).to_csv(index=False).encode(),
    ".jsonl": "\n".join(json.dumps(row) for row in ROWS).encode(),
    ".csv.gz": gzip.compress(pd.DataFrame(ROWS).to_csv(index=False).encode(), mtime=0),
}
SNIPPETS = [
    b'"',
    b",",
    b"\n",
    b"\r",
    b";",
    b"\0",
    b"\xff",
    b"{",
    b"}",
    b"[",
    b"null",
    b"\nnull",
    b"1e999",
    b" ",
]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A readable file with some of its bytes replaced, or bytes that never were one."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=300))
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 1, 5, 1000]))
        content[start : start + length] = draw(st.sampled_from(SNIPPETS) | st.binary(max_size=4))
    return bytes(content)


@pytest.mark.parametrize("suffix", list(SEEDS))
def test_any_bytes_are_read_or_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    outcomes = set()

    @settings(max_examples=FUZZ_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(content=damaged(SEEDS[suffix]))
    def try_to_read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            data = DataConfig(DataSource.files, None, train=str(path))
            train, _, _ = read_splits(data, SplitConfig(0.1, 0))
            outcomes.add(set(train["label"]) == {0, 1})
        except UserError as refusal:
            outcomes.add(str(path) in str(refusal) or "data." in str(refusal))

    try_to_read()
    assert outcomes == {True}


def test_a_field_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(f"text,label\n{'word ' * 50_000},1\nshort,0\n")
    table = read_table(path, "data.train")
    assert [len(text) for text in table["text"]] == [250_000, 5]
