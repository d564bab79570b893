"""What a client may do: which name it calls the server by, what it sends, and how long it takes."""

import asyncio
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_BYTES = 1 << 20
BODY_SECONDS = 10.0
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def failure(status: int, message: str, **headers: str) -> JSONResponse:
    """The answer to a request that cannot be met."""
    return JSONResponse({"error": message}, status, headers)


class Guard:
    """Refuses what no honest client sends, before it costs anything.

    A page of another site can make a browser send requests here, and read the answers if it gives
    this address a name of its own (DNS rebinding); but then `Host` says that name. Only JSON is
    taken, which such a page cannot send unasked either.

    Args:
        app: what is guarded.
        names: that `Host` may say; `None`: any.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] | None) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        app = self.app
        if self.names is not None and _host(headers) not in self.names:
            app = failure(400, f"unknown host, expected {' or '.join(sorted(self.names))}")
        elif scope["method"] == "POST" and not _is_json(headers):
            app = failure(415, "the content type is not that of JSON", connection="close")
        await app(scope, _bounded(receive), send_with_headers)


def _host(headers: Headers) -> str | None:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return None


def _is_json(headers: Headers) -> bool:
    kind, _, _ = headers.get("content-type", "").partition(";")
    return kind.strip().lower() == "application/json"


def _bounded(receive: Receive) -> Receive:
    """The same messages, until they are too many or too late."""
    size, deadline = 0, asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive_bounded() -> Message:
        nonlocal size
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError as error:
            text = f"the body did not come within {BODY_SECONDS:.0f} seconds"
            raise HTTPException(408, text, {"connection": "close"}) from error
        size += len(message.get("body", b""))
        if size > MAX_BYTES:
            text = f"the body is longer than {MAX_BYTES} bytes"
            raise HTTPException(413, text, {"connection": "close"})
        return message

    return receive_bounded


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
