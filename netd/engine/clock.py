"""The real clock and randomness."""

import secrets
import time


class SystemClock:
    """Implements `netd.engine.interfaces.Clock`."""

    def wall_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def new_id(self) -> str:
        return secrets.token_hex(8)
