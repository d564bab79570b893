"""A user's table, from CSV, TSV, JSON Lines or parquet, through the readers of `datasets`.

The readers leave the table on disk as Arrow, memory-mapped. What they would guess, repair or
report without saying where is settled before: every byte of a text file is read once, which finds
damage and its place, and gives the hash that names the reader's cache.
"""

import codecs
import csv
import glob
import gzip
import hashlib
import io
import json
import logging
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Value, load_dataset

from sentiment.data.columns import find_separator
from sentiment.errors import UserError

READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}
BLOCK = 1 << 20
LONGEST_FIELD = 1 << 30  # of a CSV; the standard library's own limit is 128 KiB
BATCH = 20_000


def read_table(path: Path, setting: str) -> Dataset:
    """Read a table whole, in its order.

    Args:
        path: `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.json`, each also with `.gz`, or `.parquet`.
            CSV may be separated by commas, semicolons or tabs: the header tells.
        setting: names the file in messages, e.g. `data.train`.

    Returns:
        All columns under their names. Those of CSV are strings as they stand in the file ("NA" is
        a text like any other); a missing field at the end of a row is an empty string.

    Raises:
        UserError: a file that is not there, is empty or cannot be read.
    """
    where = f"{setting}={path}"
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    reader = READERS.get(suffix)
    if path.is_dir():
        raise UserError(f"{where} is a folder, expected a file")
    if not path.exists():
        raise UserError(f"{where}: there is no such file")
    if reader is None or (reader == "parquet" and path.name.lower().endswith(".gz")):
        known = "one that ends in .csv, .tsv, .jsonl, .ndjson, .json (each also .gz) or .parquet"
        raise UserError(f"{where} is no file of a known kind, expected {known}")
    try:
        digest = _hash_checked(path, where, is_text=reader != "parquet")
        if reader == "csv":
            options = _csv_options(path, where, suffix)
        elif reader == "json":
            _refuse_other_than_objects(path, where)
            options = {"on_mixed_types": None, "parse_agent_traces": False}
        else:
            options = _parquet_options(path, where)
    except (OSError, EOFError, zlib.error, csv.Error, pa.ArrowException) as error:
        raise UserError(f"cannot read {where}: {_reason(error)}") from error

    # The reader's own cache knows a file by its path and time, and leaves folders where it fails.
    cache = Path(datasets.config.HF_DATASETS_CACHE) / f"reviews-{digest[:32]}"
    logging.getLogger("datasets").setLevel(logging.CRITICAL)
    try:
        return load_dataset(
            reader,
            data_files=[glob.escape(str(path.absolute()))],
            split="train",
            cache_dir=str(cache),
            **options,
        )
    except Exception as error:  # the parsers' libraries share no class
        shutil.rmtree(cache, ignore_errors=True)
        raise UserError(f"cannot read {where}: {_reason(error.__cause__ or error)}") from error


def whole_column(table: Dataset, name: str) -> pa.ChunkedArray:
    """A column in memory, in few pieces; `table[:]` of a selection has one for each row."""
    parts = table.select_columns(name).with_format("arrow").iter(BATCH)
    kind = table.features.arrow_schema.field(name).type
    return pa.chunked_array([part[name].combine_chunks() for part in parts], type=kind)


def _open(path: Path) -> BinaryIO:
    # gzip's file is one in all but name.
    return cast(BinaryIO, (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb"))


def _hash_checked(path: Path, where: str, *, is_text: bool) -> str:
    """SHA-256 of the (unpacked) file, which is UTF-8 without NUL where it is text."""
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    offset, line, is_blank = 0, 1, True

    def place(block: bytes, start: int) -> str:
        lines = block.count(b"\n", 0, max(start, 0))
        return f"line {line + lines} (byte {offset + start} of the file)"

    with _open(path) as stream:
        while True:
            block = stream.read(BLOCK)
            if is_text:
                pending = decoder.getstate()[0]
                try:
                    is_blank &= not decoder.decode(block, final=not block).strip("\ufeff \t\r\n")
                except UnicodeDecodeError as error:
                    at = place(block, error.start - len(pending))
                    raise UserError(
                        f"{where} is not UTF-8 in {at}: save it as UTF-8, or convert it with iconv"
                    ) from error
                if (start := block.find(b"\0")) >= 0:
                    raise UserError(f"{where} has a NUL byte in {place(block, start)}: not a text")
            if not block:
                break
            digest.update(block)
            offset += len(block)
            line += block.count(b"\n")
    if offset == 0 or (is_text and is_blank):
        raise UserError(f"{where} is empty")
    return digest.hexdigest()


def _csv_options(path: Path, where: str, suffix: str) -> dict[str, Any]:
    with io.TextIOWrapper(_open(path), encoding="utf-8-sig") as lines:
        separator = find_separator(next(filter(str.strip, lines), ""), suffix)
    header = next(_records(path, separator), [])
    _refuse_duplicates([name for name in header if name], where)
    first = next(islice(_records(path, separator), 1, None), None)
    if first is None:
        raise UserError(f"{where} has a header and no rows")
    if len(first) > len(header):
        # pandas would take the first field for the name of the row.
        raise UserError(f"cannot read {where}: {_too_many(len(first), 1, len(header))}")
    names = [name or f"Unnamed: {position}" for position, name in enumerate(header)]
    return {
        "sep": separator,
        "header": 0,
        "column_names": names,
        "features": Features({name: Value("string") for name in names}),
        "na_filter": False,
        "encoding": "utf-8-sig",
    }


def _records(path: Path, separator: str) -> Iterator[list[str]]:
    csv.field_size_limit(LONGEST_FIELD)
    with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as lines:
        for record in csv.reader(lines, delimiter=separator):
            if len(record) > 1 or any(field.strip() for field in record):
                yield record


def _refuse_other_than_objects(path: Path, where: str) -> None:
    """Arrow's parser crashes the process where `null` stands for a row (apache/arrow#47409)."""
    expected = "expected one object a line, or one list of objects"
    with _open(path) as lines:
        for number, line in enumerate(lines, start=1):
            rows = [row.lstrip() for row in line.removeprefix(codecs.BOM_UTF8).splitlines()]
            if number == 1 and rows[0].startswith(b"["):
                break
            if any(row and not row.startswith(b"{") for row in rows):
                raise UserError(f"{where}: line {number} is no JSON object, {expected}")
        else:
            return
    with _open(path) as stream:
        try:
            # `datasets` too has a list in memory as a whole.
            rows = json.loads(stream.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is no JSON list ({_reason(error)}), {expected}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{where} is a list with something other than objects, {expected}")


def _parquet_options(path: Path, where: str) -> dict[str, Any]:
    with pq.ParquetFile(path) as file:
        _refuse_duplicates(file.schema_arrow.names, where)
        if file.metadata.num_rows == 0:
            raise UserError(f"{where} has columns and no rows")
    return {}


def _refuse_duplicates(names: list[str], where: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"{where} has several columns named {repeated[0]!r}, expected one of each")


def _too_many(fields: int, row: int, expected: int) -> str:
    return (
        f"data row {row} has {fields} fields, the header {expected}; a text with the separator in "
        'it has to stand in quotes ("...")'
    )


def _reason(error: BaseException) -> str:
    # pandas counts rows, the header too, and calls them lines.
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
        expected, line, fields = map(int, found.groups())
        return _too_many(fields, line - 1, expected)
    if isinstance(error, EOFError):
        return "it is cut off; copy or download it again"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__
