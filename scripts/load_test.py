"""Put a server under load, then send it what no client should: python scripts/load_test.py RUN.

    python scripts/load_test.py RUN data.path=DIR [--clients 200] [--seconds 30] [--malformed 1000]

It starts `sentiment.serve` with the checkpoint on a free port of loopback. Each client sends test
reviews to /predict, one after the other, over a connection of its own. Then come requests that are
cut off, malformed, too large or hostile (scripts/hostile.py). Every one has to be answered as its
kind should be, without a path or a traceback; after them the server has to answer as before, and to
end well. Clients and server share the machine's cores.
"""

import argparse
import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.reviews import draw_test_texts
from hostile import KINDS, Hostile
from sentiment import cli

HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds that an answer may take under load
AT_ONCE = 40  # malformed requests


class Answer(NamedTuple):
    """What came back; `status` is 0 where the server hung up without a word."""

    status: int
    body: bytes


@contextmanager
def served(checkpoint: str, threads: int | None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server in a process of its own, and its port."""
    command = [sys.executable, "-m", "sentiment.serve", "--checkpoint", checkpoint, "--port", "0"]
    command += [] if threads is None else ["--threads", str(threads)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.fullmatch(rf"serving at http://{HOST}:(\d+)/ .*\n", line)
            if found is None:
                raise SystemExit(f"the server did not start: {line}{process.stderr.read()}")
            yield process, int(found[1])
        finally:
            process.kill()


def post(path: str, body: bytes) -> bytes:
    """A request that asks for nothing unusual."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one answer.

    Raises:
        asyncio.IncompleteReadError: the server hung up before its end.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head.lower())
    return Answer(status, await (reader.readexactly(int(length[1])) if length else reader.read()))


async def ask(port: int, request: bytes) -> Answer:
    """One request over a connection of its own."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(request)
    answer = await asyncio.wait_for(read_answer(reader), PATIENCE)
    writer.close()
    return answer


async def load(port: int, texts: list[str], clients: int, seconds: float) -> Counter[str]:
    """Let clients ask, print how they fared, and count what went wrong."""
    requests = cycle([post("/predict", json.dumps({"texts": [text]}).encode()) for text in texts])
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        while (asked := time.perf_counter()) < end:
            writer.write(next(requests))
            answer = await asyncio.wait_for(read_answer(reader), PATIENCE)
            if answer.status == 200 and b'"probability":' in answer.body:
                latencies.append(time.perf_counter() - asked)
            else:
                errors[f"status {answer.status}"] += 1
        writer.close()

    started = time.perf_counter()
    ended = await asyncio.gather(*(client() for _ in range(clients)), return_exceptions=True)
    took = time.perf_counter() - started
    errors.update(type(error).__name__ for error in ended if error is not None)
    if latencies:
        p50, p99 = 1000 * np.quantile(latencies, (0.5, 0.99))
        print(
            f"{clients} clients for {seconds:g} s: {len(latencies)} answers, "
            f"{errors.total()} errors, {len(latencies) / took:.0f} reviews/s, "
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {1000 * max(latencies):.0f} ms",
            flush=True,
        )
    return errors


async def misbehave(port: int, sent: Hostile) -> Answer:
    """Send something hostile, and wait for an answer or for the server to hang up."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        with suppress(ConnectionError):  # it may hang up before it has heard everything
            for part in sent.parts:
                writer.write(part)
                await writer.drain()
        if sent.leaves:
            writer.transport.abort()
            return Answer(0, b"")
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            return await asyncio.wait_for(read_answer(reader), PATIENCE)
        return Answer(0, b"")
    finally:
        writer.transport.abort()


async def torment(port: int, count: int, seed: int, secrets: Iterable[bytes]) -> list[str]:
    """Send malformed requests, some at a time.

    Returns:
        What was wrong with the answers.
    """
    source, gate = random.Random(seed), asyncio.Semaphore(AT_ONCE)
    names = [name for name, _ in zip(cycle(KINDS), range(count), strict=False)]
    source.shuffle(names)
    statuses: Counter[int] = Counter()
    wrong: list[str] = []

    async def one(name: str, sent: Hostile) -> None:
        async with gate:
            try:
                status, body = await misbehave(port, sent)
            except TimeoutError:
                wrong.append(f"{name}: neither an answer nor the end in {PATIENCE:.0f} s")
                return
        statuses[status] += 1
        if status not in sent.expected:
            wrong.append(f"{name}: {status} {body[:200]!r}, expected {sorted(sent.expected)}")
        wrong.extend(f"{name}: leaks {secret!r}" for secret in secrets if secret in body)

    await asyncio.gather(*(one(name, KINDS[name](source)) for name in names))
    shown = ", ".join(
        f"{number} x {status or 'hung up'}" for status, number in sorted(statuses.items())
    )
    print(f"{count} malformed requests of {len(KINDS)} kinds: {shown}; {len(wrong)} wrong")
    return wrong


async def run(arguments: argparse.Namespace, port: int, texts: list[str]) -> list[str]:
    """All of it, against a server that runs.

    Returns:
        What was wrong.
    """
    usual = post("/predict", json.dumps({"texts": texts[:20]}).encode())
    before = await ask(port, usual)
    errors = await load(port, texts, arguments.clients, arguments.seconds)
    wrong = [f"{number} x {error} under load" for error, number in errors.items()]
    secrets = (b"Traceback", b"site-packages", b"/", Path(arguments.run).resolve().name.encode())
    wrong += await torment(port, arguments.malformed, arguments.seed, secrets)
    after = await ask(port, usual)
    if before.status != 200 or after != before:
        wrong.append(f"before it answered {before}, after it {after}")
    return wrong


def main() -> None:
    """Parse the command line, start a server, load it, torment it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("run", help="run directory or checkpoint folder")
    add("--clients", type=int, default=200, help="at the same time (200)")
    add("--seconds", type=float, default=30, help="that they ask (30)")
    add("--malformed", type=int, default=1000, help="requests after that (1000)")
    add("--threads", type=int, help="of the server (one per core)")
    add("--seed", type=int, default=0, help="of the malformed requests (0)")
    add("reviews", nargs="*", help="which test reviews: data.path=DIR, data=sample, ...")
    arguments = parser.parse_intermixed_args()
    for name in ("clients", "seconds"):
        if (value := getattr(arguments, name)) <= 0:
            parser.error(f"--{name} is {value}, expected more than 0")
    with cli.one_line_errors():
        texts = draw_test_texts(cli.compose_train(arguments.reviews), 2000)
    with served(arguments.run, arguments.threads) as (process, port):
        wrong = asyncio.run(run(arguments, port, texts))
        memory = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=60)
        if process.returncode != 128 + signal.SIGTERM:
            wrong.append(f"the server ended with {process.returncode}")
        if printed:
            wrong.append(f"the server printed {printed[-2000:]}")
    if memory is not None:
        print(f"most memory of the server: {int(memory[1]) / 2**20:.2f} GiB")
    print(*(wrong or ["nothing was wrong"]), sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
