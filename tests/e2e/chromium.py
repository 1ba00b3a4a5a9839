"""A headless Chromium in a namespace, steered by the DevTools protocol over a pair of pipes.

Pipes and not the protocol's websocket: they need no way into the namespace.
"""

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.e2e.lab import Namespace
from tests.lab.process import die_with_parent

DEADLINE_S: Final = 40.0
_FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
# Each violation of a policy is an event of the document, whether the console tells of it or not.
_WATCH_POLICY: Final = """
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""

Message = dict[str, Any]


class Chromium:
    """A browser; it ends with `stack`."""

    def __init__(self, stack: ExitStack, space: Namespace) -> None:
        profile = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True)
        )
        reading, their_writing = os.pipe()
        their_reading, writing = os.pipe()
        # The protocol's pipes are descriptors 3 and 4.
        script = f'exec "$@" 3<&{their_reading} 4>&{their_writing}'
        command = ["chromium", *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            space.wrap("bash", "-c", script, "bash", *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(their_reading, their_writing),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        os.close(their_reading)
        os.close(their_writing)
        self._reading, self._writing = reading, writing
        self._raw = bytearray()
        self._number = 0
        self.messages: deque[Message] = deque()  # that are no answers, in their order
        stack.callback(self._end)

    def tab(self) -> "Tab":
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        return Tab(self, found["sessionId"])

    def call(self, method: str, session: str = "", **parameters: Any) -> Message:
        """Have it do something; its answer."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            found = self._next(deadline_s, method)
            if found.get("id") == number:
                assert "error" not in found, f"{method}: {found['error']}"
                result: Message = found["result"]
                return result
            self.messages.append(found)

    def event(self, method: str, session: str) -> Message:
        """The first event of this kind that nobody has taken yet."""
        deadline_s = time.monotonic() + DEADLINE_S
        kept: list[Message] = []
        while True:
            found = self.messages.popleft() if self.messages else self._next(deadline_s, method)
            if found.get("method") == method and found.get("sessionId") == session:
                self.messages.extendleft(reversed(kept))
                parameters: Message = found["params"]
                return parameters
            kept.append(found)

    def _next(self, deadline_s: float, what: str) -> Message:
        while b"\0" not in self._raw:
            left_s = deadline_s - time.monotonic()
            ready, _, _ = select.select([self._reading], [], [], max(0.0, left_s))
            assert ready, f"Chromium has not answered: {what}"
            data = os.read(self._reading, 1 << 20)
            assert data, f"Chromium has ended before {what}"
            self._raw += data
        raw, _, rest = bytes(self._raw).partition(b"\0")
        self._raw[:] = rest
        found: Message = json.loads(raw)
        return found

    def _end(self) -> None:
        # The browser ends when its pipe does; its helpers end with it.
        os.close(self._writing)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._reading)


class Tab:
    """One page of it. What it finds wrong, it keeps."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH_POLICY)

    def call(self, method: str, **parameters: Any) -> Message:
        return self._browser.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Go there, and return when all of it has been loaded."""
        self._browser.messages = deque(
            each for each in self._browser.messages if each.get("method") != "Page.loadEventFired"
        )
        found = self.call("Page.navigate", url=url)
        assert "errorText" not in found, f"{url}: {found['errorText']}"
        self.await_load()

    def await_load(self) -> None:
        self._browser.event("Page.loadEventFired", self._session)

    def tell(self, expression: str) -> Any:
        """The value of an expression of JavaScript; of what it promises, when it is kept."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, **features: str) -> None:
        """Media features, e.g. `color_scheme`."""
        asked = [
            {"name": f"prefers-{name.replace('_', '-')}", "value": value}
            for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=asked)

    def forbid_scripts(self) -> None:
        self.call("Emulation.setScriptExecutionDisabled", value=True)

    def picture(self, file: Path, *, whole: bool = True) -> Path:
        """A screenshot, of all of the page or of what is in sight."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))
        return file

    def complaints(self) -> list[str]:
        """What the console has to say of errors and of policies that were violated."""
        found = [f"policy: {each}" for each in self.tell("window.violations ?? []")]
        for message in self._browser.messages:
            if message.get("sessionId") != self._session:
                continue
            method, parameters = message["method"], message["params"]
            if method == "Log.entryAdded" and parameters["entry"]["level"] != "verbose":
                found.append(f"log: {parameters['entry']['text']}")
            elif method == "Runtime.exceptionThrown":
                found.append(f"exception: {parameters['exceptionDetails']}")
            elif method == "Runtime.consoleAPICalled":
                found.append(f"console: {parameters['args']}")
        return found
