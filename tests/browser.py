"""A headless Chromium, controlled over its debugging protocol: open a page, query it, take a screenshot."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from itertools import count
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """The browser named by ``PREFIX_OPD_CHROMIUM``, or one on the PATH."""
    named = os.environ.get("PREFIX_OPD_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """Context manager for a browser with one page."""

    def __init__(self, program: str, profile: Path):
        self.command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.port_file = profile / "DevToolsActivePort"
        self.numbers = count(1)
        self.errors: list[str] = []

    def __enter__(self) -> Browser:
        from urllib.request import urlopen

        from websockets.sync.client import connect

        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.time() + 60
        while not self.port_file.exists() or not self.port_file.read_text().strip():
            assert self.process.poll() is None and time.time() < deadline, "the browser did not start"
            time.sleep(0.05)
        port = self.port_file.read_text().splitlines()[0]
        pages = json.load(urlopen(f"http://127.0.0.1:{port}/json"))
        page = next(page for page in pages if page["type"] == "page")
        self.connection = connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None)
        self.socket = self.connection.__enter__()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *error) -> None:
        self.connection.__exit__(*error)
        self.process.terminate()
        self.process.wait(timeout=20)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            self._keep_error(answer)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _keep_error(self, event: dict[str, Any]) -> None:
        kind, found = event.get("method"), event.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.errors.append(str(found["exceptionDetails"]))
        if kind == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning"):
            self.errors.append(str(found["args"]))
        if kind == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.errors.append(str(found["entry"]))
        if kind == "Network.requestWillBeSent" and not found["request"]["url"].startswith(("file:", "data:", "blob:")):
            self.errors.append(f"request to {found['request']['url']}")

    def open(self, page: Path, width: int, theme: str) -> None:
        """Load a file and wait for its scripts."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.call("Page.navigate", url=page.absolute().as_uri())
        self.wait_for("document.readyState === 'complete' && !!document.querySelector('.plot .main-svg')")

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.time() + 60
        while not self.ask(expression):
            assert time.time() < deadline, f"{expression} does not hold: {self.errors}"
            time.sleep(0.1)

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of the first element that matches a CSS selector."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.ask(f"{found}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.ask(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({found}.getBoundingClientRect())")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def photograph(self, path: Path) -> None:
        """Save the whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
