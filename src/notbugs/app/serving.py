"""The explorer's server: on this machine alone unless told otherwise, and offline."""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notbugs.app.explorer import Explorer
from notbugs.app.guard import Guard
from notbugs.app.package import gradio
from notbugs.app.page import blocks, styled
from notbugs.core.errors import NotbugsError, bad_value, check_count

WAITING = 64
"""Requests that wait at most; further ones are told to come back."""


@dataclass(frozen=True)
class Served:
    """A running server: its address for a browser, and gradio's page behind it."""

    url: str
    blocks: Any

    def wait(self) -> None:
        """Blocks until the process is told to stop."""
        self.blocks.block_thread()


@contextmanager
def serve(
    explorer: Explorer, *, host: str = "127.0.0.1", port: int = 7860, copies: int = 2
) -> Generator[Served, None, None]:
    """Serves the explorer while the block runs.

    No file can be read or left through it: paths outside `guard.PATHS` are refused, uploaded
    pictures are decoded in memory, and gradio's own folder for files is empty and removed at the
    end.

    - `port`: 0 lets the system choose one from 7860 on
    - `copies`: requests that compute at once, of which the explorer's pool has so many models

    **Raises** NotbugsError where gradio is missing or the address cannot be used, ValueError for a
    port outside 0..65535.
    """
    check_count(copies, "copies")
    if not 0 <= port <= 65535:
        raise bad_value("port", "lie in 0..65535", port, "Use --port 7860.")
    gr = gradio()
    from starlette.middleware import Middleware

    with tempfile.TemporaryDirectory(prefix="notbugs-explorer-") as folder:
        page = blocks(explorer, copies)
        page.GRADIO_CACHE = folder
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
            yield Served(url, page)
        finally:
            page.close(verbose=False)
