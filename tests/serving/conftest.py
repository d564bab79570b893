import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sentiment import SentimentPredictor
from sentiment.serving.server import make_server
from tests.conftest import write_checkpoint

TEXTS = ["a fine film with a fine cast", "what a bore, what a waste of an evening", "well"]


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to a server that runs in a thread of this process."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        **headers: str,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if method == "POST" else {}
        connection.request(method, path, body, sent | headers)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@contextmanager
def served(predictor: SentimentPredictor, **settings: float) -> Iterator[Client]:
    server = make_server(predictor, ["127.0.0.1"])
    for name, value in settings.items():
        setattr(server.config, name, value)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Client(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "checkpoints" / "best", TEXTS)


@pytest.fixture(scope="session")
def predictor(checkpoint: Path) -> SentimentPredictor:
    return SentimentPredictor.load(checkpoint, threads=1)


@pytest.fixture(scope="module")
def client(predictor: SentimentPredictor) -> Iterator[Client]:
    with served(predictor) as client:
        yield client
