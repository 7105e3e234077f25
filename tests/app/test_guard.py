"""What the guard lets through, without a server behind it."""

import asyncio

import pytest

from notbugs.app.guard import BODY, HEADERS, Guard

PAGE = (
    b'<head><meta property="og:image" content="https://a.example/x.jpg" /><meta name="viewport" '
    b'content="width=device-width"><link rel="x" href="https://b.example/"><script '
    b'src="https://c.example/y.js"></script><script>one()</script></head>'
)


def asked(path, *, headers=(), body=(b"",), kind="http"):
    """(the messages of an answer, the bytes that reached the application)."""
    sent, seen = [], []
    parts = [{"type": "http.request", "body": b, "more_body": True} for b in body]

    async def app(scope, receive, send) -> None:
        for _ in parts:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            seen.append(message["body"])
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", b"%d" % len(PAGE))]})
        await send({"type": "http.response.body", "body": PAGE[:50], "more_body": True})
        await send({"type": "http.response.body", "body": PAGE[50:]})

    async def receive():
        return parts[len(seen)]

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": list(headers)}
    asyncio.run(Guard(app)(scope, receive, send))
    return sent, seen


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/upload",
        "/gradio_api/proxy=https://a.example",
        "/gradio_api/vibe-edit",
        "/gradio_api/stream/x",
        "/gradio_api/queue/../file=/etc/passwd",
        "/gradio_api/call/../../etc/passwd",
        "/monitoring",
        "/gradio_api/dev/reload",
        "/docs",
    ],
)
def test_other_paths_are_not_there(path) -> None:
    sent, seen = asked(path)
    assert sent[0]["status"] == 404
    assert seen == []


@pytest.mark.parametrize(
    "path", ["/", "/config", "/gradio_api/queue/join", "/gradio_api/call/attack/0a", "/assets/a.js"]
)
def test_the_explorer_s_own_are_answered_with_the_policy(path) -> None:
    sent, _ = asked(path)
    assert sent[0]["status"] == 200
    assert set(HEADERS.items()) <= set(sent[0]["headers"])


def test_the_page_names_no_other_host() -> None:
    sent, _ = asked("/")
    (body,) = (m["body"] for m in sent if "body" in m)
    assert b"https://" not in body
    assert b"width=device-width" in body
    assert b"<script>one()</script>" in body
    assert (b"content-length", b"%d" % len(body)) in sent[0]["headers"]


@pytest.mark.parametrize("length", [b"%d" % (BODY + 1), b"9" * 30, b"-1", b"x"])
def test_a_body_that_says_it_is_too_large_is_refused(length) -> None:
    sent, seen = asked("/gradio_api/queue/join", headers=[(b"content-length", length)])
    assert sent[0]["status"] == 413
    assert seen == []


def test_a_body_that_grows_too_large_ends() -> None:
    sent, seen = asked("/gradio_api/queue/join", body=[b"x" * (BODY // 2)] * 3)
    assert len(b"".join(seen)) <= BODY
    assert sent == []


def test_nothing_but_http_is_spoken() -> None:
    assert asked("/gradio_api/queue/join", kind="websocket")[0][0]["status"] == 404
