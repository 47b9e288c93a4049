"""Headless Chromium worked from outside, by real keys and a real pointer, and nothing to install.

The DevTools protocol over a pipe: JSON with a zero byte at its end, on the descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 30.0  # s for one answer, on a busy machine
# name → (key, code, virtual key)
KEYS = {
    "Tab": ("Tab", "Tab", 9), "Enter": ("Enter", "Enter", 13), " ": (" ", "Space", 32),
    "Escape": ("Escape", "Escape", 27), "ArrowLeft": ("ArrowLeft", "ArrowLeft", 37),
    "ArrowUp": ("ArrowUp", "ArrowUp", 38), "ArrowRight": ("ArrowRight", "ArrowRight", 39),
    "ArrowDown": ("ArrowDown", "ArrowDown", 40), "Home": ("Home", "Home", 36),
    "End": ("End", "End", 35),
}  # fmt: skip


class Browser:
    """One page in a browser: `with Browser(folder, page) as b: b.press("Tab")`."""

    def __init__(self, folder: Path, page: Path, *flags: str, size: tuple[int, int] = (1200, 900)):
        assert CHROMIUM is not None
        self.page, self.number = page, 0
        self._buffer = b""
        take, self._out = os.pipe()
        self._in, give = os.pipe()
        # The browser reads from 3 and writes to 4; not every sh moves descriptors beyond 9.
        command = ["bash", "-c", f'exec "$0" "$@" 3<&{take} 4>&{give}', CHROMIUM]
        command += ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        command += [f"--user-data-dir={folder / 'chromium'}", f"--window-size={size[0]},{size[1]}"]
        self.process = subprocess.Popen(
            [*command, "--hide-scrollbars", *flags, "about:blank"], pass_fds=[take, give],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(take)
        os.close(give)
        self.session = ""

    def __enter__(self) -> Browser:
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._in)
        os.close(self._out)

    def open(self) -> None:
        """Load the page, and wait until it is loaded."""
        self.send("Page.navigate", url=self.page.absolute().as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self._buffer:
                ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
                assert ready, f"the browser does not answer {method}"
                part = os.read(self._in, 2**20)
                assert part, "the browser has ended"
                self._buffer += part
            text, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression is in the page."""
        out = self.send("Runtime.evaluate", expression=expression, returnByValue=True,
                        awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in out, out
        return out["result"].get("value")

    def wait(self, expression: str, seconds: float = PATIENCE) -> None:
        """Wait until an expression holds."""
        deadline = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)

    def press(self, name: str, shift: bool = False) -> None:
        """Press and let go of a key, as a keyboard does."""
        key, code, number = KEYS.get(name) or (name, f"Key{name.upper()}", ord(name.upper()))
        text = "\r" if name == "Enter" else name if len(name) == 1 else ""
        about = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        about["modifiers"] = 8 if shift else 0
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.send("Input.dispatchKeyEvent", **down, **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the pointer at one place of the window, move it to another and let go."""
        steps = 4
        about = {"button": "left", "buttons": 1, "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **about)
        for k in range(1, steps + 1):
            x, y = (a + (b - a) * k / steps for a, b in zip(start, end, strict=True))
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **about)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1],
                  button="left", clickCount=1)  # fmt: skip

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Return left, top, width and height of an element, scrolled into the window."""
        found = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        return tuple(found)

    def spoken(self) -> list[tuple[str, str]]:
        """Return (role, name) of all that a screen reader meets."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        return [
            (n["role"]["value"], n.get("name", {}).get("value", ""))
            for n in nodes
            if not n.get("ignored") and "role" in n
        ]

    def picture(self, path: Path, whole: bool = False) -> Path:
        """Write what the window shows as PNG."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
        return path
