"""The page in a real browser: offline, quiet, and no wider than the screen."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from report.test_page import FIGURES

BROWSER = next(
    (b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
    "--dump-dom",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
PROBE = """<script>addEventListener("load", () => {
  const loaded = performance.getEntriesByType("resource").map((e) => e.name);
  const page = document.documentElement;
  parent.postMessage({
    wide: page.scrollWidth, screen: innerWidth, tall: page.scrollHeight,
    loaded: loaded.filter((name) => !name.startsWith("data:")),
    drawn: [...document.images].filter((i) => i.complete && i.naturalWidth > 0).length,
  }, "*");
});</script></body>"""
FRAME = """<!doctype html><link rel="icon" href="data:,"><body><iframe width="WIDTH" height="844"
src="page.html"></iframe><pre id="told"></pre><script>addEventListener("message", (e) => {
  document.getElementById("told").textContent = JSON.stringify(e.data);
});</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome, which is not installed")
@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "laptop"])
def test_a_screen_shows_the_page_offline_without_errors_or_overflow(
    width: int, page, tmp_path: Path
) -> None:
    text = page.read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("</body>", PROBE), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)))
    command = [BROWSER, *FLAGS]
    command += [f"--user-data-dir={tmp_path / 'profile'}", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'<pre id="told">(.+?)</pre>', done.stdout)
    assert found, "the page did not finish loading"
    told = json.loads(found[1])
    assert told["screen"] == width
    assert told["wide"] <= width
    assert told["tall"] > 2000
    assert told["drawn"] == len(FIGURES)
    assert told["loaded"] == []
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
