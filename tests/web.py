"""A web server on loopback that breaks off, refuses and misbehaves as it is told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web(ThreadingHTTPServer):
    """Serves `content` at every path; `/moved` redirects.

    Attributes:
        url: of the file.
        content: the bytes of the file.
        cuts: for each coming request the bytes of the answer after which the connection breaks.
        statuses: for each coming request a status to refuse it with.
        has_ranges: whether it continues a file, as most servers do.
        stalls: keep a connection open and silent, till `stop_stalling`, where it would break it.
        requests: path and Range header of each request so far.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/data/glove.6B.zip"
        self.content = content
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.has_ranges = True
        self.stalls = False
        self.stop_stalling = threading.Event()
        self.requests: list[tuple[str, str | None]] = []

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the tests, and no news."""


class Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.requests.append((self.path, wanted))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", self.server.url)
            self.end_headers()
            return
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        content, start = self.server.content, 0
        if wanted is not None and self.server.has_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        answer = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if not self.server.cuts:
            self.wfile.write(answer)
            return
        self.wfile.write(answer[: self.server.cuts.pop(0)])
        self.wfile.flush()
        if self.server.stalls:
            self.server.stop_stalling.wait(30)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(content: bytes) -> Iterator[Web]:
    """Run a server for the time of the context."""
    with Web(content) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield web
        finally:
            web.stop_stalling.set()
            web.shutdown()
            thread.join()
