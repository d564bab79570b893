"""Tables with a column of texts, row by row: CSV, TSV, JSON Lines and parquet.

What stands in the other columns is passed on as it is, never interpreted: so the text formats are
read with the standard library, and a result has the format of its source.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.data.columns import TEXTS, find_column, find_separator
from sentiment.data.lines import MAX_LINE, decode_line
from sentiment.errors import UserError

Row = TypeVar("Row")
Predict = Callable[[Sequence[str]], Iterable[tuple[str | None, float | None]]]

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
NEW_FIELDS = (pa.field("prediction", pa.string()), pa.field("probability", pa.float64()))
NEW_COLUMNS = tuple(field.name for field in NEW_FIELDS)
ROWS_AT_ONCE = 2048
ROWS_PER_GROUP = 8 * ROWS_AT_ONCE


def annotate(source: Path, target: Path, predict: Predict, column: str | None) -> None:
    """Copy a table and add the columns `prediction` and `probability`.

    Args:
        source: its suffix says its format; the text formats may also end in `.gz`.
        target: of the same format; it is replaced when the last row is written, or not at all.
        predict: gives a label and a probability for each text, or `None` for both.
        column: where the texts are; `None`: in the only column with a usual name.

    Raises:
        UserError: a table that cannot be read, or lacks the column, or a disk that is full.
        OSError: files that cannot be opened.
    """
    form = _format(source)
    if _format(target) != form:
        raise UserError(f"{target}: expected the format of the input, {form}")
    if not source.is_file():
        found = "it is no file" if source.exists() else "it does not exist"
        raise UserError(f"cannot read {source}: {found}")
    if target.exists() and target.samefile(source):
        raise UserError(f"{target} is the input, expected another file for the output")
    if target.is_dir() or not target.parent.is_dir():
        raise UserError(f"{target}: expected a file in a folder that exists")
    partial = target.with_name(f"{target.name}.partial")
    copy = {".jsonl": _annotate_jsonl, ".parquet": _annotate_parquet}.get(form, _annotate_csv)
    try:
        with _create(partial, compressed=target.suffix == ".gz") as output:
            copy(source, output, predict, column)
        partial.replace(target)
    except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
        # What is wrong with the contents has no number, also as gzip's and pyarrow's OSError.
        if isinstance(error, OSError) and error.errno is not None:
            if error.filename is not None:
                raise
            raise UserError(f"cannot copy {source} to {target}: {error.strerror}") from error
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot read {source}: {reason}") from error
    finally:
        partial.unlink(missing_ok=True)


def _format(path: Path) -> str:
    form = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if form not in FORMATS or path.name.endswith(".parquet.gz"):
        raise UserError(
            f"{path}: unknown format, expected a name that ends in .csv, .tsv or .jsonl, "
            "perhaps with .gz, or in .parquet"
        )
    return form


def _annotate_csv(source: Path, output: BinaryIO, predict: Predict, column: str | None) -> None:
    csv.field_size_limit(MAX_LINE)
    with _open(source) as file, io.TextIOWrapper(output, "utf-8", newline="") as text:
        lines = _lines(file, source)
        header_line = next(lines, "")
        delimiter = find_separator(header_line, _format(source))
        reader = csv.reader(chain([header_line], lines), delimiter=delimiter, strict=True)
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")

        def rows() -> Iterator[list[str]]:
            width = 0
            try:
                for row in filter(None, reader):
                    width = width or len(row)
                    if len(row) != width:
                        raise UserError(
                            f"{source}, line {reader.line_num}: {len(row)} values, expected "
                            f"{width} as in the header"
                        )
                    yield row
            except csv.Error as error:
                raise UserError(f"{source}, line {reader.line_num}: {error}") from error

        remaining = rows()
        header = next(remaining, [])
        index = header.index(_text_column(header, source, column))
        writer.writerow([*header, *NEW_COLUMNS])
        for part in _parts(remaining):
            predictions = predict([row[index] for row in part])
            writer.writerows([*row, *new] for row, new in zip(part, predictions, strict=True))


def _annotate_jsonl(source: Path, output: BinaryIO, predict: Predict, column: str | None) -> None:
    with _open(source) as file:

        def rows() -> Iterator[tuple[str, str]]:
            name = None
            for number, line in enumerate(_lines(file, source), 1):
                if line.isspace():
                    continue
                row = _parse_object(line, f"{source}, line {number}")
                if name is None:
                    name = _text_column(list(row), source, column)
                text = row.get(name)
                if clash := set(row).intersection(NEW_COLUMNS):
                    raise UserError(f"{source}, line {number} has {clash.pop()!r} already")
                if not isinstance(text, str | None):
                    raise UserError(f"{source}, line {number}: {name!r} is no string")
                start = line.rstrip().removesuffix("}") + (", " if row else "")
                # JSON can escape half of a surrogate pair, which is no character.
                yield start, (text or "").encode(errors="replace").decode()

        for part in _parts(rows()):
            for (start, _), new in zip(part, predict([text for _, text in part]), strict=True):
                fields = json.dumps(dict(zip(NEW_COLUMNS, new, strict=True)), ensure_ascii=False)
                output.write(f"{start}{fields[1:]}\n".encode())


def _annotate_parquet(source: Path, output: BinaryIO, predict: Predict, column: str | None) -> None:
    with pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        name = _text_column(schema.names, source, column)
        if not _is_text(schema.field(name).type):
            raise UserError(f"{source}: {name!r} is {schema.field(name).type}, expected strings")
        for field in NEW_FIELDS:
            schema = schema.append(field)
        with pq.ParquetWriter(output, schema) as writer:
            for batch in file.iter_batches(ROWS_PER_GROUP):
                try:
                    found = [text or "" for text in batch.column(name).to_pylist()]
                except UnicodeDecodeError as error:
                    raise UserError(f"{source}: {name!r} is not UTF-8: {error}") from error
                predictions = [new for part in _parts(found) for new in predict(part)]
                new_columns = zip(zip(*predictions, strict=True), NEW_FIELDS, strict=True)
                arrays = [pa.array(values, field.type) for values, field in new_columns]
                writer.write_batch(pa.record_batch([*batch.columns, *arrays], schema=schema))


def _text_column(names: Sequence[str], source: Path, column: str | None) -> str:
    if not names:
        raise UserError(f"{source} is empty, expected names of columns, and rows")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{source} has {len(twice)} columns {twice[0]!r}; rename one")
    if clash := set(names).intersection(NEW_COLUMNS):
        raise UserError(f"{source} has a column {clash.pop()!r} already; rename it")
    return find_column(names, column, TEXTS, "--text-column ", str(source))


def _parse_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where} is no JSON object, expected {{...}}")
    return row


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _open(source: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(source)) if source.suffix == ".gz" else source.open("rb")


def _create(path: Path, compressed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "wb")) if compressed else path.open("wb")


def _lines(file: BinaryIO, source: Path) -> Iterator[str]:
    offset = 0
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
        yield decode_line(line, str(source), number, offset)
        offset += len(line)


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while part := list(islice(iterator, ROWS_AT_ONCE)):
        yield part
