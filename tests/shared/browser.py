"""A real browser for tests: Chromium without a window, spoken to in its own protocol over two pipes.

Nothing is needed but the browser itself (``make browser``): no driver, no port, no package.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # there is none for root, as in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def found() -> str | None:
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in one browser: `open` loads an address, `run` evaluates JavaScript, `problems` tells what went wrong."""

    def __init__(self, patience: float = 60) -> None:
        executable = found()
        if executable is None:
            raise FileNotFoundError("no Chromium: make browser")
        self.patience, self.events, self.number, self.rest = patience, [], 0, b""
        self.events: list[dict[str, Any]]
        self.profile = tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True)
        theirs_in, self.to_browser = map(_high, os.pipe())
        self.from_browser, theirs_out = map(_high, os.pipe())
        self.process = subprocess.Popen(
            [executable, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=lambda: (os.dup2(theirs_in, 3), os.dup2(theirs_out, 4)),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session: str | None = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.to_browser)
        os.close(self.from_browser)
        self.profile.cleanup()

    def _receive(self, until: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        deadline = time.monotonic() + self.patience
        while True:
            while b"\0" in self.rest:
                text, self.rest = self.rest.split(b"\0", 1)
                message = json.loads(text)
                if "method" in message:
                    self.events.append(message)
                if until(message):
                    return message
            if not select.select([self.from_browser], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"the browser did not answer within {self.patience} s: {what}")
            data = os.read(self.from_browser, 1 << 20)
            if not data:
                raise RuntimeError(f"the browser has stopped: {what}")
            self.rest += data

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its result."""
        self.number += 1
        number, message = self.number, {"id": self.number, "method": method, "params": parameters}
        if getattr(self, "session", None):
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        answer = self._receive(lambda m: m.get("id") == number, method)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def resize(self, width: int, height: int = 900, dark: bool = False) -> None:
        """The size of the window in CSS pixels, also narrower than a real one, and the reader's colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Load a page and wait until everything on it has arrived."""
        self.events.clear()
        answer = self.call("Page.navigate", url=address)
        if answer.get("errorText"):
            raise RuntimeError(f"{address}: {answer['errorText']}")
        if answer.get("loaderId"):  # none within a page
            loaded = [event["method"] for event in self.events]
            if "Page.loadEventFired" not in loaded:
                self._receive(lambda m: m.get("method") == "Page.loadEventFired", address)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression[:200]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, e.g. ``Tab``."""
        for kind in ("keyDown", "keyUp"):
            codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowRight": 39, " ": 32}
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes[key], **text)

    def requested(self) -> list[str]:
        """Every address that the page asked for since `open`."""
        return [
            e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"
        ]

    def problems(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and requests that failed, since `open`."""
        texts = []
        for event in self.events:
            method, data = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                texts.append(str(data["exceptionDetails"].get("exception", data["exceptionDetails"])))
            elif method == "Runtime.consoleAPICalled" and data["type"] in ("error", "warning", "assert"):
                texts.append(f"console: {data['args']}")
            elif method == "Log.entryAdded" and data["entry"]["level"] in ("error", "warning"):
                texts.append(f"{data['entry']['text']} {data['entry'].get('url', '')}")
            elif method == "Network.loadingFailed" and not data.get("canceled"):
                texts.append(f"a request failed: {data['errorText']}")
            elif method == "Network.responseReceived" and data["response"]["status"] >= 400:
                texts.append(f"{data['response']['status']} {data['response']['url']}")
        return texts

    def picture(self, file: Path, whole: bool = False) -> Path:
        """A screenshot as PNG, of the window or of the whole page."""
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
            shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        else:
            shot = self.call("Page.captureScreenshot")
        file.write_bytes(base64.b64decode(shot["data"]))
        return file


def _high(descriptor: int) -> int:
    """The same pipe under a number above those that the browser expects its own at."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
