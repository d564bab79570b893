"""Folders of files that are whole or not there, whenever the process dies.

A folder is written beside its place, every file synced, the manifest with the size and SHA-256 of
each last, and then renamed. The folder that it replaces stays as `NAME.1`, the one before as
`NAME.2`, as many as are to be kept.
"""

import errno
import hashlib
import itertools
import json
import os
import shutil
import stat
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sentiment.errors import UserError

MANIFEST = "manifest.json"
FORMAT = 1
MOST_BYTES_OF_A_MANIFEST = 1_000_000


def write_folder(folder: Path, contents: Iterable[tuple[str, bytes]], keep: int) -> None:
    """Write a folder in place of the one that may stand there.

    Args:
        folder: its place.
        contents: names and bytes of its files; one at a time is in memory.
        keep: how many folders stay, this one included.

    Raises:
        UserError: the disk is full or cannot be written; what was whole before still is.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        files = {}
        for name, content in contents:
            write_synced(partial / name, content)
            files[name] = describe(content)
        write_synced(partial / MANIFEST, to_json({"format": FORMAT, "files": files}))
        sync_folder(partial)
        _make_way(folder, keep)
        partial.rename(folder)
        sync_folder(folder.parent)
        for surplus in _in_place(itertools.islice(versions(folder), keep, None)):
            shutil.rmtree(surplus, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(
            f"cannot write the checkpoint {folder}: {error.strerror or error}; "
            "what was saved before is still there"
        ) from error


def versions(folder: Path) -> Iterator[Path]:
    """The places of a folder and of those it replaced, newest first, without end."""
    yield folder
    for age in itertools.count(1):
        yield folder.with_name(f"{folder.name}.{age}")


def existing_versions(folder: Path) -> list[Path]:
    """Those that are there, newest first; a crash can have left the first place empty."""
    older = itertools.islice(versions(folder), 1, None)
    return [*_in_place([folder]), *_in_place(older)]


class Manifest:
    """The files of a folder, each checked when it is read.

    Args:
        folder: as `write_folder` left it.
        names: files that it has to have.

    Raises:
        UserError: no manifest, a damaged one, or one that lacks a name.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self.folder = folder
        path = folder / MANIFEST
        try:
            content = _read(path, MOST_BYTES_OF_A_MANIFEST)
            manifest = json.loads(content)
            found, self._files = manifest["format"], dict(manifest["files"])
            if type(found) is not int:
                raise TypeError("the format is no number")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path} is damaged; use another checkpoint") from error
        if found != FORMAT:
            raise UserError(
                f"{path} has the format {found}, expected {FORMAT}: made by another version"
            )
        missing = set(names) - set(self._files)
        if missing:
            raise UserError(f"{path} does not list {sorted(missing)}; use another checkpoint")

    def read(self, name: str, most_bytes: int) -> bytes:
        """The contents of a file.

        Raises:
            UserError: it differs from what the manifest says, or is larger than it can be.
        """
        content = _read(self.folder / name, most_bytes)
        if self._files[name] != describe(content):
            raise UserError(
                f"{self.folder / name} differs from what {MANIFEST} says of it: it was changed or "
                "cut off after it was saved; use another checkpoint"
            )
        return content


def describe(content: bytes) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def to_json(value: Any) -> bytes:
    """A small JSON file's contents."""
    return (json.dumps(value, indent=2) + "\n").encode()


def one_line(text: object) -> str:
    """What a damaged file makes a message say, fit to be printed: short, and no control signs."""
    printable = "".join(c if c.isprintable() else " " for c in str(text)[:1000])
    return textwrap.shorten(printable, 200, placeholder=" ...")


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path} is no file; use another checkpoint")
        if status.st_size > most_bytes:
            raise UserError(
                f"{path} has {status.st_size} bytes, expected {most_bytes} at most; "
                "use another checkpoint"
            )
        with path.open("rb") as file:
            # As many as there are: room for `most_bytes` would be taken before any is read.
            return file.read(status.st_size)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; use another checkpoint") from error
    except MemoryError as error:
        raise UserError(
            f"{path} has {status.st_size} bytes, which do not fit into memory; "
            "use another checkpoint"
        ) from error


def _in_place(places: Iterable[Path]) -> Iterator[Path]:
    return itertools.takewhile(Path.is_dir, places)


def _make_way(folder: Path, keep: int) -> None:
    """Move the folder and its older versions on by one place, up to the first empty one."""
    places = list(itertools.islice(versions(folder), keep + 1))
    taken = list(_in_place(places))
    if len(taken) == len(places):
        shutil.rmtree(taken.pop())
    for place, next_place in reversed(list(zip(taken, places[1:], strict=False))):
        place.rename(next_place)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file that is on the disk when this returns.

    Raises:
        OSError: it is not.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        if os.fstat(file.fileno()).st_size != len(content):
            raise OSError(errno.EIO, f"{path.name} came out shorter than it was written")


def sync_folder(folder: Path) -> None:
    """See that the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
