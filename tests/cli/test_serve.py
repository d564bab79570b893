"""`sentiment.serve` as a user runs it."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sentiment import serve
from tests.conftest import write_checkpoint

TEXT = "A fine film, I had been told. It was not; what a bore."


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_checkpoint(folder / "checkpoints" / "best", [TEXT])
    return folder


@contextmanager
def serving(
    run: Path, *options: str, at: str = r"127\.0\.0\.1"
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "sentiment.serve", "--checkpoint", str(run), "--port", "0"]
    command += options
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.fullmatch(rf"serving at http://{at}:(\d+)/ until Ctrl-C\n", line)
            assert found, line + process.stderr.read()
            yield process, int(found[1])
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="all of 127/8 is loopback on Linux")
def test_the_address_that_is_printed_is_answered(run: Path) -> None:
    with serving(run, "--host", "127.2", at=r"127\.0\.0\.2") as (_, port):
        for host in ("127.0.0.2", "127.2"):
            with closing(http.client.HTTPConnection("127.0.0.2", port)) as connection:
                connection.request("GET", "/health", headers={"Host": host})
                assert connection.getresponse().status == 200


def door(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    monkeypatch.setattr(sys, "argv", ["sentiment-serve", *arguments])
    previous = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit, match="2"):
            serve.main()
    finally:
        signal.signal(signal.SIGTERM, previous)
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: --checkpoint"),
        (("--checkpoint", "nowhere", "--port", "0"), "nowhere is no checkpoint: it does not exist"),
        (("--checkpoint", "a", "--port", "65536"), "65536 is no whole number from 0 to 65535"),
        (("--checkpoint", "a", "--threads", "0"), "0 is no whole number from 1 to 1024"),
        (("--checkpoint", "a", "--host", "192.0.2.1"), "--host=192.0.2.1 --port=8000: "),
        (("--checkpoint", "a", "--host", "a..b"), "--host=a..b is no name of a host"),
    ],
)
def test_a_mistake_costs_one_line(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert message in door(monkeypatch, capsys, *arguments)


def test_a_port_in_use_and_a_missing_extra_are_said_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = door(monkeypatch, capsys, "--checkpoint", "nowhere", "--port", str(port))
    assert f"port {port} of 127.0.0.1 is in use; choose another with --port" in said
    monkeypatch.setattr(serve, "EXTRA", ("fastapi", "no_such_package"))
    said = door(monkeypatch, capsys, "--checkpoint", "nowhere")
    assert "the server needs no_such_package, not installed: pip install 'sentiment[serve]'" in said


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_request_in_flight_finish(
    run: Path, number: signal.Signals, code: int
) -> None:
    with (
        serving(run) as (process, port),
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection,
    ):
        body = json.dumps({"texts": ["what a bore " * 300] * 256})
        assert len(body) < 1 << 20
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        time.sleep(0.2)
        process.send_signal(number)
        response = connection.getresponse()
        assert (response.status, len(json.load(response)["predictions"])) == (200, 256)
        _, printed = process.communicate(timeout=60)
        assert process.returncode == code
        assert printed == ("interrupted\n" if number is signal.SIGINT else "")


@pytest.mark.slow
def test_load_and_a_thousand_malformed_requests_leave_it_as_it_was(run: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "load_test.py"
    short = ["--clients", "20", "--seconds", "2", "--malformed", "300", "data=sample"]
    done = subprocess.run(
        [sys.executable, str(script), str(run), *short],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 errors, " in done.stdout
    assert done.stdout.endswith("nothing was wrong\n")
