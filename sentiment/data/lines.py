"""Texts by the line, from streams of any length, in bounded memory."""

import select
from collections.abc import Iterator
from typing import BinaryIO

from sentiment.errors import UserError

MAX_LINE = 1 << 20
BLOCK = 1 << 16
# A portion ends at either: enough to fill batches of similar length, and no more.
PORTION_LINES, PORTION_BYTES = 2048, 1 << 22
PATIENCE = 0.05


def line_portions(stream: BinaryIO, name: str) -> Iterator[list[str]]:
    r"""Read lines as they come.

    A portion is what the stream has at once, up to some 2,000 lines: a file is read in full
    portions, and who types a line gets an answer to it.

    Args:
        stream: a buffered binary stream; lines end in `\n` or `\r\n`.
        name: what messages call it.

    Yields:
        Lines without their ends, in order, at least one.

    Raises:
        UserError: bytes that are not UTF-8, or a line of more than 1 MiB; the lines before it
            have been yielded.
    """
    lines: list[str] = []
    offset, rest, size, number = 0, b"", 0, 0
    while True:
        block = stream.read1(BLOCK)  # type: ignore[attr-defined]
        *whole, rest = (rest + block).split(b"\n")
        if not block and rest:
            whole, rest = [rest], b""
        try:
            for line in whole:
                number += 1
                lines.append(decode_line(line, name, number, offset).removesuffix("\r"))
                offset += len(line) + 1
                size += len(line)
            if len(rest) > MAX_LINE:
                decode_line(rest, name, number + 1, offset)
        except UserError:
            if lines:
                yield lines
            raise
        is_full = len(lines) >= PORTION_LINES or size >= PORTION_BYTES
        if lines and (is_full or not block or not _is_ready(stream)):
            yield lines
            lines, size = [], 0
        if not block:
            return


def decode_line(line: bytes, name: str, number: int, offset: int) -> str:
    """Turn a line's bytes into text, without a byte order mark.

    Args:
        line: its bytes, with or without its end.
        name: of the stream, for messages.
        number: of the line, counted from 1.
        offset: of the line in the stream, in bytes.

    Raises:
        UserError: bytes that are not UTF-8, or more than 1 MiB of them.
    """
    if len(line) > MAX_LINE:
        raise UserError(f"{name}, line {number}: longer than {MAX_LINE} bytes; cut it")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        found = f"{line[error.start]:#04x} at byte {offset + error.start}"
        raise UserError(
            f"{name}, line {number}: {found} is not UTF-8; convert it, for example with "
            "iconv -f latin1 -t utf-8"
        ) from error
    return text.removeprefix("\ufeff") if number == 1 else text


def _is_ready(stream: BinaryIO) -> bool:
    try:
        ready, _, _ = select.select([stream], [], [], PATIENCE)
    except (OSError, ValueError):  # nothing that this system can wait for: a file on Windows
        return True
    return bool(ready)
