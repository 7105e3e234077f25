"""The explorer's server: on this machine alone unless told otherwise, and offline."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from notbugs.app.explorer import Explorer
from notbugs.app.guard import Guard
from notbugs.app.package import gradio
from notbugs.app.page import blocks, styled
from notbugs.core.errors import NotbugsError, bad_value, check_count

WAITING = 64
"""Requests that wait at most; further ones are told to come back."""


@dataclass(frozen=True)
class Served:
    """A running server: its address for a browser."""

    url: str

    def wait(self) -> None:
        """Blocks until the process is told to stop, by Ctrl-C or a signal."""
        while True:
            time.sleep(3600)


@contextmanager
def serve(
    explorer: Explorer, *, host: str = "127.0.0.1", port: int = 7860, copies: int = 2
) -> Generator[Served, None, None]:
    """Serves the explorer while the block runs.

    No file can be read or left through it: paths outside `guard.PATHS` are refused, uploaded
    pictures are decoded in memory, and gradio is given no file to serve.

    - `port`: 0 lets the system choose one from 7860 on
    - `copies`: requests that compute at once, of which the explorer's pool has so many models

    **Raises** NotbugsError where gradio is missing or the address cannot be used, ValueError for a
    port outside 0..65535.
    """
    check_count(copies, "copies")
    check_port(port)
    gr = gradio()
    from starlette.middleware import Middleware

    page = blocks(explorer, copies)
    try:
        _, url, _ = page.queue(default_concurrency_limit=copies, max_size=WAITING).launch(
            server_name=host,
            server_port=port or None,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            show_error=False,
            footer_links=[],
            allowed_paths=[],
            blocked_paths=[str(Path("/").absolute())],
            max_file_size=1,
            app_kwargs={"middleware": [Middleware(Guard)], "docs_url": None},
            **styled(gr),
        )
    except OSError as error:
        raise NotbugsError(
            f"Cannot serve on {host}:{port} ({error}). Choose another --port or --host."
        ) from error
    try:
        yield Served(url)
    finally:
        page.close(verbose=False)


def check_port(port: int) -> None:
    """**Raises** ValueError for a port outside 0..65535."""
    if not 0 <= port <= 65535:
        raise bad_value("port", "lie in 0..65535", port, "Use --port 7860.")
