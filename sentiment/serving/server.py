"""The application behind HTTP."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sentiment.serving.app import create_app
from sentiment.training.predictor import SentimentPredictor

SHUTDOWN_SECONDS = 10
MAX_CONNECTIONS = 1000


def make_server(predictor: SentimentPredictor, host: str | None) -> uvicorn.Server:
    """A server that finishes the requests in flight when it is to stop.

    Args:
        predictor: what answers.
        host: name of the address of loopback that it listens on; `None`: it is another address.
    """
    config = uvicorn.Config(
        create_app(predictor, host),
        http=Protocol,
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


class Protocol(H11Protocol):
    """HTTP that hangs up on a client that falls silent before its request has begun."""

    def connection_made(self, transport: Any) -> None:
        """Wait for a request."""
        self._silence: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on, and wait for the rest of the request's head."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(error)
        self._wait()

    def _wait(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if not is_answering and not self.transport.is_closing():
            self._silence = self.loop.call_later(self.timeout_keep_alive, self.transport.close)
