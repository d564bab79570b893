"""Requests that a server has to survive, by kind."""

import json
from collections.abc import Callable
from random import Random
from typing import NamedTuple

BIG = 3 << 20


class Hostile(NamedTuple):
    """What is sent over a connection of its own.

    Attributes:
        parts: bytes, one after the other.
        expected: statuses that are right; 0: the server hangs up.
        leaves: the client does not wait for an answer.
    """

    parts: tuple[bytes, ...]
    expected: frozenset[int]
    leaves: bool = False


def request(
    body: bytes,
    path: str = "/predict",
    method: str = "POST",
    kind: str = "application/json",
    host: str = "localhost",
    length: int | None = None,
) -> bytes:
    """A well-formed request, but for what it is told."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode() + body


def whole(body: bytes, *expected: int, path: str = "/predict") -> Hostile:
    """A request with this body, which is to be refused."""
    return Hostile((request(body, path),), frozenset(expected))


def raw(content: bytes, *expected: int) -> Hostile:
    """These bytes, whatever they are; 0: the server may also hang up."""
    return Hostile((content,), frozenset(expected))


def noise(source: Random, most: int = 300) -> bytes:
    """Random bytes, at least one."""
    return source.randbytes(source.randint(1, most))


def truncated(source: Random) -> Hostile:
    """JSON that ends too early."""
    body = json.dumps({"texts": ["a fine film", "a bad film"]}).encode()
    return whole(body[: source.randrange(1, len(body))], 400)


def wrong_type(source: Random) -> Hostile:
    """JSON of another shape."""
    values = [None, True, 1, -1.5, "a", [], {}, [1], {"a": "b"}, [["a"]], [None], ["a", 1]]
    value = source.choice(values)
    shapes = [{"texts": value}, {"text": ["a"]}, [{"texts": ["a"]}], value]
    return whole(json.dumps(source.choice(shapes)).encode(), 422)


def wrong_text(source: Random) -> Hostile:
    """No text where /explain expects one."""
    values: list[object] = [None, True, 1, [], {}, ["a"], "", " \n\t", "\u2003"]
    return whole(json.dumps({"text": source.choice(values)}).encode(), 422, path="/explain")


def no_number(source: Random) -> Hostile:
    """What Python reads as JSON, and others do not."""
    value = source.choice([b"NaN", b"-Infinity", b"1e999", b"9" * 5000])
    return whole(b'{"texts": [%b]}' % value, 400, 422)


def no_utf8(source: Random) -> Hostile:
    """A text of broken bytes."""
    broken = source.choice(
        [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80" * 9]
    )
    return whole(b'{"texts": ["a' + broken + b'"]}', 400, 422)


def surrogate(source: Random) -> Hostile:
    """Half a character."""
    half = source.choice([rb"\ud800", rb"\udfff", rb"\udc00\ud800"])
    if source.random() < 0.5:
        return whole(b'{"texts": ["a%b"]}' % half, 422)
    return whole(b'{"text": "%b"}' % half, 422, path="/explain")


def nested(source: Random) -> Hostile:
    """A hundred thousand brackets."""
    opening = source.choice([b"[", b'{"texts":', b'{"texts":['])
    return whole(opening * 100_000, 400)


def nested_whole(source: Random) -> Hostile:
    """Brackets that close."""
    depth = source.randint(100, 400_000)
    return whole(b'{"texts":' + b"[" * depth + b"]" * depth + b"}", 400, 422)


def unknown_field(source: Random) -> Hostile:
    """A field too many."""
    body = {"texts": ["a"], source.choice(["text", "model", "__class__", "\x00", "../.."]): "x"}
    return whole(json.dumps(body).encode(), 422)


def too_many(source: Random) -> Hostile:
    """None, or more texts than a request may have."""
    return whole(json.dumps({"texts": ["a"] * source.choice([0, 257, 50_000])}).encode(), 422)


def too_long(source: Random) -> Hostile:
    """A text longer than it may be."""
    path = source.choice(["/predict", "/explain"])
    text = source.choice(["a", "ä", "🎬"]) * source.randint(20_001, 80_000)
    body = {"texts": [text]} if path == "/predict" else {"text": text}
    return whole(json.dumps(body, ensure_ascii=False).encode(), 422, path=path)


def huge(source: Random) -> Hostile:
    """A body larger than it may be, with its length."""
    return whole(b'{"texts": ["' + b"a" * source.randint(1 << 20, BIG), 413, 0)


def huge_chunks(source: Random) -> Hostile:
    """The same without a length: chunk after chunk."""
    head = request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    size = source.choice([1 << 10, 1 << 16])
    return Hostile(
        (head, *[b"%x\r\n%b\r\n" % (size, b"[" * size)] * (BIG // size)), frozenset({413, 0})
    )


def claimed(source: Random) -> Hostile:
    """A length that never comes; the client leaves."""
    sent = request(b'{"texts": ["a', length=source.choice([20, 1 << 20, 1 << 40]))
    return Hostile((sent,), frozenset({0}), leaves=True)


def silent_body(_: Random) -> Hostile:
    """A body that stops half-way, and a client that waits."""
    return Hostile((request(b'{"texts": ["a', length=30),), frozenset({408}))


def silent(source: Random) -> Hostile:
    """A connection on which nothing comes, or no more."""
    head = request(b"")
    return raw(head[: source.randrange(len(head) - 3)], 0)


def bad_chunk(source: Random) -> Hostile:
    """A chunk whose size is none."""
    head = request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    size = source.choice([b"zz", b"-1", b"0x10", b"f" * 40])
    return raw(head + size + b"\r\nabc\r\n", 400, 0)


def wrong_method(source: Random) -> Hostile:
    """A method that a path does not know."""
    method = source.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
    return Hostile((request(b"{}", method=method),), frozenset({405}))


def wrong_path(source: Random) -> Hostile:
    """A path that is none, or leads out of here."""
    paths = [
        "/x",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/page.html",
        "//",
        "/predict/%00",
    ]
    paths += ["/docs", "/static/..%5c..%5cboot.ini", "/" + "a" * 9000]
    return Hostile((request(b"", source.choice(paths), "GET"),), frozenset({404}))


def wrong_kind(source: Random) -> Hostile:
    """What a page of another site can send unasked."""
    kinds = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "",
    ]
    body = b'{"texts": ["a"]}'
    return Hostile((request(body, kind=source.choice(kinds)),), frozenset({415}))


def wrong_host(source: Random) -> Hostile:
    """Another name for this address, as after DNS rebinding."""
    hosts = [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "[::1",
        "",
        "a@b@c",
    ]
    return Hostile((request(b'{"texts": ["a"]}', host=source.choice(hosts)),), frozenset({400}))


def bad_header(source: Random) -> Hostile:
    """A head that is not one."""
    lines = [
        b"no colon",
        b"a b: c",
        b"X: \x00",
        b": x",
        b"X" * 80_000 + b": x",
        b"Content-Length: x",
    ]
    lines += [b"Content-Length: 5\r\nContent-Length: 6", b"Transfer-Encoding: nonsense", b"Host: b"]
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + source.choice(lines)
    # A long line that is there at once is read, and the request lacks a content type.
    return raw(head + b"\r\n\r\n", 400, 415, 0)


def bad_version(source: Random) -> Hostile:
    """A first line that is not one."""
    line = source.choice(
        [b"GET / HTTP/x", b"GET /", b"GET / a HTTP/1.1", b"\x00 / HTTP/1.1", b"GET"]
    )
    return raw(line + b"\r\nHost: localhost\r\n\r\n", 400, 0)


def other_protocol(source: Random) -> Hostile:
    """The greeting of TLS, HTTP/2 or SSH."""
    greetings = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + source.randbytes(500) + b"\r\n\r\n"
    ]
    greetings += [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-OpenSSH_9.9\r\n\r\n"]
    return raw(source.choice(greetings), 400, 0)


def garbage(source: Random) -> Hostile:
    """Random bytes."""
    return raw(noise(source) + b"\r\n\r\n", 400, 0)


def garbage_body(source: Random) -> Hostile:
    """Random bytes where JSON should be."""
    return whole(noise(source), 400, 422)


def upgrade(_: Random) -> Hostile:
    """A wish to speak WebSocket, without a body."""
    head = (
        b"GET /predict HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    )
    return raw(head + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n", 405)


KINDS: dict[str, Callable[[Random], Hostile]] = {
    kind.__name__: kind
    for kind in (
        *(truncated, wrong_type, wrong_text, no_number, no_utf8, surrogate, nested, nested_whole),
        *(unknown_field, too_many, too_long, huge, huge_chunks, claimed, silent_body, silent),
        *(bad_chunk, wrong_method, wrong_path, wrong_kind, wrong_host, bad_header, bad_version),
        *(other_protocol, garbage, garbage_body, upgrade),
    )
}
