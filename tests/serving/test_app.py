"""What the server says, over HTTP, of a checkpoint of random weights."""

import base64
import hashlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sentiment import SentimentPredictor
from sentiment.serving import app, guard
from sentiment.training.predictor import Prediction
from tests.serving.conftest import TEXTS, Answer, Client, served

ONE = {"texts": ["a"]}


def test_a_batch_is_answered_as_the_predictor_does_and_empty_texts_in_their_places(
    client: Client, predictor: SentimentPredictor
) -> None:
    answer = client("POST", "/predict", {"texts": [TEXTS[0], " \n", TEXTS[1], ""]})
    first, second = (
        {"label": label, "probability": pytest.approx(probability, abs=2e-6)}
        for label, probability in predictor(TEXTS[:2])
    )
    empty = {"error": "empty text"}
    assert answer.status == 200
    assert answer.json == {"predictions": [first, empty, second, empty]}


def test_an_explanation_names_the_characters_of_each_word(
    client: Client, predictor: SentimentPredictor
) -> None:
    text = "\U0001f3ac What a BORE!"
    found = client("POST", "/explain", {"text": text}).json
    (expected,) = predictor.explain([text])
    assert [text[t["start"] : t["end"]] for t in found["tokens"]] == text.replace("!", " !").split()
    assert [t["weight"] for t in found["tokens"]] == pytest.approx(
        [token.weight for token in expected.tokens], abs=1e-5
    )
    prediction = client("POST", "/predict", {"texts": [text]}).json["predictions"][0]
    assert found["label"] == prediction["label"]
    assert found["probability"] == pytest.approx(prediction["probability"], abs=1e-5)


def test_the_page_may_load_nothing_from_elsewhere(client: Client) -> None:
    answer = client("GET", "/")
    page = answer.body.decode()
    rules = dict(
        rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; ")
    )
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"""(?:src|href)=["'](?!data:)|url\(|@import|\son\w+=""", page)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def test_health_says_what_is_served(client: Client) -> None:
    found = client("GET", "/health").json
    assert found["status"] == "ok"
    assert found["labels"] == ["negative", "positive"]
    assert found["max_texts"] == app.MAX_TEXTS


@pytest.mark.parametrize(
    ("request_line", "body", "status", "message"),
    [
        ("GET /nowhere", None, 404, "Not Found"),
        ("GET /predict", None, 405, "Method Not Allowed"),
        ("POST /health", ONE, 405, "Method Not Allowed"),
        ("POST /predict", b'{"texts": ["a"', 400, "the body is not JSON"),
        ("POST /predict", b"[" * 100_000, 400, "body"),
        ("POST /predict", b'{"texts": ["\xff"]}', 400, "body"),
        ("POST /predict", b"", 422, "body: Field required"),
        ("POST /predict", b'{"texts": ["\\ud800"]}', 422, "body.texts.0: "),
        ("POST /predict", b'{"texts": [NaN]}', 422, "body.texts.0: "),
        ("POST /predict", {"texts": "a"}, 422, "body.texts: "),
        ("POST /predict", {"texts": []}, 422, "body.texts: "),
        ("POST /predict", {"texts": ["a"] * 257}, 422, "at most 256 items"),
        ("POST /predict", {"texts": ["a" * 20_001]}, 422, "at most 20000 characters"),
        ("POST /predict", ONE | {"../x": "b"}, 422, "a field that is unknown"),
        ("POST /predict", b'"' + b"a" * (1 << 20) + b'"', 413, "longer than 1048576 bytes"),
        ("POST /explain", {"text": 1}, 422, "body.text: "),
        ("POST /explain", {"text": " "}, 422, "empty text"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_json(
    client: Client, request_line: str, body: Any, status: int, message: str
) -> None:
    answer = client(*request_line.split(), body)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert message in answer.json["error"]
    assert "/" not in answer.json["error"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("evil.example", 400),
        ("localhost.evil.example:80", 400),
        ("[", 400),
        ("", 400),
    ],
)
def test_only_names_of_loopback_are_answered(client: Client, host: str, status: int) -> None:
    assert client("POST", "/predict", ONE, Host=host).status == status


def test_a_page_of_another_site_can_send_nothing_unasked(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        assert client("POST", "/predict", ONE, **{"Content-Type": kind}).status == 415
    assert client("OPTIONS", "/predict").status == 405


def test_a_body_without_a_length_is_cut_off_while_it_comes(client: Client) -> None:
    with client.connect() as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(17):  # and there is no last one
            connection.sendall(b"10000\r\n" + b"[" * 0x10000 + b"\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_who_falls_silent_is_not_waited_for(
    predictor: SentimentPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.1)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with served(predictor, timeout_keep_alive=0.1) as client:
        with client.connect() as connection:
            connection.sendall(head + b"Content-Length: 9\r\n\r\n{")
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        for sent in (b"", head, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET"):
            with client.connect() as connection:
                connection.sendall(sent)
                connection.settimeout(10)
                while connection.recv(1000):  # an answer, then the end
                    pass


def test_who_sends_a_head_drop_by_drop_is_not_waited_for(predictor: SentimentPredictor) -> None:
    with served(predictor, timeout_keep_alive=0.3) as client, client.connect() as connection:
        started = time.monotonic()
        connection.settimeout(0.05)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
        while time.monotonic() < started + 10:
            try:
                connection.sendall(b"x")
                if connection.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() < started + 5


class Slow:
    """A predictor that computes when it is told to, and notes how many texts it gets at once."""

    def __init__(self, predictor: SentimentPredictor) -> None:
        self.predictor, self.checkpoint, self.threshold = predictor, predictor.checkpoint, 0.5
        self.explain = predictor.explain
        self.go = threading.Event()
        self.calls: list[int] = []

    def __call__(self, texts: list[str]) -> list[Prediction]:
        self.calls.append(len(texts))
        self.go.wait(30)
        return self.predictor(texts)


def test_while_it_computes_it_listens_and_too_much_is_put_off(
    predictor: SentimentPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "PREDICT_CAPACITY", 10)
    slow: Any = Slow(predictor)
    with served(slow) as client, ThreadPoolExecutor(6) as pool:

        def ask(text: str) -> Answer:
            return client("POST", "/predict", {"texts": [text]})

        first = pool.submit(ask, "first")
        while not slow.calls:
            time.sleep(0.001)
        rest = [pool.submit(ask, "four") for _ in range(5)]  # two of which fit
        while sum(asked.done() for asked in rest) < 3:
            time.sleep(0.001)
        refused = [asked.result() for asked in rest if asked.done()]
        assert client("GET", "/health").status == 200
        slow.go.set()
        assert first.result().status == 200
        assert sorted(asked.result().status for asked in rest) == [200, 200, 503, 503, 503]
    assert {answer.headers["retry-after"] for answer in refused} == {"2"}
    assert slow.calls == [1, 2]


def test_a_failure_costs_its_request_and_tells_nothing(
    predictor: SentimentPredictor, caplog: pytest.LogCaptureFixture
) -> None:
    slow: Any = Slow(predictor)
    slow.explain = lambda texts: 1 / 0
    slow.go.set()
    with served(slow) as client:
        answer = client("POST", "/explain", {"text": "a"})
        assert (answer.status, list(answer.json)) == (500, ["error"])
        assert b"ivision" not in answer.body
        assert client("POST", "/predict", ONE).status == 200
    assert "ZeroDivisionError" in caplog.text
