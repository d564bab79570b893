import hashlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentiment.errors import UserError
from sentiment.text.download import download
from tests.web import Web, serve

CONTENT = random.Random(0).randbytes(3_000_000)
OTHER = random.Random(1).randbytes(3_000_000)
DOWNLOAD = """
import logging, pathlib, sys
from sentiment.text.download import download
logging.basicConfig(level=logging.INFO)
url, sha256, folder = sys.argv[1:]
print(download(url, sha256, pathlib.Path(folder), lambda done, total: None, pause=0))
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(CONTENT) as web:
        yield web


def fetch(url: str, folder: Path, attempts: int = 5, content: bytes = CONTENT) -> Path:
    shown: list[tuple[int, int | None]] = []
    file = download(
        url, sha256(content), folder, lambda *of: shown.append(of), attempts=attempts, pause=0
    )
    assert file.read_bytes() == content
    assert {path.suffix for path in folder.iterdir()} <= {".zip", ".lock"}
    assert not shown or shown[-1] == (len(content), len(content))
    return file


def refusal(url: str, folder: Path, attempts: int = 5) -> str:
    with pytest.raises(UserError) as stop:
        fetch(url, folder, attempts)
    assert url in str(stop.value)
    assert "embeddings.path=FILE" in str(stop.value)
    assert not list(folder.glob("*.zip"))
    return str(stop.value)


def ranges(web: Web) -> list[str | None]:
    return [wanted for _, wanted in web.requests]


def test_a_file_is_fetched_once(web: Web, tmp_path: Path) -> None:
    file = fetch(web.url, tmp_path)
    assert file.name.endswith("glove.6B.zip")
    assert fetch(web.url, tmp_path) == file
    assert ranges(web) == [None]


def test_it_continues_where_the_connection_broke_off(web: Web, tmp_path: Path) -> None:
    web.cuts = [1_000_000, 500_000, 0, 1]
    fetch(web.url, tmp_path)
    assert ranges(web) == [
        None,
        "bytes=1000000-",
        "bytes=1500000-",
        "bytes=1500000-",
        "bytes=1500001-",
    ]


def test_attempts_count_only_while_nothing_arrives(web: Web, tmp_path: Path) -> None:
    web.cuts = [100_000] * 20
    fetch(web.url, tmp_path, attempts=2)
    assert len(web.requests) == 21


def test_what_has_arrived_is_kept_for_the_next_run(web: Web, tmp_path: Path) -> None:
    web.cuts = [1_000_000, 0]
    message = refusal(web.url, tmp_path, attempts=2)
    (partial,) = tmp_path.glob("*.partial")
    assert "broke off, 2000000 bytes before the end; the 1000000 bytes so far are kept in " in (
        message
    )
    assert str(partial) in message
    web.requests.clear()
    fetch(web.url, tmp_path)
    assert ranges(web) == ["bytes=1000000-"]


def test_a_silent_connection_is_given_up_and_continued(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentiment.text.download.SECONDS_OF_SILENCE", 0.2)
    web.cuts = [1_000_000]
    web.stalls = True
    fetch(web.url, tmp_path)
    assert ranges(web) == [None, "bytes=1000000-"]


def start_process(web: Web, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DOWNLOAD, web.url, sha256(CONTENT), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_partial(folder: Path) -> int:
    """Wait for the first bytes to arrive, and return how many there are."""
    deadline = time.monotonic() + 30
    while not (size := sum(path.stat().st_size for path in folder.glob("*.partial"))):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return size


def test_it_continues_after_the_process_was_killed(web: Web, tmp_path: Path) -> None:
    web.cuts = [1_000_000]
    web.stalls = True
    with start_process(web, tmp_path) as process:
        wait_for_partial(tmp_path)
        process.kill()
    web.stalls = False
    size = wait_for_partial(tmp_path)
    fetch(web.url, tmp_path)
    assert ranges(web) == [None, f"bytes={size}-"]


def test_of_two_processes_one_downloads_and_the_other_waits(web: Web, tmp_path: Path) -> None:
    web.cuts = [1_000_000]
    web.stalls = True
    with start_process(web, tmp_path) as first:
        wait_for_partial(tmp_path)
        with start_process(web, tmp_path) as second:
            assert second.stderr is not None
            assert f"another process is downloading {web.url}" in second.stderr.readline()
            web.stop_stalling.set()
            printed = {process.communicate(timeout=60)[0] for process in (first, second)}
    assert printed == {f"{fetch(web.url, tmp_path)}\n"}
    assert ranges(web) == [None, "bytes=1000000-"]


def test_without_ranges_it_starts_again(web: Web, tmp_path: Path) -> None:
    web.has_ranges = False
    web.cuts = [1_000_000]
    fetch(web.url, tmp_path)
    assert ranges(web) == [None, "bytes=1000000-"]


def test_a_server_that_never_gets_further_is_given_up(web: Web, tmp_path: Path) -> None:
    web.has_ranges = False
    web.cuts = [1_000_000] * 100
    assert "broke off" in refusal(web.url, tmp_path, attempts=3)
    assert len(web.requests) == 3


def test_parts_of_two_versions_are_never_joined(web: Web, tmp_path: Path) -> None:
    web.content, web.cuts = OTHER, [1_000_000, 0]
    refusal(web.url, tmp_path, attempts=2)
    web.content = CONTENT
    fetch(web.url, tmp_path)
    assert ranges(web)[-2:] == ["bytes=1000000-", None]


def test_another_file_in_parts_is_tried_once_more_only(web: Web, tmp_path: Path) -> None:
    web.content, web.cuts = OTHER, [1_000_000, 2_000_000] * 10
    assert "has the SHA-256" in refusal(web.url, tmp_path)
    assert ranges(web) == [None, "bytes=1000000-"] * 2


@pytest.mark.parametrize(
    ("there", "requests"),
    [
        pytest.param(CONTENT, ["bytes=3000000-"], id="whole"),
        pytest.param(CONTENT + b"x", ["bytes=3000001-", None], id="too long"),
    ],
)
def test_a_partial_file_with_nothing_missing(
    web: Web, tmp_path: Path, there: bytes, requests: list[str | None]
) -> None:
    (tmp_path / f"{sha256(CONTENT)[:16]}-glove.6B.zip.partial").write_bytes(there)
    file = download(web.url, sha256(CONTENT), tmp_path, lambda *_: None, pause=0)
    assert file.read_bytes() == CONTENT
    assert ranges(web) == requests


def test_another_file_is_refused_and_deleted(web: Web, tmp_path: Path) -> None:
    web.content = OTHER
    message = refusal(web.url, tmp_path)
    assert f"has the SHA-256 {sha256(OTHER)}, expected {sha256(CONTENT)}" in message
    assert not list(tmp_path.glob("*.partial"))
    assert len(web.requests) == 1


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (407, 1), (429, 3), (503, 3)])
def test_a_refusing_server_is_quoted(web: Web, tmp_path: Path, status: int, requests: int) -> None:
    web.statuses = [status] * 10
    assert f"the server answers {status} " in refusal(web.url, tmp_path, attempts=3)
    assert len(web.requests) == requests


def test_a_server_that_recovers_is_used(web: Web, tmp_path: Path) -> None:
    web.statuses = [503, 429]
    fetch(web.url, tmp_path)
    assert len(web.requests) == 3


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:{port}/glove.6B.zip", "Connection refused"),
        ("http://[/glove.6B.zip", "Invalid IPv6 URL"),
        ("http://localhost:port/glove.6B.zip", "nonnumeric port"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named(
    web: Web, tmp_path: Path, url: str, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert reason in refusal(url.format(port=port), tmp_path)


def test_redirects_keep_the_range(web: Web, tmp_path: Path) -> None:
    web.cuts = [1_000_000]
    file = download(
        web.url.replace("/data/glove.6B.zip", "/moved"),
        *(sha256(CONTENT), tmp_path, lambda *_: None),
        pause=0,
    )
    assert file.read_bytes() == CONTENT
    assert web.requests[-1] == ("/data/glove.6B.zip", "bytes=1000000-")


def test_the_environments_proxy_is_used(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{web.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    fetch("http://vectors.invalid/glove.6B.zip", tmp_path)
    assert web.requests == [("http://vectors.invalid/glove.6B.zip", None)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_named(web: Web, tmp_path: Path) -> None:
    partial = tmp_path / f"{sha256(CONTENT)[:16]}-glove.6B.zip.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(UserError, match=rf"cannot write {partial}: No space left on device; make"):
        fetch(web.url, tmp_path)
    assert len(web.requests) == 1
