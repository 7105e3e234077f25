"""A headless Chromium that tests drive over a pipe: keys, clicks, errors, addresses."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

BROWSER = next(
    (b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None
)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="needs Chromium or Chrome, which is not installed"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SECONDS = 60.0


class Page:
    """One page of a browser; `console` holds errors, `loaded` the addresses asked for."""

    def __init__(self, folder: Path, *, width: int = 1280, height: int = 900) -> None:
        (out, commands), (answers, into) = os.pipe(), os.pipe()

        def as_three_and_four() -> None:
            os.dup2(os.dup(out), 3), os.dup2(os.dup(into), 4)

        self.process = subprocess.Popen(
            [str(BROWSER), *FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"],
            preexec_fn=as_three_and_four,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(out), os.close(into)
        self.commands, self.answers, self.rest = commands, answers, b""
        self.count, self.console, self.loaded = 0, [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    session = None

    def call(self, method, **params):
        """The result of a command of the DevTools protocol."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            told = self.read()
            if told.get("id") == self.count:
                assert "error" not in told, told["error"]
                return told["result"]

    def read(self):
        while b"\0" not in self.rest:
            part = os.read(self.answers, 2**16)
            assert part, "the browser ended"
            self.rest += part
        told, _, self.rest = self.rest.partition(b"\0")
        told = json.loads(told)
        params = told.get("params", {})
        if told.get("method") == "Network.requestWillBeSent":
            self.loaded.append(params["request"]["url"])
        if told.get("method") == "Runtime.exceptionThrown":
            self.console.append(json.dumps(params["exceptionDetails"])[:400])
        if told.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.console.append(params["entry"]["text"])
        return told

    def fresh(self, width=1280, height=900, *, dark=False) -> None:
        """An empty page of that size, of which nothing is noted yet."""
        self.resize(width, height)
        self.dark(dark)
        self.open("about:blank", "location.href === 'about:blank'")
        self.console, self.loaded = [], []

    def resize(self, width, height) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def dark(self, on=True) -> None:
        value = "dark" if on else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, url, ready) -> None:
        """Opens an address and waits for a JavaScript condition."""
        self.call("Page.navigate", url=url)
        self.wait(ready)

    def run(self, code):
        """The value of a JavaScript expression."""
        found = self.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition) -> None:
        """Waits until a JavaScript condition holds."""
        end = time.monotonic() + SECONDS
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never came: {condition}; {self.console}"
            time.sleep(0.1)

    def click(self, element) -> None:
        """Clicks the middle of what a JavaScript expression gives."""
        self.run(f"({element}).scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(() => {{const b = ({element}).getBoundingClientRect();"
            " return [b.left + b.width / 2, b.top + b.height / 2];})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left",
                clickCount=1,
            )  # fmt: skip

    def click_until(self, element, condition) -> None:
        """Clicks again until a condition holds: a page may not listen yet when it is shown."""
        end = time.monotonic() + SECONDS
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never came: {condition}; {self.console}"
            self.click(element)
            time.sleep(0.2)

    def key(self, name, code=0, text="") -> None:
        """Presses a key."""
        both = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", **both, **({"text": text} if text else {})
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", **both)

    def screenshot(self, path, *, whole=True) -> None:
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        os.close(self.commands), os.close(self.answers)
