"""What a request may be: for which name, of which kind, how large and how slow."""

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
        names: that this address of loopback is known by, beside the usual ones; `None`: it is no
            address of loopback, and any name will do.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] | None) -> None:
        self.app = app
        self.names = None if names is None else LOOPBACK_NAMES | {name.lower() for name in names}

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
            expected = " or ".join(sorted(self.names))
            app = failure(400, f"unknown host, expected {expected}", connection="close")
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
