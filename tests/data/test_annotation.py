import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment.data.annotation import ROWS_PER_GROUP, annotate
from sentiment.errors import UserError
from tests.conftest import FUZZ_EXAMPLES

Said = list[tuple[str | None, float | None]]


def by_length(texts: Sequence[str]) -> Said:
    return [
        ("long" if len(text) > 3 else "short", len(text) / 100) if text else (None, None)
        for text in texts
    ]


def test_csv_keeps_every_cell_as_it_is(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(
        b'\xef\xbb\xbfid,text,"a ""note"""\r\n007,"a, b\nc",1.50\r\n\r\n'
        b"8,,NA\r\n9,b\xc3\xa4d, x \r\n"
    )
    annotate(source, target, by_length, None)
    assert target.read_bytes().decode() == (
        'id,text,"a ""note""",prediction,probability\n'
        '007,"a, b\nc",1.50,long,0.06\n'
        "8,,NA,,\n"
        "9,bäd, x ,short,0.03\n"
    )


def test_tsv_and_gzip(tmp_path: Path) -> None:
    source, target = tmp_path / "in.tsv.gz", tmp_path / "out.tsv.gz"
    source.write_bytes(gzip.compress(b"n\treview\n1\ta, b\n"))
    annotate(source, target, by_length, "review")
    written = gzip.decompress(target.read_bytes())
    assert written == b"n\treview\tprediction\tprobability\n1\ta, b\tlong\t0.04\n"
    assert {path.name for path in tmp_path.iterdir()} == {"in.tsv.gz", "out.tsv.gz"}


def test_json_lines_keep_nested_values_and_their_order(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows: list[dict[str, object]] = [
        {"z": [1, {"a": None}], "body": "schön", "n": 12345678901234567890},
        {"body": None},
        {"other": "\ud800"},
        {},
        {"body": "\ud800 half"},
    ]
    lines = [json.dumps(row) for row in rows]
    lines[0] = lines[0].replace("12345678901234567890", "12345678901234567.89012")
    source.write_text("\n".join(lines) + "  \n\n")
    annotate(source, target, by_length, None)
    written = [json.loads(line) for line in target.read_text().splitlines()]
    labels = [("long", 0.05), (None, None), (None, None), (None, None), ("long", 0.06)]
    assert written == [
        json.loads(line) | {"prediction": label, "probability": probability}
        for line, (label, probability) in zip(lines, labels, strict=True)
    ]
    assert list(written[0]) == ["z", "body", "n", "prediction", "probability"]
    for before, after in zip(lines, target.read_text().splitlines(), strict=True):
        assert after.startswith(before[:-1])  # every digit, and every escape


def test_a_damaged_page_of_parquet_names_its_file(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": [f"film {n}" for n in range(1000)]}), source)
    whole = bytearray(source.read_bytes())
    whole[4:40] = b"\xff" * 36  # the first page's header
    source.write_bytes(whole)
    with pytest.raises(UserError, match=r"cannot read .*in\.parquet: "):
        annotate(source, tmp_path / "out.parquet", by_length, None)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is made of /dev/full")
def test_a_full_disk_names_the_files(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n" + "a film\n" * 10_000)
    target.with_name("out.csv.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot copy .*in\.csv to .*out\.csv: No space left"):
        annotate(source, target, by_length, None)


def test_parquet_keeps_types_and_metadata(tmp_path: Path) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    rows = ROWS_PER_GROUP + 3
    table = pa.table(
        {
            "id": pa.array(range(rows), pa.uint16()),
            "tags": pa.array([["a"], None, []] + [["b", "c"]] * (rows - 3)),
            "Review": pa.array(["good"] * (rows - 2) + [None, "no"]).dictionary_encode(),
        }
    ).replace_schema_metadata({"made by": "me"})
    pq.write_table(table, source)
    annotate(source, target, by_length, None)
    written = pq.read_table(target)
    assert written.select(table.column_names).equals(table)
    assert written.schema.metadata[b"made by"] == b"me"
    assert written["prediction"].to_pylist()[-3:] == ["long", None, "short"]
    assert written["probability"].to_pylist()[-3:] == [0.04, None, 0.02]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r"a\.csv is empty, expected names of columns, and rows"),
        ("a.csv", b"id,said\n1,x\n", r"has only 'id', 'said': name the column with --text-column"),
        ("a.csv", b"id;review\n1;x;y\n", r"a\.csv, line 2: 3 values, expected 2 as in the header"),
        ("a.csv", b"text,text\nx,y\n", r"has 2 columns 'text'; rename one"),
        ("a.csv", b"text,prediction\nx,y\n", r"has a column 'prediction' already"),
        ("a.csv", b"text,n\nx,1\ny\n", r"a\.csv, line 3: 1 values, expected 2 as in the header"),
        ("a.csv", b'text\n"x" y\n', r"a\.csv, line 2: ',' expected after '\"'"),
        ("a.csv", b'text\n"x\n', r"a\.csv, line 2: unexpected end of data"),
        ("a.csv", b"text\nx\n\xff\n", r"a\.csv, line 3: 0xff at byte 7 is not UTF-8"),
        ("a.csv.gz", gzip.compress(b"text\nx\n" * 99)[:-9], r"cannot read .*a\.csv\.gz: "),
        ("a.csv.gz", b"text\nx\n", r"cannot read .*a\.csv\.gz: Not a gzipped file"),
        ("a.jsonl", b'{"text": "x"}\n{"text": ', r"a\.jsonl, line 2 is no JSON: "),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl, line 1 is no JSON: "),
        ("a.jsonl", b'{"text": "x"}\n["text"]\n', r"a\.jsonl, line 2 is no JSON object"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 5}\n', r"a\.jsonl, line 2: 'text' is no string"),
        ("a.parquet", b"PAR1 not really PAR1", r"cannot read .*a\.parquet: "),
        ("a.xlsx", b"", r"a\.xlsx: unknown format, expected a name that ends in \.csv"),
        ("a.parquet.gz", b"", r"a\.parquet\.gz: unknown format"),
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_is_written(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    source, target = tmp_path / name, tmp_path / f"out{name[1:]}"
    source.write_bytes(content)
    target.write_text("from before")
    with pytest.raises(UserError, match=message):
        annotate(source, target, by_length, None)
    assert target.read_text() == "from before"
    assert {path.name for path in tmp_path.iterdir()} == {name, target.name}


def test_a_parquet_column_of_numbers_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="'text' is int64, expected strings"):
        annotate(tmp_path / "a.parquet", tmp_path / "b.parquet", by_length, None)


def test_where_the_result_may_not_go(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("text\nx\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "same.csv").symlink_to(source)
    for target, message in (
        (source, "is the input, expected another file"),
        (tmp_path / "same.csv", "is the input, expected another file"),
        (tmp_path / "a.parquet", r"expected the format of the input, \.csv"),
        (tmp_path / "folder.csv", "expected a file in a folder that exists"),
        (tmp_path / "nowhere" / "a.csv", "expected a file in a folder that exists"),
    ):
        with pytest.raises(UserError, match=message):
            annotate(source, target, by_length, None)
    for absent, message in (("b.csv", "it does not exist"), ("folder.csv", "it is no file")):
        with pytest.raises(UserError, match=message):
            annotate(tmp_path / absent, tmp_path / "c.csv", by_length, None)
    assert source.read_text() == "text\nx\n"


PIECES = (b"text", b"review", *(bytes([byte]) for byte in b',;\t\n\r"{}:\xffx'))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".jsonl", ".parquet"])
@settings(
    max_examples=FUZZ_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary() | st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_any_bytes_are_annotated_or_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    source.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    target.unlink(missing_ok=True)
    try:
        annotate(source, target, by_length, None)
    except UserError:
        assert {path.name for path in tmp_path.iterdir()} == {source.name}
    else:
        assert target.is_file()
