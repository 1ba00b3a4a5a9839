"""What a caller may take: sizes and times."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """`deadline_s` is for a call's work and, apart from that, for the arrival of its body.

    A stream that has nothing to say sends an empty line each `heartbeat_s`; a reader that
    takes nothing for `stalled_s` is cut off. Stopping waits `grace_s` for calls under way.
    Each user but root may have as many `connections` open at once.
    """

    body_bytes: int = 1024 * 1024
    deadline_s: float = 20.0
    heartbeat_s: float = 15.0
    stalled_s: float = 30.0
    grace_s: float = 3.0
    connections: int = 1024
