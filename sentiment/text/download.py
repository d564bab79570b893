"""A file from the web into a cache: continued where it broke off, and only ever whole and verified.

The SHA-256 that is known beforehand decides whether the parts make up the file. That is safer than
the server's ETag, which differs between mirrors of the same file and is lost between two runs.
"""

import hashlib
import http.client
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sentiment.errors import UserError

log = logging.getLogger(__name__)

BUFFER = 1 << 20
SECONDS_OF_SILENCE = 30
WAY_OUT = "or download it in another way and set embeddings.path=FILE"

ShowBytes = Callable[[int, int | None], None]
"""Is told how many bytes are there, and how many there will be where the server says so."""


class _BrokenOffError(Exception):
    """The fault of the network or the server."""

    def __init__(self, reason: str, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


def download(
    url: str, sha256: str, folder: Path, show: ShowBytes, attempts: int = 5, pause: float = 1.0
) -> Path:
    """Fetch a file unless the folder has it from an earlier time.

    A `.partial` file beside keeps what has arrived, for the next attempt and for the next run. Of
    several processes one downloads and the others wait.

    Args:
        url: http or https; redirects are followed, `http_proxy` and `https_proxy` respected.
        sha256: of the whole file, in hexadecimal digits.
        folder: existing folder to keep the file in.
        show: called with every piece that arrives.
        attempts: how many in a row may fail without a byte more than before.
        pause: seconds to wait after the first of them, doubled after each further one.

    Returns:
        The file, named after its hash and the last part of the URL.

    Raises:
        UserError: the file cannot be fetched, is not the expected one, or finds no room.
    """
    name = re.sub(r"[^\w.-]", "_", url.rpartition("/")[2])[-100:]
    target = folder / f"{sha256[:16]}-{name}"
    if target.is_file():
        return target
    lock = FileLock(folder / f"{target.name}.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is downloading %s: waiting for it", url)
        held = lock.acquire()
    with held:
        if not target.is_file():
            log.info("downloading %s to %s", url, folder)
            partial = folder / f"{target.name}.partial"
            try:
                _fetch_verified(url, sha256, partial, show, attempts, pause)
                partial.replace(target)
            except OSError as error:
                raise UserError(
                    f"cannot write {partial}: {error.strerror}; make room there and start again, "
                    "which continues the download, or set runtime.cache_dir to another folder"
                ) from error
    return target


def _fetch_verified(
    url: str, sha256: str, partial: Path, show: ShowBytes, attempts: int, pause: float
) -> None:
    for is_last in (False, True):
        is_joined = _fetch_whole(url, partial, show, attempts, pause)
        with partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found == sha256:
            return
        partial.unlink()
        if is_last or not is_joined:
            raise UserError(
                f"{url} has the SHA-256 {found}, expected {sha256}: it is another file or was "
                f"altered on its way, and has been deleted; try again, {WAY_OUT}"
            )
        log.info("the parts of %s do not fit together: once more from its beginning", url)


def _fetch_whole(url: str, partial: Path, show: ShowBytes, attempts: int, pause: float) -> bool:
    """Request what is missing until nothing is; return whether the file has several parts."""
    opener = urllib.request.build_opener()  # knows the proxies of now, unlike urlopen's
    failures, most = 0, _size(partial)
    while True:
        try:
            return _fetch_rest(opener, url, partial, show)
        except _BrokenOffError as error:
            size = _size(partial)
            failures = 1 if size > most else failures + 1
            most = max(size, most)
            if error.is_final or failures == attempts:
                kept = f"the {size} bytes so far are kept in {partial}; " if size else ""
                raise UserError(
                    f"cannot download {url}: {error}; {kept}try again later, {WAY_OUT}"
                ) from error
            wait = pause * 2 ** (failures - 1)
            log.info("%s: %s; %d bytes are here, next attempt in %.0f s", url, error, size, wait)
            time.sleep(wait)


def _fetch_rest(
    opener: urllib.request.OpenerDirector, url: str, partial: Path, show: ShowBytes
) -> bool:
    """Append what the partial file lacks; return whether there was something in it before."""
    size = _size(partial)
    with _network_errors():
        request = urllib.request.Request(url, headers={"Range": f"bytes={size}-"} if size else {})
        try:
            response: http.client.HTTPResponse = opener.open(request, timeout=SECONDS_OF_SILENCE)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and size:
                error.close()
                return True  # all of it was there
            raise
    is_continued = response.status == http.HTTPStatus.PARTIAL_CONTENT
    with response, partial.open("ab" if is_continued else "wb") as file:
        size = size if is_continued else 0
        total = None if response.length is None else size + response.length
        show(size, total)
        while True:
            with _network_errors():
                part = response.read1(BUFFER)
            if not part:
                break
            file.write(part)
            size += len(part)
            show(size, total)
    if total is not None and size < total:
        raise _BrokenOffError(f"the connection broke off, {total - size} bytes before the end")
    return is_continued


@contextmanager
def _network_errors() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        is_final = 400 <= error.code < 500 and error.code not in (408, 429)
        raise _BrokenOffError(
            f"the server answers {error.code} {error.reason}", is_final
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _BrokenOffError(
            str(reason) or type(reason).__name__, is_final=isinstance(reason, ValueError)
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
