"""What reaches the explorer, and what leaves it: an allow-list of paths, a limit on sizes."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

BODY = 2**22
"""Bytes of a request at most: a picture file as base64, and its form."""
PATHS = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/(assets|static|svelte)/.*"
    r"|/gradio_api/(info/?|startup-events|app_id/?|theme\.css|heartbeat/\w+|cancel|reset/?"
    r"|queue/(join|data)|call/\w+(/\w+)?)"
)
"""What is answered. No path of gradio's that reads or writes files is among it."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
"""Of every answer: a browser loads nothing from elsewhere."""
_OUTSIDE = re.compile(rb'<(?:meta|link|script)\b[^>]*"https?://[^>]*>(?:\s*</script>)?')


class Guard:
    """ASGI middleware that refuses other paths than `PATHS` (404) and bodies over `BODY` (413).

    The page loses the tags that name other hosts, and every answer gets `HEADERS`.
    """

    def __init__(self, app: App) -> None:
        """Stands before `app`."""
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers, or passes on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http" or not PATHS.fullmatch(scope["path"]):
            await _refuse(send, 404, "Not found")
            return
        lengths = [v for k, v in scope["headers"] if k == b"content-length"]
        if any(not v.isdigit() or int(v) > BODY for v in lengths):
            await _refuse(send, 413, f"Larger than {BODY / 2**20:g} MiB")
            return
        sender = _Cleaner(send) if scope["path"] == "/" else _Headed(send)
        await self.app(scope, _Counted(receive), sender)


class _Counted:
    """Ends a request whose body grows beyond the limit, as without a length it may."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.size = receive, 0

    async def __call__(self) -> Message:
        message = await self.receive()
        self.size += len(message.get("body", b""))
        return message if self.size <= BODY else {"type": "http.disconnect"}


class _Headed:
    """Adds the headers."""

    def __init__(self, send: Send) -> None:
        self.send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(k, v) for k, v in message["headers"] if k.lower() not in HEADERS]
            message = {**message, "headers": [*own, *HEADERS.items()]}
        await self.send(message)


class _Cleaner(_Headed):
    """Gathers the page, and takes from it what names other hosts."""

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        self.start: Message = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = _OUTSIDE.sub(b"", self.body)
        headers = [(k, v) for k, v in self.start["headers"] if k.lower() != b"content-length"]
        length = (b"content-length", str(len(body)).encode())
        await super().__call__({**self.start, "headers": [*headers, length]})
        await super().__call__({"type": "http.response.body", "body": body})


async def _refuse(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode()})
