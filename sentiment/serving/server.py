"""The application behind HTTP."""

import asyncio
from collections.abc import Iterable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sentiment.serving.app import create_app
from sentiment.training.predictor import SentimentPredictor

SHUTDOWN_SECONDS = 10
MAX_CONNECTIONS = 1000


def make_server(predictor: SentimentPredictor, names: Iterable[str] | None) -> uvicorn.Server:
    """A server that finishes the requests in flight when it is to stop.

    Args:
        predictor: what answers.
        names: of the address of loopback that it listens on; `None`: it is another address.
    """
    config = uvicorn.Config(
        create_app(predictor, names),
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
    """HTTP that hangs up on a client that takes too long over the head of its request."""

    def connection_made(self, transport: Any) -> None:
        """Wait for a request."""
        self._patience: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on, and wait no longer than before for the rest of a request's head."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(error)
        self._wait()

    def _wait(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering or self.transport.is_closing():
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
        elif self._patience is None:
            self._patience = self.loop.call_later(self.timeout_keep_alive, self.transport.close)
