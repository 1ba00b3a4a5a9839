"""Reads of keys and sessions as Consul's clients ask for them: at once, or when they change."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from netd.registry.api import Refused, Unreachable
from netd.registry.consul.key_watch import Reading, Target
from netd.registry.consul.key_watches import KeyWatches, TooMany
from netd.registry.consul.options import Options, options_of
from netd.registry.consul.reads import headers_of
from netd.registry.http.call import Call, Failure

_SPREAD: Final = 16  # a wait may be longer by a part of this, so that not all end at once


class Answered(NamedTuple):
    """What was read, and the headers that say how."""

    reading: Reading
    options: Options
    headers: dict[str, str]


class KeyReads:
    """Reads by `watches`; `datacenter` is the name of the only one."""

    def __init__(self, watches: KeyWatches, datacenter: str) -> None:
        self.watches = watches
        self.datacenter = datacenter

    async def answer(self, call: Call, target: Target) -> Answered:
        """Raises `Failure`."""
        options = options_of(call.target, self.datacenter)
        with failures():
            if options.after:
                # The random part needs not be one that nobody could guess.
                wait_s = options.wait_s * (1 + random.random() / _SPREAD)  # noqa: S311
                reading = await self.watches.wait(target, options.after, wait_s)
                call.renew()
            else:
                reading = await self.watches.read(target)
        return Answered(reading, options, headers_of(options, reading.index))


@contextmanager
def failures() -> Iterator[None]:
    """What the daemon refuses, as Consul's clients know it: most of them ask again after a 500."""
    try:
        yield
    except Unreachable as error:
        raise Failure(500, f"No cluster leader: {error}") from None
    except Refused as refused:
        if refused.status == 400:
            raise Failure(400, refused.detail) from None
        if refused.status == 503:
            raise Failure(500, f"No cluster leader: {refused.detail}") from None
        raise Failure(500, refused.detail) from None
    except TooMany as error:
        raise Failure(429, str(error)) from None
